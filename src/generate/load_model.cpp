#include <algorithm>
#include <chrono>
#include <filesystem>
#include <limits>
#include <mutex>
#include <utility>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json.h"
#include "core/check.h"
#include "generate/memory.h"
#include "generate/model_impl.h"
#include "sharding/loader.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// A field of generation_config.json; null when it is not there, or null there.
const nlohmann::json* find(const nlohmann::json& json, const char* key) {
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

void overlay(const nlohmann::json& json, const char* key, float& field) {
  const nlohmann::json* value = find(json, key);
  if (!value) return;
  check(value->is_number(), "\"{}\" is not a number", key);
  field = value->get<float>();
}

std::int32_t to_int(const nlohmann::json& value, const char* key) {
  // A number above the largest int64_t is unsigned, and would wrap.
  const bool fits =
      value.is_number_unsigned()
          ? std::in_range<std::int32_t>(value.get<std::uint64_t>())
          : value.is_number_integer() && std::in_range<std::int32_t>(value.get<std::int64_t>());
  check(fits, "\"{}\" is no integer of 32 bits", key);
  return value.get<std::int32_t>();
}

void overlay(const nlohmann::json& json, const char* key, int& field) {
  if (const nlohmann::json* value = find(json, key)) field = to_int(*value, key);
}

SamplingParams sampling_from(const nlohmann::json& json) {
  SamplingParams params;
  overlay(json, "temperature", params.temperature);
  overlay(json, "top_p", params.top_p);
  overlay(json, "top_k", params.top_k);
  overlay(json, "min_p", params.min_p);
  overlay(json, "repetition_penalty", params.repetition_penalty);
  overlay(json, "max_new_tokens", params.max_tokens);
  validate(params);
  return params;
}

std::vector<std::int32_t> eos_ids_from(const nlohmann::json& json, std::int64_t vocab_size) {
  std::vector<std::int32_t> ids;
  const nlohmann::json* value = find(json, "eos_token_id");
  if (!value) return ids;
  if (value->is_array())
    for (const nlohmann::json& id : *value) ids.push_back(to_int(id, "eos_token_id"));
  else
    ids.push_back(to_int(*value, "eos_token_id"));
  for (std::int32_t id : ids)
    check(id >= 0 && id < vocab_size, "\"eos_token_id\" {} is outside of the vocabulary of {}", id,
          vocab_size);
  return ids;
}

// Further end tokens and, when wanted, text generation's defaults from a model directory's
// generation_config.json.
void read_generation_config(const fs::path& path, bool sampling, Model::Impl& model) {
  const fs::path file = path / "generation_config.json";
  if (!fs::is_directory(path) || !fs::exists(file)) return;
  const nlohmann::json json = read_json_file(file);
  check(json.is_object(), "{}: not a JSON object", file.string());
  try {
    model.eos_ids = eos_ids_from(json, model.config.vocab_size);
    if (sampling) model.default_sampling = sampling_from(json);
  } catch (const Error& error) {
    fail("{}: {}", file.string(), error.what());
  }
}

// `ids` and the end tokens of config and tokenizer.
std::vector<std::int32_t> all_eos_ids(std::vector<std::int32_t> ids, const Config& config,
                                      const Tokenizer* tokenizer) {
  for (std::int64_t id : config.eos_token_ids) ids.push_back(static_cast<std::int32_t>(id));
  if (tokenizer) {
    const std::vector<std::int32_t> more = tokenizer->eos_ids();
    ids.insert(ids.end(), more.begin(), more.end());
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

// Refuses what could not be loaded, or not be used as planned.
void check_memory(const Model::Impl& model, const Mesh& mesh, const LoadOptions& options) {
  Workload workload;
  if (options.planned_batch_size > 0) {
    check(options.planned_length <= model.config.max_position_embeddings,
          "max_length is {}; the model has {} positions", options.planned_length,
          model.config.max_position_embeddings);
    workload.batch_size = options.planned_batch_size;
    // Where no length is asked for, a Generator takes what there is room for.
    workload.length = options.planned_length > 0
                          ? options.planned_length
                          : std::min(kShortestDefaultLength, model.config.max_position_embeddings);
  }
  const DeviceType device = mesh.devices().front().type;
  if (!fits(memory_needed(model.config, model.plan, model.dtype, device, workload),
            free_memory(device, mesh.world_size())))
    check_fits(model.config, mesh.world_size(), model.dtype, workload, free_memory(device));
}

// Every rank loads its own slices, all at the same time.
void load_all_weights(Model::Impl& model, const Checkpoint& checkpoint,
                      const LoadOptions& options) {
  const int world_size = model.team->world_size();
  std::uint64_t total = 0;
  for (int rank = 0; rank < world_size; ++rank)
    total += weight_bytes(model.config, model.plan, rank, model.dtype);

  std::mutex mutex;
  std::uint64_t done = 0;
  RankLoadOptions rank_options;
  rank_options.dtype = model.dtype;
  if (options.progress) {
    rank_options.progress = [&](std::size_t bytes) {
      const std::lock_guard lock(mutex);
      done += bytes;
      options.progress(done, total);
    };
  }
  model.weights.resize(static_cast<std::size_t>(world_size));
  model.team->run("loading", [&](Rank& rank) {
    model.weights[static_cast<std::size_t>(rank.id())] =
        load_weights(rank, checkpoint, model.plan, rank_options);
  });
}

}  // namespace

Model load_model(const std::string& name, const Mesh& mesh, const LoadOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  PullOptions pull = options.pull;
  pull.weights = !options.dummy_weights;
  const fs::path file = locate_model(name, pull);
  const std::unique_ptr<Checkpoint> checkpoint =
      options.dummy_weights ? open_dummy_checkpoint(file, options.dummy_seed)
                            : open_checkpoint(file);

  auto model = std::make_shared<Model::Impl>();
  model->config = checkpoint->config();
  model->dtype = options.dtype.value_or(model->config.dtype);
  check(model->dtype == DType::kFloat32 || model->dtype == DType::kBFloat16 ||
            model->dtype == DType::kFloat16,
        "weights cannot be kept as {}", name_of(model->dtype));
  model->plan = infer_sharding(model->config, mesh.world_size());
  model->check_memory = options.check_memory;
  if (options.check_memory) check_memory(*model, mesh, options);
  // The directory of a lone config.json may hold the rest as well.
  const fs::path home = file.filename() == "config.json" ? file.parent_path() : file;
  model->tokenizer = load_tokenizer(home);
  read_generation_config(home, options.use_generation_config, *model);
  model->eos_ids = all_eos_ids(std::move(model->eos_ids), model->config, model->tokenizer.get());
  model->team = std::make_shared<Team>(mesh, TeamOptions{options.deterministic});
  load_all_weights(*model, *checkpoint, options);
  model->load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return Model(std::move(model));
}

const Mesh& Model::mesh() const { return impl_->team->mesh(); }
DType Model::dtype() const { return impl_->dtype; }
std::int64_t Model::vocab_size() const { return impl_->config.vocab_size; }
std::int64_t Model::max_length() const { return impl_->config.max_position_embeddings; }
bool Model::has_tokenizer() const { return impl_->tokenizer != nullptr; }
const SamplingParams& Model::default_sampling() const { return impl_->default_sampling; }

}  // namespace lockstep
