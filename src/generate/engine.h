// Engine: the SPMD program of generation. One step of the model and the sampler on every rank.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "generate/model_impl.h"
#include "lockstep/spmd.h"
#include "model/batch.h"

namespace lockstep {

// What a step gives back, from rank 0.
struct StepOutput {
  std::vector<std::int32_t> ids;  // of each logit row: the chosen token
  std::vector<float> logits;  // [logit rows, vocab_size] before penalties; empty unless asked for
};

class Engine {
 public:
  // Sets memory aside on every rank; keeps the model alive. num_blocks: of the KV cache.
  Engine(std::shared_ptr<Model::Impl> model, const BatchLimits& limits, std::int64_t num_blocks);

  // Runs one step on all ranks. Throws Error naming the rank that failed.
  const StepOutput& step(const StepInput& input, bool with_logits);

 private:
  std::shared_ptr<Model::Impl> model_;
  const StepInput* input_ = nullptr;  // of the current step
  bool with_logits_ = false;
  StepOutput output_;
  Executable executable_;
};

}  // namespace lockstep
