// The whole forward pass against Hugging Face transformers (tests/golden/model, made by
// scripts/golden/make_model_golden.py).
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "checkpoint/test_files.h"
#include "core/convert.h"
#include "lockstep/error.h"
#include "model/model_harness.h"

namespace lockstep::test {
namespace {

namespace fs = std::filesystem;

// Both sides round: the golden data's own float32_rounding reaches 4.2e-6.
constexpr double kMaxError = 1e-5;

struct Expected {
  std::vector<std::int32_t> ids;
  std::vector<float> logits;  // [ids, vocab_size]
};

Expected expected_of(const std::string& name) {
  const fs::path file = golden_path(name) / "expected.safetensors";
  return {read_tensor<std::int32_t>(file, "input_ids"), read_tensor<float>(file, "logits")};
}

TEST(Golden, HasEveryCheckpointOfTheManifest) {
  std::ifstream file(golden_path("manifest.json"));
  std::vector<std::string> names;
  const auto manifest = nlohmann::json::parse(file);
  for (const auto& checkpoint : manifest.at("checkpoints")) names.push_back(checkpoint.at("name"));
  EXPECT_THAT(golden_names(), testing::UnorderedElementsAreArray(names));
}

class Forward : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, Forward, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

TEST_P(Forward, EqualsTransformers) {
  const Expected expected = expected_of(GetParam());
  for (int ranks : {1, 2, 4, 8}) {
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    const LoadedModel model = load(golden_path(GetParam()), ranks);
    EXPECT_LT(relative_error(logits_of(model, expected.ids), expected.logits), kMaxError);
  }
}

// The same model in the words of transformers 4.
TEST_P(Forward, EqualsTransformersWithConfigOfVersion4) {
  const fs::path source = golden_path(GetParam());
  if (!fs::exists(source / "config_v4.json")) return;  // not every checkpoint has one
  const TempDir directory;
  for (const auto& entry : fs::directory_iterator(source))
    if (entry.path().filename().string().starts_with("model"))
      fs::create_symlink(entry.path(), directory.path() / entry.path().filename());
  fs::copy_file(source / "config_v4.json", directory.path() / "config.json");

  const Expected expected = expected_of(GetParam());
  const std::vector<float> logits = logits_of(load(source, 1), expected.ids);
  EXPECT_SAME_BITS(logits_of(load(directory.path(), 1), expected.ids), logits);
}

// Weights that are kept as they are stored give the same bits as the same weights in float32.
TEST(SixteenBits, LoseNothingWhenKept) {
  for (const auto& [name, dtype] :
       {std::pair{"llama_bf16", DType::kBFloat16}, std::pair{"mistral_f16", DType::kFloat16}}) {
    SCOPED_TRACE(name);
    const Expected expected = expected_of(name);
    const std::vector<float> logits = logits_of(load(golden_path(name), 1), expected.ids);
    const LoadedModel kept = load(golden_path(name), 1, dtype);
    EXPECT_SAME_BITS(logits_of(kept, expected.ids, DType::kFloat32), logits);
    // A cache of 16 bits rounds keys and values.
    const double error = relative_error(logits_of(kept, expected.ids), logits);
    EXPECT_GT(error, 0);
    EXPECT_LT(error, 0.02);
  }
}

TEST_P(Forward, Bfloat16LosesNoMoreThanTransformersDo) {
  const Expected expected = expected_of(GetParam());
  const LoadedModel model = load(golden_path(GetParam()), 1, DType::kBFloat16);
  EXPECT_LE(rms_error(logits_of(model, expected.ids), expected.logits),
            1.1 * transformers_bfloat16_error(GetParam()));
}

class SmolLM2 : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, SmolLM2, testing::Values(1, 4), testing::PrintToStringParamName());

TEST_P(SmolLM2, EqualsTransformersOnText) {
  const LoadedModel model = load(smollm2_path(), GetParam());
  const auto vocab_size = static_cast<std::size_t>(model.config.vocab_size);
  const fs::path file = golden_path("smollm2") / "logits.safetensors";
  const auto ids = read_tensor<std::int32_t>(file, "input_ids");
  const std::vector<float> logits = logits_of(model, ids);
  ASSERT_EQ(logits.size(), ids.size() * vocab_size);

  const auto full_positions = read_tensor<std::int32_t>(file, "full_positions");
  std::vector<float> full;
  for (std::int32_t position : full_positions) {
    const auto row = logits.begin() + position * model.config.vocab_size;
    full.insert(full.end(), row, row + model.config.vocab_size);
  }
  EXPECT_LT(relative_error(full, read_tensor<float>(file, "full_logits")), 1e-4);

  const auto probe_ids = read_tensor<std::int32_t>(file, "probe_ids");
  const auto expected_argmax = read_tensor<std::int32_t>(file, "argmax");
  std::vector<float> probes, largest, logsumexp;
  std::vector<std::int32_t> argmax;
  for (std::size_t row = 0; row < ids.size(); ++row) {
    const float* values = logits.data() + row * vocab_size;
    for (std::int32_t id : probe_ids) probes.push_back(values[id]);
    const float* best = std::max_element(values, values + vocab_size);
    argmax.push_back(static_cast<std::int32_t>(best - values));
    largest.push_back(*best);
    double sum = 0;
    for (std::size_t id = 0; id < vocab_size; ++id)
      sum += std::exp(static_cast<double>(values[id]) - *best);
    logsumexp.push_back(static_cast<float>(*best + std::log(sum)));
  }
  EXPECT_LT(relative_error(probes, read_tensor<float>(file, "probe_logits")), 1e-4);
  EXPECT_LT(relative_error(largest, read_tensor<float>(file, "max")), 1e-4);
  EXPECT_LT(relative_error(logsumexp, read_tensor<float>(file, "logsumexp")), 1e-4);
  EXPECT_EQ(argmax, expected_argmax);
}

}  // namespace
}  // namespace lockstep::test
