#include "generate/engine.h"

#include "generate/sampler.h"
#include "model/kv_cache.h"
#include "model/transformer.h"

namespace lockstep {
namespace {

// One rank's share of everything that a step needs.
struct RankState {
  RankState(Rank& rank, const Model::Impl& model, const BatchLimits& limits,
            std::int64_t num_blocks)
      : cache(rank, model.config, model.plan.ranks[static_cast<std::size_t>(rank.id())], num_blocks,
              model.dtype),
        batch(rank, limits),
        transformer(rank, model.config, model.plan,
                    model.weights[static_cast<std::size_t>(rank.id())], limits),
        sampler(rank, model.plan, limits) {}

  KvCache cache;
  Batch batch;
  Transformer transformer;
  Sampler sampler;
};

Tensor host_tensor(void* data, DType dtype, const Shape& shape) {
  return {data, dtype, shape, Device{}};
}

}  // namespace

Engine::Engine(std::shared_ptr<Model::Impl> model, const BatchLimits& limits,
               std::int64_t num_blocks)
    : model_(std::move(model)),
      executable_(model_->team, [this, limits, num_blocks](Rank& rank) -> Executable::Step {
        auto state = std::make_shared<RankState>(rank, *model_, limits, num_blocks);
        return [this, &rank, state](std::span<const Tensor>, std::span<const Tensor>) {
          state->batch.upload(*input_);
          const Tensor logits = state->transformer.forward(state->batch, state->cache);
          if (logits.num_rows() == 0) return;
          if (with_logits_) {
            const Tensor whole = state->sampler.gather(logits);
            if (rank.id() == 0)
              rank.ops().download(host_tensor(output_.logits.data(), whole.dtype, whole.shape),
                                  whole);
          }
          const Tensor ids = state->sampler.sample(logits, state->batch, *input_);
          if (rank.id() == 0)
            rank.ops().download(host_tensor(output_.ids.data(), ids.dtype, ids.shape), ids);
        };
      }) {}

const StepOutput& Engine::step(const StepInput& input, bool with_logits) {
  input_ = &input;
  with_logits_ = with_logits;
  const std::size_t rows = input.logit_rows.size();
  output_.ids.resize(rows);
  output_.logits.resize(with_logits ? rows * static_cast<std::size_t>(model_->config.vocab_size)
                                    : 0);
  executable_.run();
  return output_;
}

}  // namespace lockstep
