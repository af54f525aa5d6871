#include "model/model_harness.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <type_traits>
#include <utility>

#include "checkpoint/file.h"
#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "sharding/loader.h"

namespace lockstep::test {

namespace fs = std::filesystem;

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(fs::path(LOCKSTEP_GOLDEN_DIR) / "model"))
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> even_golden_names() {
  std::vector<std::string> names = golden_names();
  std::erase(names, "llama_odd");
  return names;
}

fs::path golden_path(const std::string& name) {
  return fs::path(LOCKSTEP_GOLDEN_DIR) / "model" / name;
}

fs::path smollm2_path() {
  const char* assets = std::getenv("LOCKSTEP_TEST_ASSETS");
  const fs::path directory = assets ? fs::path(assets) : fs::path(LOCKSTEP_SOURCE_DIR) / ".cache";
  fs::path path = directory / "SmolLM2-135M-Instruct.Q4_1.gguf";
  check(fs::exists(path), "{}: the demo model is not there; scripts/demo-model.sh fetches it",
        path.string());
  return path;
}

template <typename T>
std::vector<T> read_tensor(const fs::path& path, const std::string& name) {
  const File file(path);
  for (const SafetensorsTensor& tensor : read_safetensors_header(file)) {
    if (tensor.name != name) continue;
    check(tensor.dtype == (std::is_same_v<T, float> ? "F32" : "I32"), "{}: {} is {}", path.string(),
          name, tensor.dtype);
    std::vector<T> values(tensor.bytes / sizeof(T));
    file.read(tensor.offset, tensor.bytes, values.data());
    return values;
  }
  fail("{}: no tensor {}", path.string(), name);
}
template std::vector<float> read_tensor(const fs::path&, const std::string&);
template std::vector<std::int32_t> read_tensor(const fs::path&, const std::string&);

LoadedModel::LoadedModel(const Checkpoint& checkpoint, int ranks, DType weights_dtype)
    : LoadedModel(checkpoint, Mesh::tensor_parallel(ranks, DeviceType::kCpu), weights_dtype) {}

LoadedModel::LoadedModel(const Checkpoint& checkpoint, const Mesh& mesh, DType weights_dtype,
                         const TeamOptions& options)
    : config(checkpoint.config()),
      plan(infer_sharding(config, mesh.world_size())),
      dtype(weights_dtype),
      team(std::make_shared<Team>(mesh, options)),
      weights(static_cast<std::size_t>(mesh.world_size())) {
  team->run("loading", [&](Rank& rank) {
    weights[static_cast<std::size_t>(rank.id())] =
        load_weights(rank, checkpoint, plan, {dtype, nullptr});
  });
}

LoadedModel load(const fs::path& path, int ranks, DType dtype) {
  return LoadedModel(*open_checkpoint(path), ranks, dtype);
}

Admission admission(std::int32_t slot, std::vector<std::int32_t> tokens,
                    std::vector<std::int32_t> blocks) {
  Admission result;
  result.slot = slot;
  result.tokens = std::move(tokens);
  result.blocks = std::move(blocks);
  return result;
}

void add_rows(StepInput& step, std::int32_t slot, std::int64_t begin, std::int64_t end) {
  for (std::int64_t position = begin; position < end; ++position) {
    step.logit_rows.push_back(static_cast<std::int32_t>(step.slots.size()));
    step.slots.push_back(slot);
    step.positions.push_back(static_cast<std::int32_t>(position));
  }
}

std::vector<std::int32_t> blocks_from(std::int32_t first, std::int64_t count) {
  std::vector<std::int32_t> blocks(static_cast<std::size_t>(count));
  std::iota(blocks.begin(), blocks.end(), first);
  return blocks;
}

Session::RankState::RankState(Rank& its_rank, const LoadedModel& model, const BatchLimits& limits,
                              std::int64_t num_blocks, DType cache_dtype)
    : rank(its_rank),
      cache(rank, model.config, model.plan.ranks[static_cast<std::size_t>(rank.id())], num_blocks,
            cache_dtype),
      batch(rank, limits),
      transformer(rank, model.config, model.plan,
                  model.weights[static_cast<std::size_t>(rank.id())], limits) {
  for (std::int64_t i = 0; i < model.config.num_hidden_layers; ++i)
    for (const Tensor& tensor : {cache.layer(i).keys, cache.layer(i).values}) {
      std::vector<char> poison(tensor.bytes(), '\xff');
      rank.ops().upload(tensor, {poison.data(), tensor.dtype, tensor.shape, Device{}});
    }
}

