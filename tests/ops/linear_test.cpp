// linear() against a scalar implementation of the canonical sum: equal bit for bit.
#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "ops/helpers.h"

namespace lockstep::test {
namespace {

// The canonical tree over sums [begin, begin + count): it splits at the largest power of two below
// count.
float tree_sum(const std::vector<float>& sums, std::size_t begin, std::size_t count) {
  if (count == 1) return sums[begin];
  const std::size_t half = std::bit_floor(count - 1);
  return tree_sum(sums, begin, half) + tree_sum(sums, begin + half, count - half);
}

// One output: docs/canonical-sum.md, written down as plainly as possible. Weights [in_features].
float canonical_dot(const float* x, const float* weights, std::int64_t in_features, int leaves) {
  const std::int64_t leaf_size = (in_features + leaves - 1) / leaves;
  std::vector<float> sums;
  for (int leaf = 0; leaf < leaves; ++leaf) {
    float sum = 0.0f;
    for (std::int64_t k = leaf * leaf_size; k < std::min(in_features, (leaf + 1) * leaf_size); ++k)
      sum = std::fma(weights[k], x[k], sum);
    sums.push_back(sum);
  }
  return tree_sum(sums, 0, sums.size());
}

std::vector<float> reference(const std::vector<float>& x, const std::vector<float>& weights,
                             std::int64_t rows, std::int64_t out_features, std::int64_t in_features,
                             int leaves, DType dtype, const std::vector<float>* bias = nullptr) {
  std::vector<float> stored;
  for (float weight : weights) stored.push_back(rounded(weight, dtype));
  std::vector<float> out;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t n = 0; n < out_features; ++n) {
      const float sum = canonical_dot(x.data() + row * in_features, stored.data() + n * in_features,
                                      in_features, leaves);
      out.push_back(bias ? sum + (*bias)[size(n)] : sum);
    }
  }
  return out;
}

class Linear : public OnEveryTarget {
 protected:
  Matrix matrix_of(std::vector<float> weights, std::int64_t out_features, std::int64_t in_features,
                   int leaves, DType dtype) {
    Matrix matrix = ops_->make_matrix(out_features, in_features, leaves, dtype);
    ops_->write_rows(matrix, 0, view(weights, {out_features, in_features}));
    return matrix;
  }

  // linear() into memory that is poisoned, with more of it behind the end.
  std::vector<float> run(std::vector<float> x, const Matrix& matrix, std::int64_t rows,
                         std::vector<float>* bias = nullptr) {
    constexpr std::size_t kGuard = 64;
    const std::size_t count = size(rows * matrix.out_features);
    std::vector<float> out(count + kGuard, kPoison);
    Tensor bias_tensor;
    if (bias) bias_tensor = view(*bias, {matrix.out_features});
    ops_->linear(view(out, {rows, matrix.out_features}), view(x, {rows, matrix.in_features}),
                 matrix, bias ? &bias_tensor : nullptr);
    for (std::size_t i = count; i < out.size(); ++i) EXPECT_EQ(out[i], kPoison) << "behind the end";
    out.resize(count);
    return out;
  }
};

TEST_P(Linear, EqualsTheCanonicalSumForEveryDtypeLeafCountAndSize) {
  const struct {
    std::int64_t rows, out_features, in_features;
  } cases[] = {{1, 1, 1},    {1, 16, 8},    {1, 17, 61},  {1, 129, 100},  {1, 80, 1200},
               {2, 33, 40},  {3, 48, 7},    {4, 95, 130}, {5, 16, 9},     {12, 40, 50},
               {13, 31, 64}, {24, 65, 33},  {33, 50, 77}, {14, 33, 1300}, {66, 33, 24},
               {97, 20, 7},  {67, 49, 1100}};
  for (DType dtype : kFloatTypes) {
    for (int leaves = 1; leaves <= kLeaves; ++leaves) {
      for (const auto& c : cases) {
        SCOPED_TRACE(testing::Message() << name_of(dtype) << " leaves " << leaves << ": " << c.rows
                                        << " x " << c.out_features << " x " << c.in_features);
        const auto x = noise(c.rows * c.in_features, 1);
        const auto weights = noise(c.out_features * c.in_features, 2);
        const Matrix matrix = matrix_of(weights, c.out_features, c.in_features, leaves, dtype);
        ASSERT_TRUE(same_bits(run(x, matrix, c.rows), reference(x, weights, c.rows, c.out_features,
                                                                c.in_features, leaves, dtype)));
      }
    }
  }
}

