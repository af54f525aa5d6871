// The whole model on GPUs: against Hugging Face transformers, and the same bits on any number of
// them.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>

#include "checkpoint/test_files.h"
#include "cuda/harness.h"
#include "model/model_harness.h"
#include "spmd/devices.h"

namespace lockstep::test {
namespace {

class Forward : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "there is no GPU here";
  }
};

std::vector<std::int32_t> input_ids(const std::string& name) {
  auto ids = read_tensor<std::int32_t>(golden_path(name) / "expected.safetensors", "input_ids");
  if (kSimulated) ids.resize(6);
  return ids;
}

// What whole models are tested in.
std::vector<DType> model_dtypes() {
  if (kSimulated) return {DType::kBFloat16};
  return {std::begin(kFloatTypes), std::end(kFloatTypes)};
}

// Of the same tokens.
std::vector<float> expected_logits(const std::string& name) {
  const auto file = golden_path(name) / "expected.safetensors";
  auto logits = read_tensor<float>(file, "logits");
  const auto length = read_tensor<std::int32_t>(file, "input_ids").size();
  logits.resize(logits.size() / length * input_ids(name).size());
  return logits;
}

// Degrees that this host can have GPU ranks for and that the plan makes the same bits at.
std::vector<int> even_degrees() {
  std::vector<int> degrees;
  for (int ranks : {2, 4, 8})
    if (ranks <= max_cuda_ranks()) degrees.push_back(ranks);
  return degrees;
}

LoadedModel load_on_gpus(const std::string& name, int ranks, DType dtype, bool deterministic) {
  return LoadedModel(*open_checkpoint(golden_path(name)),
                     Mesh::tensor_parallel(ranks, DeviceType::kCuda), dtype, {deterministic});
}

// Every token in a step of its own: [tokens, vocab_size].
std::vector<float> decode_logits(const LoadedModel& model,
                                 const std::vector<std::int32_t>& tokens) {
  const auto length = static_cast<std::int64_t>(tokens.size());
  Session session(model, {1, length, length, length}, kv_blocks(length));
  std::vector<float> all;
  for (std::int64_t i = 0; i < length; ++i) {
    StepInput step;
    if (i == 0) step.admissions.push_back(admission(0, tokens, blocks_from(0, kv_blocks(length))));
    add_rows(step, 0, i, i + 1);
    const std::vector<float> logits = session.forward(step);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}

TEST_P(Forward, Float32MatchesTransformers) {
  const auto expected = expected_logits(GetParam());
  const auto tokens = input_ids(GetParam());
  for (int ranks = 1; ranks <= std::min(8, max_cuda_ranks()); ++ranks) {
    const LoadedModel model = load_on_gpus(GetParam(), ranks, DType::kFloat32, false);
    EXPECT_LT(relative_error(logits_of(model, tokens), expected), 1e-5) << ranks << " ranks";
  }
}

// float16 has three bits more.
TEST_P(Forward, SixteenBitsLoseNoMoreThanTransformersDo) {
  const auto expected = expected_logits(GetParam());
  const auto tokens = input_ids(GetParam());
  const double limit = 1.1 * transformers_bfloat16_error(GetParam());
  for (const auto& [dtype, part] : {std::pair{DType::kBFloat16, 1.0}, {DType::kFloat16, 0.125}}) {
    const LoadedModel model = load_on_gpus(GetParam(), 1, dtype, false);
    EXPECT_LE(rms_error(logits_of(model, tokens), expected), part * limit) << name_of(dtype);
    EXPECT_LE(rms_error(decode_logits(model, tokens), expected), part * limit) << name_of(dtype);
  }
}

TEST_P(Forward, DecodeHasTheSameBitsOnAnyNumberOfGpus) {
  if (GetParam() == "llama_odd") GTEST_SKIP() << "nothing divides here";
  const auto tokens = input_ids(GetParam());
  for (DType dtype : model_dtypes()) {
    const auto one = decode_logits(load_on_gpus(GetParam(), 1, dtype, false), tokens);
    for (int ranks : even_degrees())
      EXPECT_SAME_BITS(decode_logits(load_on_gpus(GetParam(), ranks, dtype, false), tokens), one);
  }
}

TEST_P(Forward, DeterministicPrefillHasTheBitsOfDecode) {
  const auto tokens = input_ids(GetParam());
  for (DType dtype : model_dtypes()) {
    const auto one = decode_logits(load_on_gpus(GetParam(), 1, dtype, true), tokens);
    EXPECT_SAME_BITS(logits_of(load_on_gpus(GetParam(), 1, dtype, true), tokens), one);
    if (GetParam() == "llama_odd") continue;
    for (int ranks : even_degrees())
      EXPECT_SAME_BITS(logits_of(load_on_gpus(GetParam(), ranks, dtype, true), tokens), one);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, Forward, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

// A checkpoint whose leaves suit the tensor cores, so that linear() takes its fast path.
constexpr int kHiddenSize = sized(1024, 512), kVocabSize = sized(4000, 200);
std::unique_ptr<Checkpoint> wide_checkpoint(int hidden_size = kHiddenSize) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"vocab_size", kVocabSize},
                                 {"hidden_size", hidden_size},
                                 {"intermediate_size", sized(2816, 1024)},
                                 {"num_hidden_layers", sized(3, 2)},
                                 {"num_attention_heads", sized(16, 8)},
                                 {"num_key_value_heads", 8},
                                 {"max_position_embeddings", 1024},
                                 {"rms_norm_eps", 1e-5},
                                 {"torch_dtype", "bfloat16"},
                                 {"head_dim", 64}};
  const TempDir folder;  // of this process alone: tests may run side by side
  return open_dummy_checkpoint(folder.write("config.json", config.dump()), 11);
}

