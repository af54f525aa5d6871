// What the tests of the CPU operations share: tensors over vectors, seeded values, and runs on
// every SIMD target of this machine.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "core/convert.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/ops.h"

namespace lockstep::test {

inline constexpr DType kFloatTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
inline constexpr float kPoison = -12345.0f;

inline Tensor view(std::vector<float>& values, const Shape& shape) {
  return {values.data(), DType::kFloat32, shape, {}};
}
inline Tensor view(std::vector<std::int32_t>& values, const Shape& shape) {
  return {values.data(), DType::kInt32, shape, {}};
}

inline std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

// Values of a few binary digits more than bfloat16 keeps, of both signs and several magnitudes.
inline std::vector<float> noise(std::int64_t count, std::uint32_t seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(size(count));
  for (float& value : values) value = normal(random);
  return values;
}

inline std::uint16_t to_half(float value, DType dtype) {
  return dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_float16(value);
}
inline float from_half(std::uint16_t bits, DType dtype) {
  return dtype == DType::kBFloat16 ? bfloat16_to_float(bits) : float16_to_float(bits);
}
// What is left of a value that is stored in `dtype`.
inline float rounded(float value, DType dtype) {
  return dtype == DType::kFloat32 ? value : from_half(to_half(value, dtype), dtype);
}

inline std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
  std::vector<std::uint32_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<std::uint32_t>(value));
  return bits;
}

// The same bits, with a message that names the first difference.
inline ::testing::AssertionResult same_bits(const std::vector<float>& a,
                                            const std::vector<float>& b) {
  if (a.size() != b.size())
    return ::testing::AssertionFailure() << a.size() << " values against " << b.size();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      return ::testing::AssertionFailure() << "value " << i << " is " << a[i] << " against " << b[i]
                                           << " (" << std::hexfloat << a[i] << ", " << b[i] << ")";
  return ::testing::AssertionSuccess();
}

// Every test of the suite runs on every SIMD target of the machine.
class OnEveryTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { cpu::use_simd_target(GetParam()); }
  void TearDown() override { cpu::use_simd_target(""); }

  std::unique_ptr<Ops> ops_ = make_cpu_ops();
};

#define LOCKSTEP_ON_EVERY_TARGET(suite)                                                       \
  INSTANTIATE_TEST_SUITE_P(Simd, suite, ::testing::ValuesIn(::lockstep::cpu::simd_targets()), \
                           [](const auto& info) { return info.param; })

// Expects `expression` to throw Error with `part` in its message.
#define EXPECT_ERROR(expression, part)                                                  \
  try {                                                                                 \
    expression;                                                                         \
    ADD_FAILURE() << "no Error";                                                        \
  } catch (const ::lockstep::Error& error) {                                            \
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what(); \
  }

}  // namespace lockstep::test
