// lockstep bench: prefill and decode speed against the floor: every byte of a rank's weights read
// once.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "core/check.h"
#include "generate/engine.h"
#include "generate/model_impl.h"
#include "model/kv_cache.h"

namespace lockstep::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct BenchOptions {
  ModelOptions model;
  std::vector<int> tp = {1};
  std::vector<int> batch = {1};
  std::int64_t prompt = 128;
  std::int64_t new_tokens = 64;
  int prefill_chunk = 512;
  int runs = 3;
  bool json = false;
};

// One combination; times in milliseconds, medians over runs (and over steps for decode).
struct Result {
  int tp;
  int batch;
  double load_s;
  double prefill_ms;  // of all prompts of the batch
  double decode_ms;   // one step: one token for every sequence of the batch
  double floor_ms;    // reading this rank's weights once, at the speed that reading alone reaches
};

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// What the ranks need to read every weight that a decode step reads, all at the same time.
double measure_floor(const Model::Impl& model) {
  std::vector<double> times;
  for (int run = 0; run < 6; ++run) {
    const Clock::time_point start = Clock::now();
    model.team->run("measuring the read bandwidth", [&](Rank& rank) {
      const Weights& weights = model.weights[static_cast<std::size_t>(rank.id())];
      for (const LayerWeights& layer : weights.layers)
        for (const LinearWeights* linear :
             {&layer.qkv_proj, &layer.o_proj, &layer.gate_up_proj, &layer.down_proj})
          rank.ops().read(linear->weight);
      rank.ops().read(weights.lm_head);
      rank.ops().synchronize();
    });
    if (run > 0) times.push_back(milliseconds_since(start));  // the first one warms up
  }
  return median(times);
}

// Random but fixed token ids.
std::vector<std::int32_t> make_prompt(std::int64_t length, std::int64_t vocab_size, int sequence) {
  std::vector<std::int32_t> ids;
  std::uint64_t state = 88172645463325252u + static_cast<std::uint64_t>(sequence);
  for (std::int64_t i = 0; i < length; ++i) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    ids.push_back(static_cast<std::int32_t>(state % static_cast<std::uint64_t>(vocab_size)));
  }
  return ids;
}

// The steps of a batch whose sequences start together: prompts in chunks, then one token each.
class BatchRun {
 public:
  BatchRun(const BenchOptions& options, int batch, std::int64_t vocab_size)
      : options_(options), batch_(batch) {
    const std::int64_t blocks = kv_blocks(options.prompt + options.new_tokens);
    for (int slot = 0; slot < batch; ++slot) {
      Admission admission;
      admission.slot = slot;
      admission.tokens = make_prompt(options.prompt, vocab_size, slot);
      for (std::int64_t i = 0; i < blocks; ++i)
        admission.blocks.push_back(static_cast<std::int32_t>(slot * blocks + i));
      admission.sampling.temperature = 0;
      next_.admissions.push_back(std::move(admission));
    }
  }

  bool prefilling() const { return row_ < options_.prompt * batch_; }

  StepInput prefill_step() {
    StepInput step = std::exchange(next_, {});
    for (; prefilling() && std::ssize(step.slots) < options_.prefill_chunk; ++row_) {
      step.slots.push_back(static_cast<std::int32_t>(row_ / options_.prompt));
      step.positions.push_back(static_cast<std::int32_t>(row_ % options_.prompt));
      if (step.positions.back() + 1 == options_.prompt)
        step.logit_rows.push_back(static_cast<std::int32_t>(step.slots.size() - 1));
    }
    return step;
  }

  // The i-th new token (from 1) of every sequence.
  StepInput decode_step(std::int64_t i) const {
    StepInput step;
    for (int slot = 0; slot < batch_; ++slot) {
      step.slots.push_back(slot);
      step.positions.push_back(static_cast<std::int32_t>(options_.prompt + i - 1));
      step.logit_rows.push_back(slot);
    }
    return step;
  }

 private:
  const BenchOptions& options_;
  int batch_;
  std::int64_t row_ = 0;  // prompt tokens done, of all sequences
  StepInput next_;
};

