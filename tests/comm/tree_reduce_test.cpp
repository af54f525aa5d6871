#include "comm/tree_reduce.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/convert.h"

namespace lockstep {
namespace {

// The tree of comm.h, spelled out.
float tree_sum(const std::vector<float>& x) {
  switch (x.size()) {
    case 1:
      return x[0];
    case 2:
      return x[0] + x[1];
    case 3:
      return (x[0] + x[1]) + x[2];
    case 4:
      return (x[0] + x[1]) + (x[2] + x[3]);
    case 5:
      return ((x[0] + x[1]) + (x[2] + x[3])) + x[4];
    case 6:
      return ((x[0] + x[1]) + (x[2] + x[3])) + (x[4] + x[5]);
    case 7:
      return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + x[6]);
    default:
      return ((x[0] + x[1]) + (x[2] + x[3])) + ((x[4] + x[5]) + (x[6] + x[7]));
  }
}

template <typename T>
std::vector<T> reduce(DType dtype, ReduceOp op, std::vector<std::vector<T>> ranks) {
  std::vector<const std::byte*> sources;
  for (const auto& rank : ranks) sources.push_back(reinterpret_cast<const std::byte*>(rank.data()));
  std::vector<T> result(ranks[0].size());
  std::byte* destination = reinterpret_cast<std::byte*>(result.data());
  tree_reduce(dtype, op, sources, {&destination, 1}, 0, static_cast<std::int64_t>(result.size()));
  return result;
}

// Values of very different sizes, so that every order of adding gives other bits.
std::vector<std::vector<float>> wild_values(std::size_t ranks, std::size_t size) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> mantissa(-1, 1);
  std::uniform_int_distribution<int> exponent(-12, 12);
  std::vector<std::vector<float>> values(ranks, std::vector<float>(size));
  for (auto& rank : values)
    for (float& value : rank) value = std::ldexp(mantissa(random), exponent(random));
  return values;
}

std::vector<float> of_all_ranks(const std::vector<std::vector<float>>& values, std::size_t i) {
  std::vector<float> column;
  for (const auto& rank : values) column.push_back(rank[i]);
  return column;
}

TEST(TreeReduce, AddsFloatsInTheOrderOfTheTree) {
  for (std::size_t ranks = 1; ranks <= 8; ++ranks) {
    const auto values = wild_values(ranks, 1337);
    const auto sums = reduce(DType::kFloat32, ReduceOp::kSum, values);
    int order_mattered = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const auto column = of_all_ranks(values, i);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(sums[i]),
                std::bit_cast<std::uint32_t>(tree_sum(column)))
          << ranks << " ranks, element " << i;
      float left_to_right = 0;
      for (float value : column) left_to_right += value;
      order_mattered += left_to_right != sums[i];
    }
    if (ranks > 3) {
      EXPECT_GT(order_mattered, 100) << ranks;
    }
  }
}

TEST(TreeReduce, WorldSizesThatArePowersOfTwoShareOneTree) {
  const auto leaves = wild_values(8, 600);
  const auto expected = reduce(DType::kFloat32, ReduceOp::kSum, leaves);
  for (std::size_t ranks : {2, 4}) {
    std::vector<std::vector<float>> partial_sums;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const auto first = leaves.begin() + static_cast<std::ptrdiff_t>(rank * 8 / ranks);
      const std::vector<std::vector<float>> own(first,
                                                first + static_cast<std::ptrdiff_t>(8 / ranks));
      partial_sums.push_back(reduce(DType::kFloat32, ReduceOp::kSum, own));
    }
    EXPECT_EQ(reduce(DType::kFloat32, ReduceOp::kSum, partial_sums), expected);
  }
}

TEST(TreeReduce, SixtyFourRanksAreAddedExactly) {
  std::vector<std::vector<std::int64_t>> values;
  for (std::int64_t rank = 0; rank < 64; ++rank)
    values.push_back({std::int64_t{1} << rank % 62, rank, -rank});
  std::int64_t first = 0;
  for (const auto& rank : values) first += rank[0];
  EXPECT_EQ(reduce(DType::kInt64, ReduceOp::kSum, values),
            (std::vector<std::int64_t>{first, 2016, -2016}));
}

