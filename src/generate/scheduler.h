// Scheduler: which sequences run in the next step. Host only, one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "model/batch.h"

namespace lockstep {

// Slots and KV blocks are dealt out at admission for a sequence's whole possible length, so that a
// running sequence never has to stop for want of memory. Steps are either chunks of prompts or one
// token of every sequence that generates; while there are both, they take turns.
class Scheduler {
 public:
  Scheduler(const BatchLimits& limits, std::int64_t num_blocks);

  // Gives a sequence a slot, if there is room for it now; `max_length` tokens, prompt and output.
  // Its prompt is uploaded by the next step.
  std::optional<std::int32_t> admit(std::vector<std::int32_t> prompt, std::int64_t max_length,
                                    const SlotSampling& sampling,
                                    std::vector<std::pair<std::int32_t, float>> logit_bias);
  // Takes slot and blocks back.
  void release(std::int32_t slot);

  bool idle() const;  // no sequence has a slot
  // The next step, as if the ones before it were done: their rows' keys and values cached, and one
  // more token for each logit row. No rows when every sequence is complete.
  StepInput next_step();

 private:
  struct Sequence {
    bool active = false;
    std::int64_t length = 0;  // tokens, after the steps so far
    std::int64_t max_length = 0;
    std::int64_t cached = 0;  // positions whose keys and values are in the cache
    SlotSampling sampling;
    bool biased = false;
    std::vector<std::int32_t> blocks;
    std::uint64_t order = 0;  // of admission
  };

  void add_rows(StepInput& step, std::int32_t slot, std::int64_t count);
  void account_for(const StepInput& step);

  BatchLimits limits_;
  std::vector<Sequence> sequences_;  // by slot
  std::vector<std::int32_t> free_blocks_;
  std::vector<Admission> admissions_;  // for the next step
  bool last_was_prefill_ = false;
  std::uint64_t admitted_ = 0;
};

}  // namespace lockstep
