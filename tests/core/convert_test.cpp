#include "core/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "lockstep/error.h"

namespace lockstep {
namespace {

// Every 16-bit pattern goes to float32 and back unchanged (NaNs stay NaNs).
TEST(Convert, EveryFloat16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = float16_to_float(half);
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(float16_to_float(float_to_float16(value)))) << bits;
    else
      ASSERT_EQ(float_to_float16(value), half) << bits;
  }
}

TEST(Convert, EveryBFloat16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const float value = bfloat16_to_float(half);
    if (std::isnan(value))
      EXPECT_TRUE(std::isnan(bfloat16_to_float(float_to_bfloat16(value)))) << bits;
    else
      ASSERT_EQ(float_to_bfloat16(value), half) << bits;
  }
}

// Neighbouring float16 values a and b: what lies between goes to the nearer, the middle to the even
// one.
TEST(Convert, Float16RoundsToNearestEven) {
  for (std::uint16_t bits = 0; bits < 0x7bff; ++bits) {
    const auto next = static_cast<std::uint16_t>(bits + 1);
    const double a = float16_to_float(bits), b = float16_to_float(next);
    const auto middle = static_cast<float>((a + b) / 2);  // exact in float32
    ASSERT_EQ(float_to_float16(middle), bits % 2 == 0 ? bits : next) << bits;
    ASSERT_EQ(float_to_float16(std::nextafter(middle, 0.0f)), bits) << bits;
    ASSERT_EQ(float_to_float16(std::nextafter(middle, 1e9f)), next) << bits;
    ASSERT_EQ(float_to_float16(-middle), (bits % 2 == 0 ? bits : next) | 0x8000) << bits;
  }
}

TEST(Convert, BFloat16RoundsToNearestEven) {
  for (std::uint32_t bits = 0; bits < 0x7f7f; ++bits) {
    const std::uint32_t middle = (bits << 16) + 0x8000;
    const auto expect = [&](std::uint32_t float_bits, std::uint32_t expected) {
      ASSERT_EQ(float_to_bfloat16(std::bit_cast<float>(float_bits)), expected) << bits;
    };
    expect(middle, bits % 2 == 0 ? bits : bits + 1);
    expect(middle - 1, bits);
    expect(middle + 1, bits + 1);
  }
}

TEST(Convert, OverflowBecomesInfinity) {
  EXPECT_EQ(float_to_float16(65519.996f), 0x7bff);
  EXPECT_EQ(float_to_float16(65520.0f), 0x7c00);
  EXPECT_EQ(float_to_float16(-1e30f), 0xfc00);
  EXPECT_EQ(float_to_bfloat16(std::numeric_limits<float>::max()), 0x7f80);
}

TEST(Convert, TensorsOfEveryFloatingDtype) {
  std::uint16_t halves[] = {0x3c00, 0xc000};
  EXPECT_THAT(to_float32({halves, DType::kFloat16, {2}, {}}), testing::ElementsAre(1.0f, -2.0f));
  EXPECT_THAT(to_float32({halves, DType::kBFloat16, {1}, {}}),
              testing::ElementsAre(bfloat16_to_float(0x3c00)));
  std::int32_t integers[] = {1};
  EXPECT_THROW(to_float32({integers, DType::kInt32, {1}, {}}), Error);
}

}  // namespace
}  // namespace lockstep
