// lockstep bench: prefill and decode speed against the floor: every byte of a rank's weights read
// once. As a table, for programs, and as a picture.
#include <fmt/format.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/diagnosis.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/plot.h"
#include "cli/table.h"
#include "core/check.h"
#include "generate/engine.h"
#include "generate/model_impl.h"
#include "lockstep/version.h"
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
  bool csv = false;
  bool markdown = false;
  std::string plot;

  bool table() const { return !json && !csv && !markdown; }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// Milliseconds: of everything that was timed, and the medians of the runs.
struct Times {
  std::vector<double> runs;
  double median = 0, min = 0, max = 0;
};

// `runs`: the times of each run.
Times summarize(const std::vector<std::vector<double>>& runs) {
  Times times;
  std::vector<double> all;
  for (const std::vector<double>& run : runs) {
    times.runs.push_back(median(run));
    all.insert(all.end(), run.begin(), run.end());
  }
  times.median = median(all);
  times.min = *std::min_element(all.begin(), all.end());
  times.max = *std::max_element(all.begin(), all.end());
  return times;
}

// One combination.
struct Result {
  int tp;
  int batch;
  std::string mesh;
  double load_s;
  Times prefill;    // of all prompts of the batch
  Times decode;     // of one step: one token for every sequence of the batch
  double floor_ms;  // reading this rank's weights once, at the speed that reading alone reaches
  double free_prefill_ms = 0;  // of the same prompts without --deterministic; 0: not measured
};

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
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

// What is being done, on a terminal; nothing when `what` is empty.
void show_progress(const std::string& what) {
  if (isatty(STDERR_FILENO)) write_err(fmt::format("\r\x1b[K{}", what));
}

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
  std::vector<std::vector<double>> prefill, decode;  // by run
  for (int run = 0; run <= options.runs; ++run) {    // the first one warms up
    show_progress(fmt::format("{}, batch {}: run {} of {}", to_string(model.mesh()), batch, run,
                              options.runs));
    BatchRun steps(options, batch, impl.config.vocab_size);
    Clock::time_point start = Clock::now();
    while (steps.prefilling()) {
      engine.start(steps.prefill_step(), false);
      engine.finish();
    }
    if (run > 0) prefill.push_back({milliseconds_since(start)});
    if (run > 0) decode.emplace_back();
    start = Clock::now();
    for (std::int64_t finished = 1, started = 1; finished < options.new_tokens; ++finished) {
      for (; started < options.new_tokens && engine.steps() < steps_at_once; ++started)
        engine.start(steps.decode_step(started), false);
      engine.finish();
      if (run > 0) decode.back().push_back(milliseconds_since(start));
      start = Clock::now();
    }
  }
  show_progress("");
  return {model.mesh().world_size(),
          batch,
          to_string(model.mesh()),
          impl.load_seconds,
          summarize(prefill),
          summarize(decode),
          floor_ms};
}

// The columns of the table, of CSV and of Markdown.
struct Column {
  const char* heading;
  const char* csv;
  int width;
  std::string (*cell)(const Result&, const BenchOptions&);
};

double prefill_speed(const Result& r, const BenchOptions& options) {
  return 1e3 * static_cast<double>(options.prompt * r.batch) / r.prefill.median;
}

constexpr std::array kColumns = {
    Column{"tp", "tp", 3,
           [](const Result& r, const BenchOptions&) { return fmt::format("{}", r.tp); }},
    Column{"batch", "batch", 6,
           [](const Result& r, const BenchOptions&) { return fmt::format("{}", r.batch); }},
    Column{"prefill ms", "prefill_ms", 11,
           [](const Result& r, const BenchOptions&) {
             return fmt::format("{:.2f}", r.prefill.median);
           }},
    Column{"tokens/s", "prefill_tokens_per_s", 9,
           [](const Result& r, const BenchOptions& o) {
             return fmt::format("{:.0f}", prefill_speed(r, o));
           }},
    Column{"decode ms", "decode_ms", 10,
           [](const Result& r, const BenchOptions&) {
             return fmt::format("{:.3f}", r.decode.median);
           }},
    Column{
        "min", "decode_ms_min", 8,
        [](const Result& r, const BenchOptions&) { return fmt::format("{:.3f}", r.decode.min); }},
    Column{"tokens/s", "decode_tokens_per_s", 9,
           [](const Result& r, const BenchOptions&) {
             return fmt::format("{:.1f}", 1e3 * r.batch / r.decode.median);
           }},
    Column{"floor ms", "floor_ms", 9,
           [](const Result& r, const BenchOptions&) { return fmt::format("{:.3f}", r.floor_ms); }},
    Column{"of floor %", "percent_of_floor", 11,
           [](const Result& r, const BenchOptions&) {
             return fmt::format("{:.0f}", 100 * r.floor_ms / r.decode.median);
           }},
};

