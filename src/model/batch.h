// Batch: everything that changes from step to step, in the device's memory.
//
// A sequence that is being generated occupies a *slot* from its admission to its end. Its tokens,
// block table and sampling parameters are uploaded once, at admission; a step then consists of
// nothing but (slot, position) pairs, and the sampler appends each new token to its slot's tokens
// on the device.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "core/buffer.h"
#include "lockstep/spmd.h"
#include "ops/ops.h"

namespace lockstep {

// The sizes that memory is set aside for.
struct BatchLimits {
  std::int64_t max_batch_size = 1;  // slots
  std::int64_t max_length = 0;      // tokens of one sequence, prompt and output
  std::int64_t max_rows = 0;        // tokens of one step
  std::int64_t max_logit_rows = 0;  // tokens of one step whose logits are wanted
};

// A sequence that enters a slot.
struct Admission {
  std::int32_t slot = 0;
  std::vector<std::int32_t> tokens;  // the prompt
  std::vector<std::int32_t> blocks;  // of the KV cache, for its whole length
  SlotSampling sampling;
  std::vector<std::pair<std::int32_t, float>> logit_bias;  // at most kMaxLogitBias
};

// One step, as the scheduler decides it on the host; the same on every rank.
struct StepInput {
  std::vector<Admission> admissions;  // done before the step
  // The step's tokens: positions [position, ...) of slots. Rows of one slot are consecutive and
  // ascending.
  std::vector<std::int32_t> slots;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> logit_rows;  // indices of rows whose logits are wanted, ascending
  // What the sampler has to do for the logit rows.
  bool any_penalty = false;  // penalties or logit bias
  bool any_filter = false;   // top_k, top_p, min_p
};

class Batch {
 public:
  Batch(Rank& rank, const BatchLimits& limits);

  // Makes `input` the current step. Throws Error when it does not fit the limits.
  void upload(const StepInput& input);

  const BatchLimits& limits() const { return limits_; }
  // Views of the current step.
  BatchView view() const;
  SamplingView sampling() const;
  Tensor tokens() const { return tokens_.tensor; }  // [max_batch_size, max_length] int32
  Tensor logit_rows() const;                        // [logit rows] int32

 private:
  void admit(const Admission& admission);
  Tensor part(std::int64_t begin, std::int64_t count) const;
  void upload_row(const OwnedTensor& destination, std::int64_t row, const void* data,
                  std::int64_t count);

  Rank& rank_;
  BatchLimits limits_;
  // By slot.
  OwnedTensor tokens_;        // [max_batch_size, max_length] int32
  OwnedTensor block_tables_;  // [max_batch_size, max_blocks] int32
  OwnedTensor sampling_;      // [max_batch_size, sizeof(SlotSampling)] uint8
  OwnedTensor bias_ids_;      // [max_batch_size, kMaxLogitBias] int32
  OwnedTensor bias_values_;   // [max_batch_size, kMaxLogitBias] float32
  // The step, so that it takes one copy: slots [rows], positions [rows], logit rows [logit rows],
  // their slots [logit rows], their positions [logit rows]; int32.
  OwnedTensor step_;
  std::int64_t rows_ = 0;
  std::int64_t num_logit_rows_ = 0;
  bool one_row_a_sequence_ = false;
  std::int64_t longest_ = 0;
};

}  // namespace lockstep
