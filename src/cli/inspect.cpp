// lockstep inspect: what is where. Reads headers only.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/table.h"
#include "generate/memory.h"
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

// Tensors that a file holds in one format.
struct Stored {
  std::int64_t tensors = 0;
  std::uint64_t bytes = 0;
};

struct Inspection {
  std::unique_ptr<Checkpoint> checkpoint;
  ShardPlan plan;
  DType dtype;
  std::int64_t length = 0;  // options.length, or what the model has positions for
  std::uint64_t parameters = 0;
  std::map<std::string, Stored> stored;  // by format
  std::vector<RankMemory> needed;        // by rank, for one sequence of `length`
  std::vector<std::uint64_t> per_token;  // bytes of the KV cache, by rank
  std::string device;                    // "cpu x 4"
  FreeMemory free;
  std::int64_t longest = 0;  // tokens of one sequence that fit
};

constexpr std::int64_t kPrefillChunk = 512;  // GeneratorOptions' default

Inspection inspect(const InspectOptions& options) {
  Inspection result;
  const LoadOptions load_options = options.model.load_options();
  const std::string path = locate(options.model);
  result.checkpoint =
      load_options.dummy_weights ? open_dummy_checkpoint(path) : open_checkpoint(path);
  const Config& config = result.checkpoint->config();
  result.plan = infer_sharding(config, options.tp);
  result.dtype = load_options.dtype.value_or(config.dtype);
  for (const TensorInfo& tensor : result.checkpoint->tensors()) {
    result.parameters += static_cast<std::uint64_t>(tensor.shape.numel());
    Stored& stored = result.stored[tensor.stored];
    ++stored.tensors;
    stored.bytes += tensor.stored_bytes;
  }
  const Mesh mesh = options.model.mesh(options.tp);
  const DeviceType type = mesh.devices().front().type;
  result.length = std::min(options.length, config.max_position_embeddings);
  const Workload workload{1, result.length, kPrefillChunk};
  result.needed = memory_needed(config, result.plan, result.dtype, type, workload);
  for (const RankShard& shard : result.plan.ranks)
    result.per_token.push_back(kv_cache_bytes(config, shard, 1, result.dtype) / kKvBlockSize);
  result.device = to_string(mesh);
  result.free = free_memory(type, options.tp);
  result.longest = longest_that_fits(config, result.plan, result.dtype, workload, result.free);
  return result;
}

// How much more the largest rank holds than the mean of all.
double imbalance(const Inspection& inspection) {
  double largest = 0, sum = 0;
  for (const RankMemory& rank : inspection.needed) {
    largest = std::max(largest, static_cast<double>(rank.weights));
    sum += static_cast<double>(rank.weights);
  }
  return largest / (sum / static_cast<double>(inspection.needed.size())) - 1;
}

std::string bytes_text(std::uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); }

void print_json(const InspectOptions& options, const Inspection& inspection) {
  nlohmann::json json;
  const Config& config = inspection.checkpoint->config();
  for (const auto& [name, value] : describe(config)) json["config"][name] = value;
  json["model"] = options.model.model;
  json["parameters"] = inspection.parameters;
  for (const auto& [format, stored] : inspection.stored)
    json["stored"][format] = {{"tensors", stored.tensors}, {"bytes", stored.bytes}};
  json["world_size"] = options.tp;
  json["dtype"] = name_of(inspection.dtype);
  json["bitwise_equal_to_one_rank"] = inspection.plan.bitwise;
  json["imbalance"] = imbalance(inspection);
  const auto pair = [](Range range) { return nlohmann::json{range.begin, range.end}; };
  for (int rank = 0; rank < options.tp; ++rank) {
    const auto index = static_cast<std::size_t>(rank);
    const RankShard& shard = inspection.plan.ranks[index];
    nlohmann::json entry = {{"heads", pair(shard.heads)},
                            {"kv_heads", pair(shard.kv_heads)},
                            {"intermediate", pair(shard.intermediate)},
                            {"vocab", pair(shard.vocab)},
                            {"weight_bytes", inspection.needed[index].weights},
                            {"cache_bytes", inspection.needed[index].cache},
                            {"cache_bytes_per_token", inspection.per_token[index]},
                            {"scratch_bytes", inspection.needed[index].scratch}};
    for (const WeightSlice& slice : rank_slices(config, inspection.plan, rank))
      entry["weights"][slice.name] = {{"shape", {slice.rows.size(), slice.columns.size()}},
                                      {"split", split_name(slice.split)},
                                      {"rows", pair(slice.rows)},
                                      {"columns", pair(slice.columns)}};
    json["ranks"].push_back(std::move(entry));
  }
  json["cache_length"] = inspection.length;
  json["memory"] = {{"device", inspection.device},
                    {"free_bytes", inspection.free.bytes},
                    {"fits", fits(inspection.needed, inspection.free)},
                    {"longest_context", inspection.longest}};
  write_out(json.dump(2) + "\n");
}