void print_header() {
  std::string line;
  for (const Column& column : kColumns) line += fmt::format("{:>{}}", column.heading, column.width);
  write_out(heading(line));
}

// At once: the next one may take minutes.
void print_row(const Result& result, const BenchOptions& options) {
  std::string line;
  for (const Column& column : kColumns)
    line += fmt::format("{:>{}}", column.cell(result, options), column.width);
  write_out(line + "\n");
}

void print_csv(const std::vector<Result>& results, const BenchOptions& options) {
  std::string text;
  for (const Column& column : kColumns)
    text += fmt::format("{}{}", text.empty() ? "" : ",", column.csv);
  for (const Result& result : results) {
    text += '\n';
    for (const Column& column : kColumns)
      text += fmt::format("{}{}", text.back() == '\n' ? "" : ",", column.cell(result, options));
  }
  write_out(text + "\n");
}

void print_markdown(const std::vector<Result>& results, const BenchOptions& options) {
  std::vector<Table::Column> columns;
  for (const Column& column : kColumns) columns.push_back({column.heading});
  Table table(columns);
  for (const Result& result : results) {
    std::vector<std::string> cells;
    for (const Column& column : kColumns) cells.push_back(column.cell(result, options));
    table.add(std::move(cells));
  }
  write_out(table.markdown());
}

void print_json(const std::vector<Result>& results, const BenchOptions& options,
                std::string_view dtype) {
  nlohmann::ordered_json json = {{"version", version()},
                                 {"git_revision", git_revision()},
                                 {"backends", backends()},
                                 {"cpu", report_host().cpu},
                                 {"model", options.model.model},
                                 {"dtype", dtype},
                                 {"prompt", options.prompt},
                                 {"new_tokens", options.new_tokens},
                                 {"prefill_chunk", options.prefill_chunk},
                                 {"runs", options.runs},
                                 {"results", nlohmann::json::array()}};
  if (results.front().mesh.starts_with("cuda"))
    for (const GpuInfo& gpu : report_gpus().gpus) json["gpus"].push_back(gpu.name);
  for (const Result& r : results) {
    nlohmann::ordered_json entry = {
        {"tp", r.tp}, {"batch", r.batch}, {"mesh", r.mesh}, {"load_s", r.load_s}};
    const auto add = [&](const std::string& name, const Times& times) {
      entry[name] = times.median;
      entry[name + "_min"] = times.min;
      entry[name + "_max"] = times.max;
      entry[name + "_runs"] = times.runs;
    };
    add("prefill_ms", r.prefill);
    add("decode_ms", r.decode);
    entry["floor_ms"] = r.floor_ms;
    if (r.free_prefill_ms > 0) entry["prefill_ms_without_deterministic"] = r.free_prefill_ms;
    entry["prefill_tokens_per_s"] = prefill_speed(r, options);
    entry["decode_tokens_per_s"] = 1e3 * r.batch / r.decode.median;
    json["results"].push_back(std::move(entry));
  }
  write_out(json.dump(2) + "\n");
}

// Milliseconds of a decode step by the number of ranks, a line a batch size; or by the batch size
// where there is one number of ranks.
Plot decode_plot(const std::vector<Result>& results, const BenchOptions& options,
                 std::string_view dtype) {
  const bool by_tp = options.tp.size() > 1;
  Plot plot;
  plot.title = "Decode: milliseconds for one token of every sequence";
  plot.subtitle =
      fmt::format("{}, {}, {}, {} prompt tokens",
                  std::filesystem::weakly_canonical(options.model.model).filename().string(), dtype,
                  results.front().mesh.starts_with("cpu") ? "CPU ranks" : "GPUs", options.prompt);
  plot.x_label = by_tp ? "ranks (tensor parallelism)" : "batch: sequences at once";
  plot.y_label = "ms per step";
  Series floor{"floor", {}, true};
  std::map<int, Series> lines;  // by batch, or one
  for (const Result& r : results) {
    Series& line = lines[by_tp ? r.batch : 0];
    line.name = by_tp ? fmt::format("batch {}", r.batch) : fmt::format("{} ranks", r.tp);
    const double x = by_tp ? r.tp : r.batch;
    line.points.emplace_back(x, r.decode.median);
    floor.points.emplace_back(x, r.floor_ms);
  }
  for (auto& [batch, line] : lines) plot.series.push_back(std::move(line));
  plot.series.push_back(std::move(floor));
  for (Series& series : plot.series) {
    std::sort(series.points.begin(), series.points.end());
    const auto same_x = [](const auto& a, const auto& b) { return a.first == b.first; };
    series.points.erase(std::unique(series.points.begin(), series.points.end(), same_x),
                        series.points.end());
  }
  return plot;
}