Result measure(const BenchOptions& options, const Model& model, int batch, double floor_ms) {
  const Model::Impl& impl = *model.impl();
  BatchLimits limits;
  limits.max_batch_size = batch;
  limits.max_length = options.prompt + options.new_tokens;
  limits.max_rows = std::max(options.prefill_chunk, batch);
  limits.max_logit_rows = batch;
  Engine engine(model.impl(), limits, batch * kv_blocks(limits.max_length));

  // As Generator does.
  const bool gpus = model.mesh().devices().front().type == DeviceType::kCuda;
  const std::size_t steps_at_once = gpus ? Engine::kMaxSteps : 1;
  std::vector<double> prefill, decode;
  for (int run = 0; run <= options.runs; ++run) {  // the first one warms up
    BatchRun steps(options, batch, impl.config.vocab_size);
    Clock::time_point start = Clock::now();
    while (steps.prefilling()) {
      engine.start(steps.prefill_step(), false);
      engine.finish();
    }
    if (run > 0) prefill.push_back(milliseconds_since(start));
    start = Clock::now();
    for (std::int64_t finished = 1, started = 1; finished < options.new_tokens; ++finished) {
      for (; started < options.new_tokens && engine.steps() < steps_at_once; ++started)
        engine.start(steps.decode_step(started), false);
      engine.finish();
      if (run > 0) decode.push_back(milliseconds_since(start));
      start = Clock::now();
    }
  }
  return {model.mesh().world_size(), batch,          impl.load_seconds,
          median(prefill),           median(decode), floor_ms};
}

void print_header() {
  write_out(fmt::format("{:>3} {:>6} {:>12} {:>14} {:>12} {:>12} {:>12} {:>10}\n", "tp", "batch",
                        "prefill ms", "prefill tok/s", "decode ms", "tok/s", "floor ms",
                        "of floor"));
}

void print_row(const Result& r, const BenchOptions& options) {
  const auto tokens = static_cast<double>(options.prompt * r.batch);
  write_out(fmt::format("{:>3} {:>6} {:>12.2f} {:>14.0f} {:>12.3f} {:>12.1f} {:>12.3f} {:>9.0f}%\n",
                        r.tp, r.batch, r.prefill_ms, 1e3 * tokens / r.prefill_ms, r.decode_ms,
                        1e3 * r.batch / r.decode_ms, r.floor_ms, 100 * r.floor_ms / r.decode_ms));
}

void print_json(const std::vector<Result>& results, const BenchOptions& options,
                std::string_view dtype) {
  nlohmann::ordered_json json = {
      {"model", options.model.model}, {"dtype", dtype},
      {"prompt", options.prompt},     {"new_tokens", options.new_tokens},
      {"runs", options.runs},         {"results", nlohmann::json::array()}};
  for (const Result& r : results)
    json["results"].push_back({{"tp", r.tp},
                               {"batch", r.batch},
                               {"load_s", r.load_s},
                               {"prefill_ms", r.prefill_ms},
                               {"decode_ms", r.decode_ms},
                               {"floor_ms", r.floor_ms}});
  fmt::print("{}\n", json.dump(2));
}

int run_bench(const BenchOptions& options) {
  std::vector<Result> results;
  std::string dtype;
  for (int tp : options.tp) {
    const Model model = load(options.model, tp);
    dtype = name_of(model.dtype());
    check(options.prompt + options.new_tokens <= model.max_length(),
          "{} prompt and {} new tokens: the model has {} positions", options.prompt,
          options.new_tokens, model.max_length());
    const double floor_ms = measure_floor(*model.impl());
    for (int batch : options.batch) {
      results.push_back(measure(options, model, batch, floor_ms));
      if (options.json) continue;
      if (results.size() == 1) print_header();
      print_row(results.back(), options);
    }
  }
  if (options.json) print_json(results, options, dtype);
  return 0;
}

}  // namespace

void add_bench(CLI::App& app, Run& run) {
  CLI::App& command =
      *app.add_subcommand("bench", "Prefill and decode speed against the hardware's floor");
  auto options = std::make_shared<BenchOptions>();
  BenchOptions& o = *options;
  command.footer(
      "Examples:\n"
      "  lockstep bench -m model.gguf --tp 1,2,4 --batch 1,8\n"
      "  lockstep bench -m bench/models/mistral-7b --load-format dummy --tp 4 --json");
  o.model.add_to(command);
  add_option(command, "--tp", o.tp, "Numbers of ranks to measure: 1,2,4", "TP")
      ->delimiter(',')
      ->check(CLI::Range(1, Mesh::kMaxWorldSize));
  add_option(command, "--batch", o.batch, "Batch sizes to measure: 1,8,32", "BATCH")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  add_option(command, "--prompt", o.prompt, "Prompt tokens of each sequence", "PROMPT_TOKENS")
      ->check(CLI::Range(1, 1 << 24));
  add_option(command, "-n,--new-tokens", o.new_tokens, "New tokens of each sequence", "NEW_TOKENS")
      ->check(CLI::Range(2, 1 << 24));
  add_option(command, "--prefill-chunk", o.prefill_chunk, "Prompt tokens that one step works on",
             "PREFILL_CHUNK")
      ->check(CLI::Range(1, 65536));
  add_option(command, "--runs", o.runs, "Runs to take the median of", "RUNS")
      ->check(CLI::Range(1, 1000));
  command.add_flag("--json", o.json, "One JSON object")->envname("LOCKSTEP_JSON");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_bench(*options); }; });
}

}  // namespace lockstep::cli
