#include "generate/engine.h"

#include "core/check.h"
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
        sampler(rank, model.plan, limits),
        recorder(rank.ops().make_recorder()) {}

  KvCache cache;
  Batch batch;
  Transformer transformer;
  Sampler sampler;
  std::unique_ptr<Recorder> recorder;
};

// Writes to host memory of as many elements as `source` has.
void download(Rank& rank, void* host, const Tensor& source) {
  rank.ops().download({host, source.dtype, source.shape, Device{}}, source);
}

// One rank's step; output is null on all ranks but one.
void run_step(Rank& rank, RankState& state, const StepInput& input, StepOutput* output,
              bool with_logits) {
  state.batch.upload(input);
  const auto rows = static_cast<std::int64_t>(input.logit_rows.size());
  if (with_logits && rows > 0) {
    const Tensor logits = state.transformer.forward(state.batch, state.cache);
    const Tensor whole = state.sampler.gather(logits);
    if (output) download(rank, output->logits.data(), whole);
    state.sampler.sample(logits, state.batch, input);
  } else {
    const auto work = [&] {
      const Tensor logits = state.transformer.forward(state.batch, state.cache);
      if (rows > 0) state.sampler.sample(logits, state.batch, input);
    };
    // Steps of one token a sequence come back again and again.
    const bool decode = input.slots.size() == input.logit_rows.size();
    const std::uint64_t key = static_cast<std::uint64_t>(rows) << 2 |
                              static_cast<std::uint64_t>(input.any_penalty) << 1 |
                              static_cast<std::uint64_t>(input.any_filter);
    if (decode)
      state.recorder->run(key, work);
    else
      work();
  }
  if (!output || rows == 0) return;
  download(rank, output->ids.data(), state.sampler.ids(rows));
  for (std::int32_t id : output->ids) check(id >= 0, "the logits of a sequence are not numbers");
}

}  // namespace

Engine::Engine(std::shared_ptr<Model::Impl> model, const BatchLimits& limits,
               std::int64_t num_blocks)
    : model_(std::move(model)),
      executable_(model_->team, [this, limits, num_blocks](Rank& rank) -> Executable::Step {
        auto state = std::make_shared<RankState>(rank, *model_, limits, num_blocks);
        return [this, &rank, state](std::span<const Tensor>, std::span<const Tensor>) {
          run_step(rank, *state, *input_, rank.id() == 0 ? &output_ : nullptr, with_logits_);
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