// What the prompts of the first batch size take without --deterministic.
double measure_free_prefill(const BenchOptions& options, const GeneratorOptions& planned, int tp) {
  BenchOptions free = options;
  free.model.deterministic = false;
  free.new_tokens = 2;
  const Model model = load(free.model, tp, true, &planned);
  return measure(free, model, free.batch.front(), 0).prefill.median;
}

// All batch sizes on `tp` ranks; returns the weights' dtype.
std::string measure_batches(const BenchOptions& options, const GeneratorOptions& planned, int tp,
                            std::vector<Result>& results) {
  const Model model = load(options.model, tp, true, &planned);
  check(options.prompt + options.new_tokens <= model.max_length(),
        "{} prompt and {} new tokens: the model has {} positions", options.prompt,
        options.new_tokens, model.max_length());
  const double floor_ms = measure_floor(*model.impl());
  for (int batch : options.batch) {
    results.push_back(measure(options, model, batch, floor_ms));
    if (!options.table()) continue;
    if (results.size() == 1) print_header();
    print_row(results.back(), options);
  }
  return std::string(name_of(model.dtype()));
}

// What --deterministic costs.
void print_cost_of_bits(const std::vector<Result>& results) {
  for (const Result& r : results)
    if (r.free_prefill_ms > 0)
      write_out(fmt::format(
          "--deterministic: on {} ranks prompts take {:.1f} times as long ({:.1f} "
          "against {:.1f} ms); decoding is not affected\n",
          r.tp, r.prefill.median / r.free_prefill_ms, r.prefill.median, r.free_prefill_ms));
}

int run_bench(const BenchOptions& options) {
  std::ofstream plot;
  if (!options.plot.empty()) {  // before an hour of measuring
    plot.open(options.plot);
    check(plot.is_open(), "--plot {}: cannot be written: {}", options.plot,
          std::generic_category().message(errno));
  }
  GeneratorOptions planned;
  planned.max_batch_size = *std::max_element(options.batch.begin(), options.batch.end());
  planned.max_length = options.prompt + options.new_tokens;
  std::vector<Result> results;
  std::string dtype;
  for (int tp : options.tp) {
    const std::size_t first = results.size();
    dtype = measure_batches(options, planned, tp, results);
    // It makes no difference on the CPU.
    if (options.model.deterministic && results[first].mesh.starts_with("cuda"))
      results[first].free_prefill_ms = measure_free_prefill(options, planned, tp);
  }
  if (options.table()) print_cost_of_bits(results);
  if (options.json) print_json(results, options, dtype);
  if (options.csv) print_csv(results, options);
  if (options.markdown) print_markdown(results, options);
  if (!options.plot.empty()) {
    plot << svg(decode_plot(results, options, dtype)) << std::flush;
    check(plot.good(), "--plot {}: cannot be written", options.plot);
  }
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
      "  lockstep bench -m bench/models/mistral-7b --load-format dummy --tp 4 --json\n"
      "  lockstep bench -m model.gguf --tp 1,2,4 --batch 1,8,32 --plot decode.svg");
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
  CLI::Option* json = command.add_flag("--json", o.json, "One JSON object, with all runs");
  json->envname("LOCKSTEP_JSON");
  CLI::Option* csv = command.add_flag("--csv", o.csv, "Comma-separated values, with a heading");
  csv->envname("LOCKSTEP_CSV")->excludes(json);
  command.add_flag("--markdown", o.markdown, "A Markdown table")
      ->envname("LOCKSTEP_MARKDOWN")
      ->excludes(json)
      ->excludes(csv);
  add_option(command, "--plot", o.plot,
             "Draw decode time against ranks and batch, with the floor, into this SVG file", "PLOT")
      ->type_name("FILE");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_bench(*options); }; });
}

}  // namespace lockstep::cli
