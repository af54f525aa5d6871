// Engine: the SPMD program of generation. One step of the model and the sampler on every rank.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generate/model_impl.h"
#include "lockstep/spmd.h"
#include "model/batch.h"

namespace lockstep {

// What a step gives back, in host memory.
struct StepOutput {
  std::span<const std::int32_t> ids;  // of each logit row: the chosen token
  // [logit rows, vocab_size] before penalties; empty unless asked for.
  std::span<const float> logits;
};

// One thread at a time.
class Engine {
 public:
  // Steps that may be started and not yet finished.
  static constexpr std::size_t kMaxSteps = 2;

  // Sets memory aside on every rank; keeps the model alive. num_blocks: of the KV cache.
  Engine(std::shared_ptr<Model::Impl> model, const BatchLimits& limits, std::int64_t num_blocks);
  Engine(const Engine&) = delete;  // the ranks refer to it
  Engine& operator=(const Engine&) = delete;

  // Starts a step on all ranks; on GPUs it is enqueued behind the one before, and the call returns.
  // Throws Error naming the rank that failed; the steps that were started are then lost.
  void start(const StepInput& input, bool with_logits);

  // Waits for the oldest step that was started and not yet finished. The result is valid until
  // kMaxSteps more have been started. Throws like start().
  StepOutput finish();

  std::size_t steps() const { return steps_; }  // started and not yet finished

 private:
  // What a rank brings to the host of each step. Only rank 0 brings something; of the others one
  // only knows that the step is done.
  struct Results {
    std::unique_ptr<Download> ids;  // done when the step is
    std::unique_ptr<Download> logits;
  };
  struct RankState;
  struct Started {
    std::size_t rows = 0;
    bool with_logits = false;
  };

  void run(RankState& state) const;
  void wait(std::size_t place);

  std::shared_ptr<Model::Impl> model_;
  std::vector<const Results*> results_;  // by rank: kMaxSteps each, which the rank owns
  Comm* comm_ = nullptr;                 // rank 0's
  const std::chrono::milliseconds timeout_;

  // Steps take turns with kMaxSteps places.
  std::array<Started, kMaxSteps> started_;
  std::size_t first_ = 0;  // place of the oldest
  std::size_t steps_ = 0;
  // Of the step that is being started.
  const StepInput* input_ = nullptr;
  std::size_t place_ = 0;
  Executable executable_;
};

}  // namespace lockstep
