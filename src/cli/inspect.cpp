// lockstep inspect: what is where. Reads headers only.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "model/kv_cache.h"
#include "sharding/loader.h"

namespace lockstep::cli {
namespace {

struct InspectOptions {
  ModelOptions model;
  int tp = 1;
  std::int64_t length = 4096;
  bool json = false;
};

std::string format_range(Range range) {
  return range.size() == 0 ? "none" : fmt::format("{}-{}", range.begin, range.end - 1);
}

const char* split_name(WeightSlice::Split split) {
  switch (split) {
    case WeightSlice::Split::kRows:
      return "column-parallel";  // rows of the stored matrix are output features
    case WeightSlice::Split::kColumns:
      return "row-parallel";
    default:
      return "replicated";
  }
}

// One rank's sizes.
struct RankFigures {
  std::size_t weights;
  std::size_t cache;
};

struct Inspection {
  std::unique_ptr<Checkpoint> checkpoint;
  ShardPlan plan;
  DType dtype;
  std::vector<RankFigures> figures;
};

Inspection inspect(const InspectOptions& options) {
  Inspection result;
  const LoadOptions load_options = options.model.load_options();
  result.checkpoint = load_options.dummy_weights ? open_dummy_checkpoint(options.model.model)
                                                 : open_checkpoint(options.model.model);
  const Config& config = result.checkpoint->config();
  result.plan = infer_sharding(config, options.tp);
  result.dtype = load_options.dtype.value_or(config.dtype);
  for (int rank = 0; rank < options.tp; ++rank) {
    const RankShard& shard = result.plan.ranks[static_cast<std::size_t>(rank)];
    result.figures.push_back(
        {weight_bytes(config, result.plan, rank, result.dtype),
         kv_cache_bytes(config, shard, kv_blocks(options.length), result.dtype)});
  }
  return result;
}

void print_json(const InspectOptions& options, const Inspection& inspection) {
  nlohmann::json json;
  const Config& config = inspection.checkpoint->config();
  for (const auto& [name, value] : describe(config)) json["config"][name] = value;
  json["world_size"] = options.tp;
  json["dtype"] = name_of(inspection.dtype);
  json["bitwise_equal_to_one_rank"] = inspection.plan.bitwise;
  const auto pair = [](Range range) { return nlohmann::json{range.begin, range.end}; };
  for (int rank = 0; rank < options.tp; ++rank) {
    const RankShard& shard = inspection.plan.ranks[static_cast<std::size_t>(rank)];
    nlohmann::json entry = {
        {"heads", pair(shard.heads)},
        {"kv_heads", pair(shard.kv_heads)},
        {"intermediate", pair(shard.intermediate)},
        {"vocab", pair(shard.vocab)},
        {"weight_bytes", inspection.figures[static_cast<std::size_t>(rank)].weights},
        {"cache_bytes", inspection.figures[static_cast<std::size_t>(rank)].cache}};
    for (const WeightSlice& slice : rank_slices(config, inspection.plan, rank))
      entry["weights"][slice.name] = {{"shape", {slice.rows.size(), slice.columns.size()}},
                                      {"split", split_name(slice.split)},
                                      {"rows", pair(slice.rows)},
                                      {"columns", pair(slice.columns)}};
    json["ranks"].push_back(std::move(entry));
  }
  json["cache_length"] = options.length;
  fmt::print("{}\n", json.dump(2));
}

void print_weights(const InspectOptions& options, const Inspection& inspection) {
  const Config& config = inspection.checkpoint->config();
  const std::vector<WeightSlice> slices = rank_slices(config, inspection.plan, 0);
  fmt::print("\n{:<52} {:<16} {:<9} {:<16} {}\n", "weight", "shape", "stored", "split",
             options.tp > 1 ? "of each rank" : "");
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const WeightSlice& slice = slices[i];
    if (slice.name.starts_with("model.layers.") && !slice.name.starts_with("model.layers.0."))
      continue;  // every layer is split alike
    std::string ranks;
    for (int rank = 0; rank < options.tp && slice.split != WeightSlice::Split::kReplicated;
         ++rank) {
      const WeightSlice part = rank_slices(config, inspection.plan, rank)[i];
      ranks += (rank ? " | " : "") +
               format_range(slice.split == WeightSlice::Split::kRows ? part.rows : part.columns);
    }
    const std::string layers = fmt::format("model.layers.0..{}.", config.num_hidden_layers - 1);
    const TensorInfo* info = inspection.checkpoint->find(slice.name);
    fmt::print("{:<52} {:<16} {:<9} {:<16} {}\n",
               std::regex_replace(slice.name, std::regex("^model\\.layers\\.0\\."), layers),
               to_string(slice.shape), info ? info->stored : "", split_name(slice.split), ranks);
  }
  if (config.tie_word_embeddings)
    fmt::print("{:<52} {:<16} {:<9} {:<16} rows of model.embed_tokens.weight\n", "lm_head.weight",
               to_string(Shape{config.vocab_size, config.hidden_size}), "", "tied");
}

int run_inspect(const InspectOptions& options) {
  const Inspection inspection = inspect(options);
  if (options.json) {
    print_json(options, inspection);
    return 0;
  }
  for (const auto& [name, value] : describe(inspection.checkpoint->config()))
    fmt::print("{:<26} {}\n", name, value);

  fmt::print("\n{} rank{}, {}: {}\n\n", options.tp, options.tp == 1 ? "" : "s",
             name_of(inspection.dtype),
             inspection.plan.bitwise ? "the same bits as on one rank"
                                     : "equal to one rank up to rounding (uneven split)");
  fmt::print("{:<6} {:>9} {:>9} {:>14} {:>16} {:>11} {:>16}\n", "rank", "heads", "KV heads",
             "intermediate", "vocabulary", "weights", fmt::format("cache({})", options.length));
  std::size_t largest = 0, sum = 0;
  for (int rank = 0; rank < options.tp; ++rank) {
    const RankShard& shard = inspection.plan.ranks[static_cast<std::size_t>(rank)];
    const RankFigures& figures = inspection.figures[static_cast<std::size_t>(rank)];
    fmt::print("{:<6} {:>9} {:>9} {:>14} {:>16} {:>11} {:>16}\n", rank, format_range(shard.heads),
               format_range(shard.kv_heads), format_range(shard.intermediate),
               format_range(shard.vocab), format_bytes(static_cast<double>(figures.weights)),
               format_bytes(static_cast<double>(figures.cache)));
    largest = std::max(largest, figures.weights);
    sum += figures.weights;
  }
  const double mean = static_cast<double>(sum) / options.tp;
  if (options.tp > 1)
    fmt::print("\nthe largest rank holds {:.1f}% more than the mean\n",
               100 * (static_cast<double>(largest) / mean - 1));
  print_weights(options, inspection);
  return 0;
}

}  // namespace

void add_inspect(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand(
      "inspect", "What is where: every weight's split, bytes and cache per rank");
  auto options = std::make_shared<InspectOptions>();
  command.footer(
      "Examples:\n"
      "  lockstep inspect -m model.gguf --tp 4\n"
      "  lockstep inspect -m models/Mistral-7B-v0.1 --tp 4 --dtype bfloat16 --length 32768\n"
      "  lockstep inspect -m model.gguf --json | jq .ranks[0].weight_bytes");
  options->model.add_to(command);
  add_option(command, "--tp", options->tp, "Ranks that share the model", "TP")
      ->check(CLI::Range(1, Mesh::kMaxWorldSize));
  add_option(command, "--length", options->length, "Tokens to give the size of the KV cache for",
             "LENGTH")
      ->check(CLI::Range(1, 1 << 30));
  command.add_flag("--json", options->json, "One JSON object")->envname("LOCKSTEP_JSON");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_inspect(*options); }; });
}

}  // namespace lockstep::cli