TEST_P(Linear, EveryRowCountGivesEveryRowTheBitsThatItHasAlone) {
  constexpr std::int64_t kRows = 206, kOut = 53, kIn = 90;
  const auto x = noise(kRows * kIn, 3);
  for (int leaves : {8, 4, 2, 1}) {
    const Matrix matrix = matrix_of(noise(kOut * kIn, 4), kOut, kIn, leaves, DType::kBFloat16);
    std::vector<float> alone;
    for (std::int64_t row = 0; row < kRows; ++row) {
      const auto out = run({x.begin() + row * kIn, x.begin() + (row + 1) * kIn}, matrix, 1);
      alone.insert(alone.end(), out.begin(), out.end());
    }
    // Every size of a group of rows, alone and behind a full block.
    for (std::int64_t rows = 1; rows <= kRows; ++rows) {
      if ((rows > 30 && rows < 60) || (rows > 80 && rows < 190)) continue;
      SCOPED_TRACE(testing::Message() << rows << " rows, " << leaves << " leaves");
      const auto out = run({x.begin(), x.begin() + rows * kIn}, matrix, rows);
      ASSERT_TRUE(same_bits(out, {alone.begin(), alone.begin() + rows * kOut}));
    }
  }
}

TEST_P(Linear, BiasIsAddedToTheFinishedSum) {
  for (std::int64_t rows : {1, 3, 20}) {
    const auto x = noise(rows * 30, 5), weights = noise(37 * 30, 6);
    auto bias = noise(37, 7);
    const Matrix matrix = matrix_of(weights, 37, 30, 8, DType::kFloat16);
    EXPECT_TRUE(same_bits(run(x, matrix, rows, &bias),
                          reference(x, weights, rows, 37, 30, 8, DType::kFloat16, &bias)));
  }
}

// What row_linear and the tree-ordered all_reduce do: each rank has whole leaves.
TEST_P(Linear, PartialSumsOfRanksAddUpToTheSameBits) {
  constexpr std::int64_t kOut = 40, kIn = 8 * 13;
  for (std::int64_t rows : {1, 2, 7, 30}) {
    const auto x = noise(rows * kIn, 8), weights = noise(kOut * kIn, 9);
    const auto whole = run(x, matrix_of(weights, kOut, kIn, 8, DType::kBFloat16), rows);
    for (int world_size : {2, 4, 8}) {
      const std::int64_t share = kIn / world_size;
      std::vector<std::vector<float>> partial;
      for (int rank = 0; rank < world_size; ++rank) {
        const auto columns = [&](const std::vector<float>& from, std::int64_t count) {
          std::vector<float> to;
          for (std::int64_t i = 0; i < count; ++i)
            to.insert(to.end(), from.begin() + i * kIn + rank * share,
                      from.begin() + i * kIn + (rank + 1) * share);
          return to;
        };
        partial.push_back(
            run(columns(x, rows),
                matrix_of(columns(weights, kOut), kOut, share, 8 / world_size, DType::kBFloat16),
                rows));
      }
      std::vector<float> sum;
      for (std::size_t i = 0; i < whole.size(); ++i) {
        std::vector<float> terms;
        for (const auto& of_rank : partial) terms.push_back(of_rank[i]);
        sum.push_back(tree_sum(terms, 0, terms.size()));
      }
      EXPECT_TRUE(same_bits(sum, whole)) << world_size << " ranks, " << rows << " rows";
    }
  }
}

TEST_P(Linear, IsCloseToTheExactSum) {
  constexpr std::int64_t kOut = 20, kIn = 1000;
  const auto x = noise(kIn, 10), weights = noise(kOut * kIn, 11);
  const auto out = run(x, matrix_of(weights, kOut, kIn, 8, DType::kFloat32), 1);
  for (std::int64_t n = 0; n < kOut; ++n) {
    double exact = 0, magnitude = 0;
    for (std::int64_t k = 0; k < kIn; ++k) {
      const double product = static_cast<double>(x[size(k)]) * weights[size(n * kIn + k)];
      exact += product;
      magnitude += std::abs(product);
    }
    // A leaf rounds kIn/8 times and the tree 3 times, each by half a unit of a partial sum.
    EXPECT_NEAR(out[size(n)], exact, (kIn / 8 + 3) * 0x1p-24 * magnitude);
  }
}

