// What load_weights() puts in place, read back from the matrices, against the checkpoint's tensors.
#include "sharding/loader.h"

#include <gmock/gmock.h>

#include <atomic>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <tuple>

#include "checkpoint/test_files.h"
#include "core/convert.h"
#include "core/dummy.h"
#include "lockstep/error.h"
#include "spmd/team.h"

namespace lockstep::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

fs::path golden_path(const std::string& name) {
  return fs::path(LOCKSTEP_GOLDEN_DIR) / "model" / name;
}

float rounded(float value, DType dtype) {
  if (dtype == DType::kBFloat16) return bfloat16_to_float(float_to_bfloat16(value));
  if (dtype == DType::kFloat16) return float16_to_float(float_to_float16(value));
  return value;
}

// Rectangles of the whole tensors, in float32.
class Reference {
 public:
  explicit Reference(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  std::vector<float> rows(const std::string& name, Range range) {
    const Whole& whole = tensor(name);
    return {whole.values.begin() + range.begin * whole.columns,
            whole.values.begin() + range.end * whole.columns};
  }
  std::vector<float> columns(const std::string& name, Range range) {
    const Whole& whole = tensor(name);
    std::vector<float> values;
    for (auto row = whole.values.begin(); row != whole.values.end(); row += whole.columns)
      values.insert(values.end(), row + range.begin, row + range.end);
    return values;
  }
  std::vector<float> all(const std::string& name) { return tensor(name).values; }

 private:
  struct Whole {
    std::vector<float> values;
    std::int64_t columns = 1;
  };

  const Whole& tensor(const std::string& name) {
    const auto [place, inserted] = tensors_.try_emplace(name);
    if (inserted) {
      const TensorInfo* info = checkpoint_.find(name);
      if (info == nullptr) throw Error("no tensor " + name);
      const bool matrix = info->shape.rank() == 2;
      place->second.columns = matrix ? info->shape[1] : 1;
      std::vector<char> bytes(static_cast<std::size_t>(info->shape.numel()) * size_of(info->dtype));
      checkpoint_.read(*info, {0, info->shape[0]}, {0, place->second.columns}, bytes.data());
      place->second.values = to_float32({bytes.data(), info->dtype, info->shape, {}});
    }
    return place->second;
  }

  const Checkpoint& checkpoint_;
  std::map<std::string, Whole> tensors_;
};

std::vector<float> concat(const std::vector<std::vector<float>>& parts) {
  std::vector<float> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

std::vector<float> all_rounded(std::vector<float> values, DType dtype) {
  for (float& value : values) value = rounded(value, dtype);
  return values;
}

// The matrix's elements, row by row.
std::vector<float> read_back(Ops& ops, const Matrix& matrix) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(matrix.out_features));
  std::iota(ids.begin(), ids.end(), 0);
  std::vector<float> values(ids.size() * static_cast<std::size_t>(matrix.in_features));
  ops.embedding({values.data(), DType::kFloat32, {matrix.out_features, matrix.in_features}, {}},
                matrix, {ids.data(), DType::kInt32, {matrix.out_features}, {}});
  return values;
}

std::vector<float> read_back(const OwnedTensor& vector) {
  const float* data = vector.tensor.as<const float>();
  return {data, data + vector.tensor.numel()};
}

struct Loaded {
  Loaded(const Checkpoint& checkpoint, int ranks, DType dtype)
      : plan(infer_sharding(checkpoint.config(), ranks)),
        team(Mesh::tensor_parallel(ranks, DeviceType::kCpu)),
        weights(static_cast<std::size_t>(ranks)),
        progress(static_cast<std::size_t>(ranks)) {
    team.run("loading", [&](Rank& rank) {
      const auto id = static_cast<std::size_t>(rank.id());
      weights[id] = load_weights(rank, checkpoint, plan,
                                 {dtype, [&, id](std::size_t bytes) { progress[id] += bytes; }});
    });
  }

  ShardPlan plan;
  Team team;
  std::vector<Weights> weights;       // by rank
  std::vector<std::size_t> progress;  // bytes that each rank announced
};

// Compares one linear layer; `modules` lie below each other in it.
struct LinearCheck {
  Reference& reference;
  Ops& ops;
  DType dtype;