void print_model(const InspectOptions& options, const Inspection& inspection) {
  Table table({{"model", Table::Align::kLeft}, {options.model.model, Table::Align::kLeft}});
  const auto parameters = static_cast<double>(inspection.parameters);
  table.add({"parameters", parameters < 1e9 ? fmt::format("{:.3g} million", parameters / 1e6)
                                            : fmt::format("{:.3g} billion", parameters / 1e9)});
  for (const auto& [format, stored] : inspection.stored)
    table.add({"stored as " + format,
               fmt::format("{}, {} tensors", bytes_text(stored.bytes), stored.tensors)});
  for (const auto& [name, value] : describe(inspection.checkpoint->config()))
    table.add({name, value});
  write_out(for_output(table));
}

void print_ranks(const InspectOptions& options, const Inspection& inspection) {
  write_out("\n" + heading(fmt::format("{}, {}: {}", inspection.device, name_of(inspection.dtype),
                                       inspection.plan.bitwise
                                           ? "the same bits as on one rank"
                                           : "equal to one rank up to rounding (uneven split)")));
  Table table({{"rank"},
               {"heads"},
               {"KV heads"},
               {"MLP"},
               {"vocabulary"},
               {"weights"},
               {"KV/token"},
               {fmt::format("KV({})", inspection.length)}});
  std::uint64_t weights = 0, per_token = 0, cache = 0;
  for (std::size_t rank = 0; rank < inspection.needed.size(); ++rank) {
    const RankShard& shard = inspection.plan.ranks[rank];
    const RankMemory& memory = inspection.needed[rank];
    table.add({std::to_string(rank), format_range(shard.heads), format_range(shard.kv_heads),
               format_range(shard.intermediate), format_range(shard.vocab),
               bytes_text(memory.weights), bytes_text(inspection.per_token[rank]),
               bytes_text(memory.cache)});
    weights += memory.weights;
    per_token += inspection.per_token[rank];
    cache += memory.cache;
  }
  if (options.tp > 1)
    table.add(
        {"all", "", "", "", "", bytes_text(weights), bytes_text(per_token), bytes_text(cache)});
  write_out(for_output(table));
  if (options.tp > 1)
    fmt::print("the largest rank holds {:.1f}% more than the mean\n", 100 * imbalance(inspection));

  const std::uint64_t least =
      *std::min_element(inspection.free.bytes.begin(), inspection.free.bytes.end());
  const std::int64_t positions = inspection.checkpoint->config().max_position_embeddings;
  fmt::print("{} free{}: ", bytes_text(least),
             inspection.free.bytes.size() > 1 ? " on each GPU" : "");
  if (inspection.longest == 0)
    fmt::print("the model does not fit\n");
  else if (inspection.longest == positions)
    fmt::print("a sequence of all {} positions fits\n", positions);
  else
    fmt::print("a sequence of up to {} of {} positions fits\n", inspection.longest, positions);
}

void print_weights(const InspectOptions& options, const Inspection& inspection) {
  const Config& config = inspection.checkpoint->config();
  const std::vector<WeightSlice> slices = rank_slices(config, inspection.plan, 0);
  std::vector<Table::Column> columns = {{"weight", Table::Align::kLeft},
                                        {"shape", Table::Align::kLeft},
                                        {"stored", Table::Align::kLeft},
                                        {"split", Table::Align::kLeft}};
  if (options.tp > 1) columns.push_back({"of each rank", Table::Align::kLeft});
  Table table(columns);
  const auto add = [&](std::vector<std::string> cells, const std::string& ranks) {
    if (options.tp > 1) cells.push_back(ranks);
    table.add(std::move(cells));
  };
  const std::string first = "model.layers.0.";
  for (std::size_t i = 0; i < slices.size(); ++i) {
    const WeightSlice& slice = slices[i];
    std::string name = slice.name;
    if (name.starts_with(first))
      name = fmt::format("model.layers.0..{}.{}", config.num_hidden_layers - 1,
                         name.substr(first.size()));
    else if (name.starts_with("model.layers."))
      continue;  // every layer is split alike
    std::string ranks;
    for (int rank = 0; rank < options.tp && slice.split != WeightSlice::Split::kReplicated;
         ++rank) {
      const WeightSlice part = rank_slices(config, inspection.plan, rank)[i];
      ranks += (rank ? " | " : "") +
               format_range(slice.split == WeightSlice::Split::kRows ? part.rows : part.columns);
    }
    const TensorInfo* info = inspection.checkpoint->find(slice.name);
    add({name, to_string(slice.shape), info ? info->stored : "", split_name(slice.split)}, ranks);
  }
  if (config.tie_word_embeddings)
    add({"lm_head.weight", to_string(Shape{config.vocab_size, config.hidden_size}), "", "tied"},
        "rows of model.embed_tokens.weight");
  write_out("\n" + for_output(table));
}

int run_inspect(const InspectOptions& options) {
  const Inspection inspection = inspect(options);
  if (options.json) {
    print_json(options, inspection);
    return 0;
  }
  print_model(options, inspection);
  print_ranks(options, inspection);
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
