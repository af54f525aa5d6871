#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "lockstep/error.h"
#include "model/transformer.h"

namespace lockstep {
namespace {

// What the formulas say, in double precision.
std::vector<double> plain(double theta, int head_dim) {
  std::vector<double> frequencies;
  for (int i = 0; i < head_dim / 2; ++i)
    frequencies.push_back(std::pow(theta, -2.0 * i / head_dim));
  return frequencies;
}

void expect_close(const std::vector<float>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], 1e-6 * expected[i]) << i;
}

Config config_of(float theta, int head_dim) {
  Config config;
  config.rope_theta = theta;
  config.head_dim = head_dim;
  return config;
}

TEST(RotaryFrequencies, Plain) {
  for (float theta : {10000.0f, 500000.0f, 1000000.0f})
    for (int head_dim : {2, 6, 64, 128})
      expect_close(rotary_frequencies(config_of(theta, head_dim)), plain(theta, head_dim));
  EXPECT_EQ(rotary_frequencies(config_of(10000.0f, 8)),
            (std::vector<float>{1.0f, 0.1f, 0.01f, 0.001f}));
}

TEST(RotaryFrequencies, Linear) {
  Config config = config_of(10000.0f, 64);
  config.rope_scaling = {.type = RopeScaling::Type::kLinear, .factor = 4.0f};
  std::vector<double> expected = plain(10000.0, 64);
  for (double& frequency : expected) frequency /= 4.0;
  expect_close(rotary_frequencies(config), expected);
}

// Llama 3.1 as its configuration has it.
TEST(RotaryFrequencies, Llama3) {
  Config config = config_of(500000.0f, 128);
  config.rope_scaling = {.type = RopeScaling::Type::kLlama3,
                         .factor = 8.0f,
                         .low_freq_factor = 1.0f,
                         .high_freq_factor = 4.0f,
                         .original_max_position_embeddings = 8192};
  std::vector<double> expected = plain(500000.0, 128);
  int kept = 0, blended = 0, divided = 0;
  for (double& frequency : expected) {
    // How often a pair turns round within the original context.
    const double turns = 8192 * frequency / (2 * std::numbers::pi);
    if (turns > 4.0) {
      ++kept;
    } else if (turns < 1.0) {
      ++divided;
      frequency /= 8.0;
    } else {
      ++blended;
      const double share = (turns - 1.0) / (4.0 - 1.0);
      frequency = share * frequency + (1 - share) * frequency / 8.0;
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(blended, 0);
  EXPECT_GT(divided, 0);
  expect_close(rotary_frequencies(config), expected);
}

// GGUF files carry what Llama 3.1's rule comes to as divisors.
TEST(RotaryFrequencies, Divisors) {
  Config config = config_of(10000.0f, 4);
  config.rope_frequency_divisors = {1.0f, 8.0f};
  EXPECT_EQ(rotary_frequencies(config), (std::vector<float>{1.0f, 0.01f / 8.0f}));
  config.rope_frequency_divisors = {1.0f};
  EXPECT_THROW(rotary_frequencies(config), Error);
}

}  // namespace
}  // namespace lockstep