  void column_parallel(const LinearWeights& linear,
                       const std::vector<std::pair<std::string, Range>>& modules, bool bias) const {
    std::vector<std::vector<float>> weights, biases;
    for (const auto& [module, rows] : modules) {
      SCOPED_TRACE(module);
      weights.push_back(reference.rows(module + ".weight", rows));
      if (bias) biases.push_back(reference.rows(module + ".bias", rows));
    }
    SCOPED_TRACE(modules.front().first);
    EXPECT_EQ(linear.weight.leaves, kLeaves);
    EXPECT_EQ(linear.weight.dtype, dtype);
    EXPECT_EQ(read_back(ops, linear.weight), all_rounded(concat(weights), dtype));
    ASSERT_EQ(linear.bias.has_value(), bias);
    if (!bias) return;
    EXPECT_EQ(read_back(*linear.bias), concat(biases));
  }

  void row_parallel(const LinearWeights& linear, const std::string& module, Range columns,
                    int leaves, bool bias) const {
    SCOPED_TRACE(module);
    EXPECT_EQ(linear.weight.leaves, leaves);
    EXPECT_EQ(linear.weight.dtype, dtype);
    EXPECT_EQ(linear.weight.in_features, columns.size());
    EXPECT_EQ(read_back(ops, linear.weight),
              all_rounded(reference.columns(module + ".weight", columns), dtype));
    ASSERT_EQ(linear.bias.has_value(), bias);
    if (!bias) return;
    EXPECT_EQ(read_back(*linear.bias), reference.all(module + ".bias"));
  }
};

void check_rank(const Checkpoint& checkpoint, const ShardPlan& plan, int rank,
                const Weights& weights, DType dtype) {
  const Config& config = checkpoint.config();
  const RankShard& shard = plan.ranks[static_cast<std::size_t>(rank)];
  const auto heads = [&](Range range) {
    return Range{range.begin * config.head_dim, range.end * config.head_dim};
  };
  Reference reference(checkpoint);
  const auto ops = make_cpu_ops();
  const LinearCheck check{reference, *ops, dtype};

  const std::string table = "model.embed_tokens.weight";
  EXPECT_EQ(read_back(*ops, weights.embed_tokens), all_rounded(reference.all(table), dtype));
  EXPECT_EQ(read_back(*ops, weights.lm_head),
            all_rounded(
                reference.rows(config.tie_word_embeddings ? table : "lm_head.weight", shard.vocab),
                dtype));
  EXPECT_EQ(read_back(weights.norm), reference.all("model.norm.weight"));
  ASSERT_EQ(static_cast<std::int64_t>(weights.layers.size()), config.num_hidden_layers);
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    const std::string attention = prefix + "self_attn.", mlp = prefix + "mlp.";
    EXPECT_EQ(read_back(layer.input_layernorm), reference.all(prefix + "input_layernorm.weight"));
    EXPECT_EQ(read_back(layer.post_attention_layernorm),
              reference.all(prefix + "post_attention_layernorm.weight"));
    ASSERT_EQ(layer.q_norm.has_value(), config.qk_norm);
    ASSERT_EQ(layer.k_norm.has_value(), config.qk_norm);
    if (config.qk_norm) {
      EXPECT_EQ(read_back(*layer.q_norm), reference.all(attention + "q_norm.weight"));
      EXPECT_EQ(read_back(*layer.k_norm), reference.all(attention + "k_norm.weight"));
    }
    check.column_parallel(layer.qkv_proj,
                          {{attention + "q_proj", heads(shard.heads)},
                           {attention + "k_proj", heads(shard.kv_heads)},
                           {attention + "v_proj", heads(shard.kv_heads)}},
                          config.qkv_bias);
    check.row_parallel(layer.o_proj, attention + "o_proj", heads(shard.heads),
                       plan.attention_leaves, config.o_bias);
    check.column_parallel(
        layer.gate_up_proj,
        {{mlp + "gate_proj", shard.intermediate}, {mlp + "up_proj", shard.intermediate}},
        config.mlp_bias);
    check.row_parallel(layer.down_proj, mlp + "down_proj", shard.intermediate, plan.mlp_leaves,
                       config.mlp_bias);
  }
}