TEST_P(Linear, PaddingDoesNotLeakIn) {
  // Infinity times the zeros of padded rows is NaN, which must stay where it is.
  std::vector<float> x(3 * 9, std::numeric_limits<float>::infinity());
  for (std::int64_t rows : {1, 3}) {
    const auto out =
        run({x.begin(), x.begin() + rows * 9},
            matrix_of(std::vector<float>(size(5 * 9), 1.0f), 5, 9, 8, DType::kFloat32), rows);
    for (float value : out) EXPECT_EQ(value, std::numeric_limits<float>::infinity());
  }
}

TEST_P(Linear, RowViewsAreTheRowsOfTheWhole) {
  constexpr std::int64_t kOut = 70, kIn = 33;
  const auto x = noise(14 * kIn, 12), weights = noise(kOut * kIn, 13);
  const Matrix matrix = matrix_of(weights, kOut, kIn, 8, DType::kBFloat16);
  const std::pair<std::int64_t, std::int64_t> ranges[] = {{0, 70}, {16, 70}, {32, 48}, {48, 61},
                                                          {0, 0},  {70, 70}, {16, 16}};
  for (std::int64_t rows : {1, 14}) {
    const auto whole = run({x.begin(), x.begin() + rows * kIn}, matrix, rows);
    for (auto [begin, end] : ranges) {
      const Matrix part = ops_->row_view(matrix, begin, end);
      const auto out = run({x.begin(), x.begin() + rows * kIn}, part, rows);
      std::vector<float> expected;
      for (std::int64_t row = 0; row < rows; ++row)
        expected.insert(expected.end(), whole.begin() + row * kOut + begin,
                        whole.begin() + row * kOut + end);
      EXPECT_TRUE(same_bits(out, expected)) << begin << " to " << end;
    }
  }
}

TEST_P(Linear, NothingInNothingOut) {
  EXPECT_TRUE(run({}, matrix_of(noise(12, 1), 3, 4, 8, DType::kFloat32), 0).empty());
  EXPECT_TRUE(run({1, 2, 3, 4}, matrix_of({}, 0, 4, 8, DType::kFloat32), 1).empty());
  for (std::int64_t rows : {1, 13}) {
    std::vector<float> bias = {1, 2, 3};
    const auto out = run({}, matrix_of({}, 3, 0, 8, DType::kBFloat16), rows, &bias);
    for (std::size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i], bias[i % 3]);
  }
}

TEST_P(Linear, WrongShapesAreErrors) {
  const Matrix matrix = ops_->make_matrix(5, 6, 8, DType::kFloat32);
  std::vector<float> x(12), out(10), bias(5);
  const Tensor good_x = view(x, {2, 6}), good_out = view(out, {2, 5});
  EXPECT_ERROR(ops_->linear(good_out, view(x, {2, 5}), matrix), "x must be float32 [2, 6]");
  EXPECT_ERROR(ops_->linear(view(out, {1, 5}), good_x, matrix), "out must be float32 [2, 5]");
  const Tensor wrong_bias = view(bias, {4});
  EXPECT_ERROR(ops_->linear(good_out, good_x, matrix, &wrong_bias), "bias must be float32 [5]");
  Tensor halves = good_x;
  halves.dtype = DType::kFloat16;
  EXPECT_ERROR(ops_->linear(good_out, halves, matrix), "found float16 [2, 6]");
  Tensor elsewhere = good_x;
  elsewhere.device = {DeviceType::kCuda, 0};
  EXPECT_ERROR(ops_->linear(good_out, elsewhere, matrix), "host memory");
  Matrix empty;
  empty.out_features = 5;
  empty.in_features = 6;
  EXPECT_ERROR(ops_->linear(good_out, good_x, empty), "make_matrix");
}

LOCKSTEP_ON_EVERY_TARGET(Linear);

}  // namespace
}  // namespace lockstep::test
