#include "generate/engine.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "comm/thread_comm.h"
#include "core/check.h"
#include "generate/sampler.h"
#include "model/kv_cache.h"
#include "model/transformer.h"
#include "spmd/fault.h"

namespace lockstep {

// One rank's share of everything that a step needs.
struct Engine::RankState {
  RankState(Rank& its_rank, const Model::Impl& model, const BatchLimits& limits,
            std::int64_t num_blocks)
      : rank(its_rank),
        cache(rank, model.config, model.plan.ranks[static_cast<std::size_t>(rank.id())], num_blocks,
              model.dtype),
        batch(rank, limits),
        transformer(rank, model.config, model.plan,
                    model.weights[static_cast<std::size_t>(rank.id())], limits),
        sampler(rank, model.plan, limits),
        recorder(rank.ops().make_recorder()) {
    for (Results& each : results) {
      each.ids = rank.ops().make_download();
      each.logits = rank.ops().make_download();
    }
  }

  Rank& rank;
  KvCache cache;
  Batch batch;
  Transformer transformer;
  Sampler sampler;
  std::unique_ptr<Recorder> recorder;
  std::array<Results, kMaxSteps> results;
};

Engine::Engine(std::shared_ptr<Model::Impl> model, const BatchLimits& limits,
               std::int64_t num_blocks)
    : model_(std::move(model)),
      results_(model_->weights.size()),
      timeout_(default_comm_timeout()),
      executable_(model_->team, [this, limits, num_blocks](Rank& rank) -> Executable::Step {
        auto state = std::make_shared<RankState>(rank, *model_, limits, num_blocks);
        results_[static_cast<std::size_t>(rank.id())] = state->results.data();
        if (rank.id() == 0) comm_ = &rank.comm();
        return [this, state](std::span<const Tensor>, std::span<const Tensor>) { run(*state); };
      }) {}

void Engine::start(const StepInput& input, bool with_logits) {
  check(steps_ < kMaxSteps, "{} steps were started and not finished", steps_);
  place_ = (first_ + steps_) % kMaxSteps;
  input_ = &input;
  started_[place_] = {input.logit_rows.size(), with_logits && !input.logit_rows.empty()};
  try {
    executable_.run();
  } catch (...) {
    steps_ = 0;
    throw;
  }
  ++steps_;
}

// On a rank's thread.
void Engine::run(RankState& state) const {
  const StepInput& input = *input_;
  const Results& results = state.results[place_];
  const bool first_rank = state.rank.id() == 0;
  // Steps of one token a sequence come back again and again.
  const bool decode = input.slots.size() == input.logit_rows.size();
  inject_fault(decode ? "decode" : "prefill", state.rank.id());
  state.batch.upload(input);
  const auto rows = static_cast<std::int64_t>(input.logit_rows.size());
  if (started_[place_].with_logits) {
    const Tensor logits = state.transformer.forward(state.batch, state.cache);
    const Tensor whole = state.sampler.gather(logits);
    if (first_rank) results.logits->start(whole);
    state.sampler.sample(logits, state.batch, input);
  } else {
    const auto work = [&] {
      const Tensor logits = state.transformer.forward(state.batch, state.cache);
      if (rows > 0) state.sampler.sample(logits, state.batch, input);
    };
    const auto longest = static_cast<std::uint64_t>(state.batch.view().longest);
    const std::uint64_t key = static_cast<std::uint64_t>(rows) << 8 |
                              static_cast<std::uint64_t>(std::countr_zero(longest)) << 2 |
                              static_cast<std::uint64_t>(input.any_penalty) << 1 |
                              static_cast<std::uint64_t>(input.any_filter);
    if (decode)
      state.recorder->run(key, work);
    else
      work();
  }
  results.ids->start(state.sampler.ids(first_rank ? rows : 0));
}

StepOutput Engine::finish() {
  check(steps_ > 0, "no step was started");
  const std::size_t place = first_;
  wait(place);
  first_ = (first_ + 1) % kMaxSteps;
  --steps_;
  const Results& results = results_.front()[place];
  StepOutput output;
  output.ids = {static_cast<const std::int32_t*>(results.ids->data()), started_[place].rows};
  if (started_[place].with_logits)
    output.logits = {static_cast<const float*>(results.logits->data()),
                     started_[place].rows * static_cast<std::size_t>(model_->config.vocab_size)};
  for (std::int32_t id : output.ids) check(id >= 0, "the logits of a sequence are not numbers");
  return output;
}

// A rank that failed shows although rank 0 may be waiting for it.
void Engine::wait(std::size_t place) {
  constexpr std::uint32_t kPollsOfOneRank = 64;
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  int rank = 0;  // that is asked
  try {
    for (std::uint32_t polls = 1; !results_[0][place].ids->ready(); ++polls) {
      if (polls % kPollsOfOneRank != 0) continue;
      const int world_size = static_cast<int>(results_.size());
      for (rank = 1; rank < world_size; ++rank)
        results_[static_cast<std::size_t>(rank)][place].ids->ready();
      rank = 0;
      check(std::chrono::steady_clock::now() < deadline, "a step has not ended within {:g} seconds",
            static_cast<double>(timeout_.count()) / 1e3);
    }
    comm_->throw_if_aborted();
  } catch (const Error& error) {
    steps_ = 0;
    // As that rank's failure: so that the error names it, and that no other waits for it.
    const std::string message = error.what();
    model_->team->run("a step", [&](Rank& failed) {
      if (failed.id() == rank) fail("{}", message);
    });
    throw;
  }
}

}  // namespace lockstep
