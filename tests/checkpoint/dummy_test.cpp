#include "core/dummy.h"

#include <gmock/gmock.h>

#include <cmath>

#include "checkpoint/checkpoint.h"
#include "core/convert.h"
#include "test_files.h"

namespace lockstep {
namespace {

using test::read_floats;
using test::TempDir;
using testing::HasSubstr;

std::unique_ptr<Checkpoint> dummy(const char* dtype, std::uint64_t seed = 0,
                                  std::int64_t hidden = 8) {
  TempDir directory;
  nlohmann::json config = test::tiny_config_json();
  config["torch_dtype"] = dtype;
  config["hidden_size"] = hidden;
  config["attention_bias"] = true;
  directory.write("config.json", config.dump());
  return open_dummy_checkpoint(directory.path(), seed);
}

// The formula, evaluated by hand (with Python's integers): other devices must make these bits.
TEST(Dummy, FormulaIsFixed) {
  EXPECT_EQ(dummy_mix(0), 0xe220a8397b1dcdafu);  // splitmix64's first output for seed 0
  const std::uint64_t key = dummy_key(7, "model.layers.3.mlp.up_proj.weight");
  EXPECT_EQ(key, 0xffc3de40ca365567u);
  EXPECT_EQ(dummy_value(dummy_row(key, 5), 9, 0), -1032.0f * 0x1p-21f);
  EXPECT_EQ(dummy_value(dummy_row(key, 5), 9, kDummyNormBase), 2096120.0f * 0x1p-21f);
}

TEST(Dummy, HasEveryTensorOfTheConfig) {
  const auto checkpoint = dummy("bfloat16");
  const auto expected = expected_tensors(checkpoint->config());
  ASSERT_EQ(checkpoint->tensors().size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(checkpoint->tensors()[i].name, expected[i].name);
    EXPECT_EQ(checkpoint->tensors()[i].shape, expected[i].shape);
    EXPECT_EQ(checkpoint->tensors()[i].dtype, DType::kBFloat16);
  }
}

TEST(Dummy, RectanglesEqualTheWhole) {
  const auto checkpoint = dummy("float32");
  const TensorInfo& info = *checkpoint->find("model.layers.0.self_attn.q_proj.weight");
  const std::vector<float> whole = read_floats(*checkpoint, info);
  std::vector<float> expected;
  for (std::int64_t row = 2; row < 5; ++row)
    for (std::int64_t column = 3; column < 7; ++column)
      expected.push_back(whole[static_cast<std::size_t>(row * 8 + column)]);
  EXPECT_EQ(read_floats(*checkpoint, info, {2, 5}, {3, 7}), expected);
  EXPECT_EQ(whole[1 * 8 + 2], dummy_value(dummy_row(dummy_key(0, info.name), 1), 2, 0));
}

TEST(Dummy, SeedsNamesRowsAndColumnsAllMatter) {
  const auto first = dummy("float32", 1);
  const auto second = dummy("float32", 2);
  const TensorInfo& query = *first->find("model.layers.0.self_attn.q_proj.weight");
  const TensorInfo& output = *first->find("model.layers.0.self_attn.o_proj.weight");
  const std::vector<float> values = read_floats(*first, query);
  EXPECT_NE(values, read_floats(*second, query));
  EXPECT_NE(values, read_floats(*first, output));
  EXPECT_EQ(values, read_floats(*dummy("float32", 1), query));
  EXPECT_GT(std::set<float>(values.begin(), values.end()).size(), 60u);
}

TEST(Dummy, SixteenBitWeightsAreRoundedOnce) {
  const auto exact = dummy("float32");
  for (const char* dtype : {"bfloat16", "float16"}) {
    const auto rounded = dummy(dtype);
    for (const TensorInfo& info : exact->tensors()) {
      std::vector<float> expected = read_floats(*exact, info);
      for (float& value : expected)
        value = dtype == std::string("float16") ? float16_to_float(float_to_float16(value))
                                                : bfloat16_to_float(float_to_bfloat16(value));
      EXPECT_EQ(read_floats(*rounded, *rounded->find(info.name)), expected);
    }
  }
}

TEST(Dummy, MomentsAreThoseOfAnInitialisedModel) {
  const auto checkpoint = dummy("float32", 0, 512);
  const auto moments = [&](const char* name) {
    const std::vector<float> values = read_floats(*checkpoint, *checkpoint->find(name));
    double sum = 0, squares = 0;
    for (const float value : values) sum += value;
    const double mean = sum / static_cast<double>(values.size());
    for (const float value : values) squares += (value - mean) * (value - mean);
    return std::pair(mean, std::sqrt(squares / static_cast<double>(values.size())));
  };
  const auto [mean, deviation] = moments("model.layers.0.self_attn.q_proj.weight");  // 512 x 512
  EXPECT_NEAR(mean, 0.0, 0.0002);
  EXPECT_NEAR(deviation, 0.01804, 0.0002);
  const auto [norm_mean, norm_deviation] = moments("model.layers.0.input_layernorm.weight");
  EXPECT_NEAR(norm_mean, 1.0, 0.004);
  EXPECT_NEAR(norm_deviation, 0.018, 0.003);
  const auto [bias_mean, bias_deviation] = moments("model.layers.0.self_attn.q_proj.bias");
  EXPECT_NEAR(bias_mean, 0.0, 0.004);
  EXPECT_NEAR(bias_deviation, 0.018, 0.003);
}

TEST(Dummy, TakesTheDirectoryOrTheFile) {
  TempDir directory;
  const auto path = directory.write("config.json", test::tiny_config_json().dump());
  EXPECT_EQ(open_dummy_checkpoint(path)->tensors().size(),
            open_dummy_checkpoint(directory.path())->tensors().size());
  EXPECT_THAT(test::error_of([&] { open_dummy_checkpoint(directory.path() / "none"); }),
              HasSubstr("none"));
}

}  // namespace
}  // namespace lockstep
