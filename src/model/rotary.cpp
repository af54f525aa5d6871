#include <cmath>
#include <numbers>
#include <vector>

#include "core/check.h"
#include "model/transformer.h"

namespace lockstep {
namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
float llama3_frequency(float frequency, const RopeScaling& scaling) {
  const auto context = static_cast<float>(scaling.original_max_position_embeddings);
  const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
  if (wavelength < context / scaling.high_freq_factor) return frequency;
  if (wavelength > context / scaling.low_freq_factor) return frequency / scaling.factor;
  const float smooth = (context / wavelength - scaling.low_freq_factor) /
                       (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0f - smooth) * (frequency / scaling.factor) + smooth * frequency;
}

}  // namespace

std::vector<float> rotary_frequencies(const Config& config) {
  const std::int64_t count = config.head_dim / 2;
  const std::vector<float>& divisors = config.rope_frequency_divisors;
  check(divisors.empty() || divisors.size() == static_cast<std::size_t>(count),
        "{} rotary frequency divisors for a head_dim of {}", divisors.size(), config.head_dim);
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < count; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(config.head_dim);
    float frequency = 1.0f / std::pow(config.rope_theta, exponent);
    if (config.rope_scaling.type == RopeScaling::Type::kLinear)
      frequency /= config.rope_scaling.factor;
    else if (config.rope_scaling.type == RopeScaling::Type::kLlama3)
      frequency = llama3_frequency(frequency, config.rope_scaling);
    if (!divisors.empty()) frequency /= divisors[static_cast<std::size_t>(i)];
    frequencies.push_back(frequency);
  }
  return frequencies;
}

}  // namespace lockstep