template <typename ToFloat, typename FromFloat>
void expect_rounded_once(DType dtype, ToFloat to_float, FromFloat from_float) {
  for (std::size_t ranks = 2; ranks <= 8; ++ranks) {
    auto floats = wild_values(ranks, 1100);
    std::vector<std::vector<std::uint16_t>> halves(ranks);
    for (std::size_t rank = 0; rank < ranks; ++rank)
      for (float& value : floats[rank]) {
        halves[rank].push_back(from_float(value));
        value = to_float(halves[rank].back());
      }
    const auto sums = reduce(dtype, ReduceOp::kSum, halves);
    int twice_rounded_differs = 0;
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const auto column = of_all_ranks(floats, i);
      ASSERT_EQ(sums[i], from_float(tree_sum(column))) << ranks << " ranks, element " << i;
      float rounded = 0;
      for (float value : column) rounded = to_float(from_float(rounded + value));
      twice_rounded_differs += from_float(rounded) != sums[i];
    }
    if (ranks > 2) {
      EXPECT_GT(twice_rounded_differs, 50);
    }
  }
}

TEST(TreeReduce, SixteenBitFloatsAreAddedInFloat32AndRoundedOnce) {
  expect_rounded_once(DType::kBFloat16, bfloat16_to_float, float_to_bfloat16);
  expect_rounded_once(DType::kFloat16, float16_to_float, float_to_float16);
}

TEST(TreeReduce, IntegersWrap) {
  const auto max32 = std::numeric_limits<std::int32_t>::max();
  EXPECT_EQ(reduce<std::int32_t>(DType::kInt32, ReduceOp::kSum, {{max32, -5}, {1, 3}}),
            (std::vector<std::int32_t>{std::numeric_limits<std::int32_t>::min(), -2}));
  const auto max64 = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(reduce<std::int64_t>(DType::kInt64, ReduceOp::kSum, {{max64}, {max64}, {2}}),
            (std::vector<std::int64_t>{0}));
}

TEST(TreeReduce, MaximumAndMinimum) {
  const std::vector<std::vector<std::int32_t>> ints = {{3, -1, 7}, {9, -4, 7}, {-2, 0, 6}};
  EXPECT_EQ(reduce(DType::kInt32, ReduceOp::kMax, ints), (std::vector<std::int32_t>{9, 0, 7}));
  EXPECT_EQ(reduce(DType::kInt32, ReduceOp::kMin, ints), (std::vector<std::int32_t>{-2, -4, 6}));
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<std::vector<float>> floats = {{1.5f, -infinity}, {-8, 2}, {0, infinity}};
  EXPECT_EQ(reduce(DType::kFloat32, ReduceOp::kMax, floats), (std::vector<float>{1.5f, infinity}));
  EXPECT_EQ(reduce(DType::kFloat32, ReduceOp::kMin, floats), (std::vector<float>{-8, -infinity}));
}

TEST(TreeReduce, ANanOfAnyRankMakesTheResultNan) {
  for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin})
    for (std::size_t ranks = 1; ranks <= 8; ++ranks)
      for (std::size_t bad = 0; bad < ranks; ++bad) {
        std::vector<std::vector<float>> values(ranks, std::vector<float>(33, 1.f));
        std::fill(values[bad].begin() + 1, values[bad].end(), std::nanf(""));
        const auto result = reduce(DType::kFloat32, op, values);
        EXPECT_FALSE(std::isnan(result[0]));
        for (std::size_t i = 1; i < 33; ++i) EXPECT_TRUE(std::isnan(result[i]));

        std::vector<std::vector<std::uint16_t>> halves(ranks, {float_to_float16(1.f)});
        halves[bad][0] = float_to_float16(std::nanf(""));
        EXPECT_TRUE(std::isnan(float16_to_float(reduce(DType::kFloat16, op, halves)[0])));
      }
}

TEST(TreeReduce, ReducesTheRangeAloneAndWritesEveryDestination) {
  std::vector<std::vector<std::int32_t>> ranks = {std::vector<std::int32_t>(2000, 1),
                                                  std::vector<std::int32_t>(2000, 10)};
  std::vector<const std::byte*> sources;
  std::vector<std::byte*> destinations;
  for (auto& rank : ranks) {
    sources.push_back(reinterpret_cast<const std::byte*>(rank.data()));
    destinations.push_back(reinterpret_cast<std::byte*>(rank.data()));
  }
  tree_reduce(DType::kInt32, ReduceOp::kSum, sources, destinations, 3, 1997);
  for (std::size_t i = 0; i < 2000; ++i) {
    const bool within = 3 <= i && i < 1997;
    EXPECT_EQ(ranks[0][i], within ? 11 : 1);
    EXPECT_EQ(ranks[1][i], within ? 11 : 10);
  }
}

}  // namespace
}  // namespace lockstep