void check_all(const Checkpoint& checkpoint, int ranks, DType dtype) {
  SCOPED_TRACE(testing::Message() << ranks << " ranks");
  const Loaded loaded(checkpoint, ranks, dtype);
  for (int rank = 0; rank < ranks; ++rank) {
    SCOPED_TRACE(testing::Message() << "rank " << rank);
    const auto id = static_cast<std::size_t>(rank);
    check_rank(checkpoint, loaded.plan, rank, loaded.weights[id], dtype);
    EXPECT_EQ(loaded.progress[id], weight_bytes(checkpoint.config(), loaded.plan, rank, dtype));
  }
}

// Biases, q/k norms, tied and untied, several files, and each dtype that files have.
class Loader : public testing::TestWithParam<std::tuple<std::string, DType>> {};
INSTANTIATE_TEST_SUITE_P(
    , Loader,
    testing::Combine(testing::Values("llama", "llama_odd", "llama_bias", "llama_mqa", "llama_tied",
                                     "llama_sharded", "llama_bf16", "mistral_f16", "qwen2",
                                     "qwen3_layer_types"),
                     testing::Values(DType::kFloat32, DType::kBFloat16, DType::kFloat16)),
    [](const auto& info) {
      return std::get<0>(info.param) + "_" + std::string(name_of(std::get<1>(info.param)));
    });

TEST_P(Loader, PutsEverySliceInPlace) {
  const auto& [name, dtype] = GetParam();
  const auto checkpoint = open_checkpoint(golden_path(name));
  for (int ranks : {1, 2, 3, 4, 7, 8}) check_all(*checkpoint, ranks, dtype);
}

TEST(LoadWeights, GgufFile) {
  for (const char* name : {"llama", "qwen2", "qwen3"}) {
    SCOPED_TRACE(name);
    const TempDir directory;
    const fs::path file = directory.path() / "model.gguf";
    fs::create_symlink(fs::path(LOCKSTEP_GOLDEN_DIR) / "checkpoint" / name / "model.gguf.bin",
                       file);
    const auto checkpoint = open_checkpoint(file);
    for (int ranks : {1, 2, 3}) check_all(*checkpoint, ranks, DType::kFloat32);
  }
}

TEST(LoadWeights, TiedHeadIsAViewOfTheTable) {
  const auto checkpoint = open_checkpoint(golden_path("llama_tied"));
  for (int ranks : {1, 4, 8}) {
    const Loaded loaded(*checkpoint, ranks, DType::kFloat32);
    for (const Weights& weights : loaded.weights) {
      EXPECT_EQ(weights.lm_head.storage, weights.embed_tokens.storage);
      const auto* table = static_cast<const char*>(weights.embed_tokens.data);
      const auto* head = static_cast<const char*>(weights.lm_head.data);
      EXPECT_GE(head, table);
      EXPECT_LE(head + weights.lm_head.bytes, table + weights.embed_tokens.bytes);
    }
  }
}

TEST(WeightBytes, CountsMatricesInTheirDtypeAndVectorsInFloat32) {
  const auto checkpoint = open_checkpoint(golden_path("llama"));
  const Config& config = checkpoint->config();
  // hidden 32, 8 heads and 8 KV heads of 4, intermediate 48, vocabulary 104, 2 layers.
  const std::size_t vectors = 32 + 2 * (32 + 32);
  const std::size_t layer = (3 * 32 + 32) * 32 + 3 * 48 * 32;
  const std::size_t matrices = 2 * 104 * 32 + 2 * layer;
  const ShardPlan one = infer_sharding(config, 1);
  EXPECT_EQ(weight_bytes(config, one, 0, DType::kFloat32), 4 * matrices + 4 * vectors);
  EXPECT_EQ(weight_bytes(config, one, 0, DType::kBFloat16), 2 * matrices + 4 * vectors);
  // Vocabulary blocks of 16: 64 tokens on the first rank, 40 on the second.
  const ShardPlan two = infer_sharding(config, 2);
  EXPECT_EQ(weight_bytes(config, two, 0, DType::kFloat32),
            4 * (104 * 32 + 64 * 32 + layer + vectors));
  EXPECT_EQ(weight_bytes(config, two, 1, DType::kFloat32),
            4 * (104 * 32 + 40 * 32 + layer + vectors));
}