LoadedModel wide_model(int ranks, DType dtype, bool deterministic = false,
                       int hidden_size = kHiddenSize) {
  return LoadedModel(*wide_checkpoint(hidden_size), Mesh::tensor_parallel(ranks, DeviceType::kCuda),
                     dtype, {deterministic});
}

std::vector<std::int32_t> random_tokens(std::int64_t count, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(random() % kVocabSize);
  return tokens;
}

class Wide : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "there is no GPU here";
  }
};

TEST_F(Wide, LogitsAreTheCpus) {
  const auto tokens = random_tokens(sized(150, 70), 1);
  const LoadedModel cpu(*wide_checkpoint(), 1, DType::kFloat32);
  const auto expected = logits_of(cpu, tokens);
  EXPECT_LT(relative_error(logits_of(wide_model(1, DType::kBFloat16), tokens), expected), 0.03);
  if (kSimulated) return;
  EXPECT_LT(relative_error(logits_of(wide_model(1, DType::kFloat32), tokens), expected), 1e-5);
  EXPECT_LT(relative_error(logits_of(wide_model(1, DType::kFloat16), tokens), expected), 0.004);
}

// So many rows that their sums over ranks are rounded in bfloat16.
TEST_F(Wide, LogitsOfALongPromptAreTheCpusOnAnyNumberOfGpus) {
  const auto tokens = random_tokens(sized(700, 1040), 6);
  const auto expected = logits_of(LoadedModel(*wide_checkpoint(), 1, DType::kFloat32), tokens);
  for (int ranks : {1, 2, 4, 8}) {
    if (ranks > cuda_device_count() || (kSimulated && (ranks == 2 || ranks == 8))) continue;
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    const auto error = [&](DType dtype) {
      return relative_error(logits_of(wide_model(ranks, dtype), tokens), expected);
    };
    EXPECT_LT(error(DType::kBFloat16), 0.03);
    if (kSimulated) continue;
    EXPECT_LT(error(DType::kFloat32), 1e-5);
    EXPECT_LT(error(DType::kFloat16), 0.004);
  }
}

TEST_F(Wide, DecodeHasTheSameBitsOnAnyNumberOfGpus) {
  const auto tokens = random_tokens(sized(40, 8), 2);
  for (DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    if (kSimulated && dtype == DType::kFloat16) continue;
    const auto one = decode_logits(wide_model(1, dtype), tokens);
    for (int ranks : even_degrees())
      EXPECT_SAME_BITS(decode_logits(wide_model(ranks, dtype), tokens), one);
  }
}

// Rows of a norm in two and four steps, which are exchanged as they are computed, and in more.
TEST_F(Wide, DecodeHasTheSameBitsOnAnyNumberOfGpusForLargeHiddenSizes) {
  const auto tokens = random_tokens(sized(6, 1), 5);
  const std::vector<int> hidden_sizes =
      kSimulated ? std::vector{4352} : std::vector{4096, 8192, 8704};
  for (int hidden_size : hidden_sizes) {
    SCOPED_TRACE(hidden_size);
    const auto one = decode_logits(wide_model(1, DType::kBFloat16, false, hidden_size), tokens);
    for (int ranks : even_degrees())
      EXPECT_SAME_BITS(
          decode_logits(wide_model(ranks, DType::kBFloat16, false, hidden_size), tokens), one);
  }
}

TEST_F(Wide, DeterministicPrefillHasTheSameBitsOnAnyNumberOfGpus) {
  const auto tokens = random_tokens(sized(200, 70), 3);
  const auto one = logits_of(wide_model(1, DType::kBFloat16, true), tokens);
  for (int ranks : even_degrees())
    EXPECT_SAME_BITS(logits_of(wide_model(ranks, DType::kBFloat16, true), tokens), one);
}

// A sequence's row among 1, 2, 7, 8, 33 and 64, in the first and in the last slot.
TEST_F(Wide, ARowsBitsDoNotDependOnItsBatch) {
  constexpr std::int32_t kLength = sized(20, 2);
  const auto tokens = random_tokens(kLength, 4);
  for (int ranks = 1; ranks <= std::min(2, max_cuda_ranks()); ++ranks) {
    const LoadedModel model = wide_model(ranks, DType::kBFloat16);
    const auto alone = decode_logits(model, tokens);
    const auto vocab_size = static_cast<std::size_t>(model.config.vocab_size);
    for (std::int32_t batch : {2, 7, 8, 33, 64}) {
      if (kSimulated && batch != 33) continue;
      for (std::int32_t slot : {0, batch - 1}) {
        Session session(model, {batch, 20, 64, 64}, batch * 2);
        std::vector<float> mine;
        for (std::int32_t position = 0; position < kLength; ++position) {
          StepInput step;
          for (std::int32_t other = 0; other < batch; ++other) {
            if (position == 0)
              step.admissions.push_back(
                  admission(other, other == slot ? tokens : random_tokens(kLength, 100 + other),
                            blocks_from(2 * other, 2)));
            add_rows(step, other, position, position + 1);
          }
          const std::vector<float> logits = session.forward(step);
          const auto first = logits.begin() + static_cast<std::ptrdiff_t>(vocab_size) * slot;
          mine.insert(mine.end(), first, first + static_cast<std::ptrdiff_t>(vocab_size));
        }
        EXPECT_SAME_BITS(mine, alone);
      }
    }
  }
}

}  // namespace
}  // namespace lockstep::test