Session::Session(const LoadedModel& model, const BatchLimits& limits, std::int64_t num_blocks)
    : Session(model, limits, num_blocks, model.dtype) {}

Session::Session(const LoadedModel& model, const BatchLimits& limits, std::int64_t num_blocks,
                 DType cache_dtype)
    : model_(model), states_(static_cast<std::size_t>(model.team->world_size())) {
  model_.team->run("set-up", [&](Rank& rank) {
    states_[static_cast<std::size_t>(rank.id())] =
        std::make_unique<RankState>(rank, model, limits, num_blocks, cache_dtype);
  });
}

Session::~Session() = default;

void Session::run(const std::function<void(RankState&)>& function) {
  model_.team->run("a test's step",
                   [&](Rank& rank) { function(*states_[static_cast<std::size_t>(rank.id())]); });
}

std::vector<float> Session::forward(const StepInput& step) {
  const auto vocab_size = static_cast<std::size_t>(model_.config.vocab_size);
  std::vector<float> whole(step.logit_rows.size() * vocab_size);
  run([&](RankState& state) {
    state.batch.upload(step);
    const Tensor logits = state.transformer.forward(state.batch, state.cache);
    const Range vocab = model_.plan.ranks[static_cast<std::size_t>(state.rank.id())].vocab;
    check(logits.shape == Shape{static_cast<std::int64_t>(step.logit_rows.size()), vocab.size()},
          "logits of shape {}", to_string(logits.shape));
    std::vector<float> part(static_cast<std::size_t>(logits.numel()));
    state.rank.ops().download({part.data(), logits.dtype, logits.shape, Device{}}, logits);
    for (std::size_t row = 0; row < step.logit_rows.size(); ++row)
      std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(row) * vocab.size(), vocab.size(),
                  whole.begin() + static_cast<std::ptrdiff_t>(row * vocab_size) + vocab.begin);
  });
  return whole;
}

std::vector<float> logits_of(const LoadedModel& model, const std::vector<std::int32_t>& tokens,
                             DType cache_dtype) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  Session session(model, {1, length, length, length}, kv_blocks(length), cache_dtype);
  StepInput step;
  step.admissions.push_back(admission(0, tokens, blocks_from(0, kv_blocks(length))));
  add_rows(step, 0, 0, length);
  return session.forward(step);
}

std::vector<float> logits_of(const LoadedModel& model, const std::vector<std::int32_t>& tokens) {
  return logits_of(model, tokens, model.dtype);
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, largest = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i])) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, std::abs(static_cast<double>(actual[i]) - expected[i]));
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
  }
  return difference / largest;
}

double rms_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, total = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(actual[i])) return std::numeric_limits<double>::infinity();
    const double error = static_cast<double>(actual[i]) - expected[i];
    difference += error * error;
    total += static_cast<double>(expected[i]) * expected[i];
  }
  return std::sqrt(difference / total);
}

double transformers_bfloat16_error(const std::string& name) {
  std::ifstream file(golden_path("manifest.json"));
  const auto manifest = nlohmann::json::parse(file);
  for (const auto& checkpoint : manifest.at("checkpoints"))
    if (checkpoint.at("name") == name) return checkpoint.at("bfloat16_error");
  fail("manifest.json has no {}", name);
}

BitDifference bit_difference(const std::vector<float>& actual, const std::vector<float>& expected) {
  BitDifference difference;
  if (actual.size() != expected.size()) {
    difference.count = std::max(actual.size(), expected.size());
    difference.first = fmt::format("{} numbers instead of {}", actual.size(), expected.size());
    return difference;
  }
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (std::bit_cast<std::uint32_t>(actual[i]) == std::bit_cast<std::uint32_t>(expected[i]) &&
        !std::isnan(actual[i]))
      continue;
    if (difference.count++ == 0)
      difference.first = fmt::format("number {} is {} instead of {}", i, actual[i], expected[i]);
  }
  return difference;
}

std::ostream& operator<<(std::ostream& out, const BitDifference& difference) {
  return out << difference.count << " numbers differ; the first: " << difference.first;
}

}  // namespace lockstep::test