// Weights that are longer than what the loader reads in one go, in rows that end within a piece.
TEST(LoadWeights, DummyWeightsAreTheSameAtEveryDegree) {
  const nlohmann::json json = {
      {"model_type", "qwen3"},    {"vocab_size", 3001},     {"hidden_size", 250},
      {"intermediate_size", 517}, {"num_hidden_layers", 1}, {"num_attention_heads", 6},
      {"num_key_value_heads", 2}, {"head_dim", 10},         {"max_position_embeddings", 16},
      {"rms_norm_eps", 1e-6},     {"rope_theta", 10000.0},  {"tie_word_embeddings", false},
      {"torch_dtype", "float32"}};
  const TempDir directory;
  const fs::path file = directory.write("config.json", json.dump());
  const auto checkpoint = open_dummy_checkpoint(file, 5);
  for (int ranks : {1, 2, 3, 6}) check_all(*checkpoint, ranks, DType::kFloat32);

  // check_all() compares with what the checkpoint says as a whole; the formula says the same.
  const Loaded loaded(*open_dummy_checkpoint(file, 5), 2, DType::kFloat32);
  const auto ops = make_cpu_ops();
  const Matrix& head = loaded.weights[1].lm_head;
  const std::vector<float> values = read_back(*ops, head);
  const auto first = static_cast<std::uint64_t>(loaded.plan.ranks[1].vocab.begin);
  const std::uint64_t key = dummy_key(5, "lm_head.weight");
  for (std::uint64_t row : {0, 1, 700, 1496})
    for (std::uint64_t column : {0, 17, 249})
      EXPECT_EQ(values.at(row * 250 + column), dummy_value(dummy_row(key, first + row), column, 0));
  const Loaded other(*open_dummy_checkpoint(file, 6), 2, DType::kFloat32);
  EXPECT_NE(read_back(*ops, other.weights[1].lm_head), values);
}

// Every rank reads while the file has become shorter than its header said.
TEST(LoadWeights, TruncatedFileIsAnErrorThatNamesFileAndTensor) {
  const TempDir directory;
  const fs::path source = golden_path("llama_sharded");
  for (const auto& entry : fs::directory_iterator(source))
    fs::copy_file(entry.path(), directory.path() / entry.path().filename());
  const auto checkpoint = open_checkpoint(directory.path());
  const TensorInfo* last = &checkpoint->tensors().back();
  const fs::path file = checkpoint->file_of(*last);
  fs::permissions(file, fs::perms::owner_write, fs::perm_options::add);
  fs::resize_file(file, fs::file_size(file) / 4);
  for (int ranks : {1, 4}) {
    try {
      const Loaded loaded(*checkpoint, ranks, DType::kFloat32);
      FAIL() << "loaded on " << ranks << " ranks";
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("truncated"));
      EXPECT_THAT(error.what(), HasSubstr(file.filename().string()));
      EXPECT_THAT(error.what(), HasSubstr("(tensor "));
      EXPECT_THAT(error.what(), HasSubstr("failed in loading"));
    }
  }
}

// Counts what is asked of a checkpoint.
class CountingCheckpoint : public Checkpoint {
 public:
  explicit CountingCheckpoint(std::unique_ptr<Checkpoint> inner) : inner_(std::move(inner)) {}
  const Config& config() const override { return inner_->config(); }
  const std::vector<TensorInfo>& tensors() const override { return inner_->tensors(); }
  const TensorInfo* find(const std::string& name) const override { return inner_->find(name); }
  std::string file_of(const TensorInfo& info) const override { return inner_->file_of(info); }
  void read(const TensorInfo& info, Range rows, Range columns, void* out) const override {
    elements_ += rows.size() * columns.size();
    inner_->read(info, rows, columns, out);
  }
  std::int64_t elements() const { return elements_; }

 private:
  std::unique_ptr<Checkpoint> inner_;
  mutable std::atomic<std::int64_t> elements_ = 0;
};

TEST(LoadWeights, ReadsItsSlicesAloneAndOnce) {
  for (int ranks : {1, 2, 5}) {
    const CountingCheckpoint checkpoint(open_checkpoint(golden_path("llama_odd")));
    const Loaded loaded(checkpoint, ranks, DType::kFloat32);
    std::int64_t expected = 0;
    for (int rank = 0; rank < ranks; ++rank)
      expected += static_cast<std::int64_t>(
          weight_bytes(checkpoint.config(), loaded.plan, rank, DType::kFloat32) / sizeof(float));
    EXPECT_EQ(checkpoint.elements(), expected);
  }
}

}  // namespace
}  // namespace lockstep::test
