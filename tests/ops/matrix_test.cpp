// Weights: writing, conversions, embedding look-ups, sizes that cannot be.
#include <numeric>

#include "core/check.h"
#include "ops/helpers.h"

namespace lockstep::test {
namespace {

class MatrixTest : public ::testing::Test {
 protected:
  std::vector<float> row(const Matrix& matrix, std::int32_t id) {
    std::vector<float> out(size(matrix.in_features), kPoison);
    std::vector<std::int32_t> ids = {id};
    ops_->embedding(view(out, {1, matrix.in_features}), matrix, view(ids, {1}));
    return out;
  }

  std::unique_ptr<Ops> ops_ = make_cpu_ops();
};

TEST_F(MatrixTest, RowsReadBackAsTheyWereWritten) {
  for (int leaves : {1, 2, 3, 7, 8}) {
    for (std::int64_t in_features : {1, 5, 8, 63, 64}) {
      const std::int64_t out_features = 37;
      auto weights = noise(out_features * in_features, 1);
      Matrix matrix = ops_->make_matrix(out_features, in_features, leaves, DType::kFloat32);
      // In pieces that begin and end within panels.
      for (auto [begin, end] : {std::pair{0, 3}, {3, 16}, {16, 33}, {33, 33}, {33, 37}}) {
        Tensor part{
            weights.data() + begin * in_features, DType::kFloat32, {end - begin, in_features}, {}};
        ops_->write_rows(matrix, begin, part);
      }
      for (std::int64_t id = 0; id < out_features; ++id)
        ASSERT_TRUE(same_bits(
            row(matrix, static_cast<std::int32_t>(id)),
            {weights.begin() + id * in_features, weights.begin() + (id + 1) * in_features}));
    }
  }
}

TEST_F(MatrixTest, WritingSomeRowsLeavesTheOthers) {
  Matrix matrix = ops_->make_matrix(20, 4, 8, DType::kFloat32);
  std::vector<float> ones(8, 1.0f);
  ops_->write_rows(matrix, 15, view(ones, {2, 4}));
  for (std::int32_t id = 0; id < 20; ++id)
    EXPECT_EQ(row(matrix, id), std::vector<float>(4, id == 15 || id == 16 ? 1.0f : 0.0f)) << id;
}

// Through a matrix of every dtype, from memory of every dtype: the conversions of core/convert.h.
TEST_F(MatrixTest, ConversionsAreThoseOfCore) {
  // All 16-bit patterns, and float32 between them.
  for (DType from : kFloatTypes) {
    std::vector<std::uint16_t> halves(65536);
    std::iota(halves.begin(), halves.end(), std::uint16_t{0});
    auto floats = noise(65536, 2, 1000.0f);
    for (std::size_t i = 0; i < 60000; ++i)
      floats[i] = std::bit_cast<float>(static_cast<std::uint32_t>(i * 71573u));
    const bool wide = from == DType::kFloat32;
    Tensor rows{wide ? static_cast<void*>(floats.data()) : halves.data(), from, {256, 256}, {}};
    for (DType to : kFloatTypes) {
      Matrix matrix = ops_->make_matrix(256, 256, 8, to);
      ops_->write_rows(matrix, 0, rows);
      for (std::size_t i = 0; i < 256; ++i) {
        const auto found = row(matrix, static_cast<std::int32_t>(i));
        for (std::size_t j = 0; j < 256; ++j) {
          const std::size_t at = i * 256 + j;
          const float value = wide ? floats[at] : from_half(halves[at], from);
          const float expected = rounded(value, to);
          if (std::isnan(expected))
            ASSERT_TRUE(std::isnan(found[j])) << name_of(from) << " " << at;
          else
            ASSERT_EQ(std::bit_cast<std::uint32_t>(found[j]),
                      std::bit_cast<std::uint32_t>(expected))
                << name_of(from) << " to " << name_of(to) << " " << at;
        }
      }
    }
  }
}

TEST_F(MatrixTest, EmbeddingReadsRowViewsToo) {
  auto weights = noise(40 * 10, 3);
  Matrix matrix = ops_->make_matrix(40, 10, 8, DType::kFloat32);
  ops_->write_rows(matrix, 0, view(weights, {40, 10}));
  const Matrix part = ops_->row_view(matrix, 32, 40);
  EXPECT_EQ(row(part, 7), std::vector<float>(weights.end() - 10, weights.end()));
  EXPECT_ERROR(row(part, 8), "token id 8 is not within [0, 8)");
}

TEST_F(MatrixTest, EmbeddingOfIdsOutOfRangeIsAnError) {
  const Matrix matrix = ops_->make_matrix(3, 4, 8, DType::kBFloat16);
  EXPECT_ERROR(row(matrix, 3), "token id 3");
  EXPECT_ERROR(row(matrix, -1), "token id -1");
  EXPECT_ERROR(row(matrix, std::numeric_limits<std::int32_t>::max()), "token id");
}

TEST_F(MatrixTest, ImpossibleMatricesAreErrors) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_ERROR(ops_->make_matrix(-1, 4, 8, DType::kFloat32), "-1 x 4");
  EXPECT_ERROR(ops_->make_matrix(4, 4, 0, DType::kFloat32), "leaves");
  EXPECT_ERROR(ops_->make_matrix(4, 4, 9, DType::kFloat32), "leaves");
  EXPECT_ERROR(ops_->make_matrix(4, 4, 8, DType::kInt32), "int32");
  EXPECT_ERROR(ops_->make_matrix(kHuge, 1, 8, DType::kFloat32), "overflows");
  EXPECT_ERROR(ops_->make_matrix(1, kHuge, 8, DType::kFloat32), "overflows");
  EXPECT_ERROR(ops_->make_matrix(std::int64_t{1} << 32, std::int64_t{1} << 30, 8, DType::kFloat32),
               "overflows");
  EXPECT_ERROR(ops_->make_matrix(std::int64_t{1} << 30, std::int64_t{1} << 30, 8, DType::kFloat32),
               "");
}

TEST_F(MatrixTest, WritingOutsideIsAnError) {
  Matrix matrix = ops_->make_matrix(4, 3, 8, DType::kFloat32);
  std::vector<float> rows(6);
  EXPECT_ERROR(ops_->write_rows(matrix, 3, view(rows, {2, 3})), "not within");
  EXPECT_ERROR(ops_->write_rows(matrix, -1, view(rows, {2, 3})), "not within");
  EXPECT_ERROR(ops_->write_rows(matrix, 0, view(rows, {3, 2})), "3 columns");
  EXPECT_ERROR(ops_->row_view(matrix, 1, 3), "multiple of 16");
  EXPECT_ERROR(ops_->row_view(matrix, 0, 5), "not within");
}

// Weights share chunks of memory; one may outlive the operations and its neighbours.
TEST_F(MatrixTest, MemoryLivesAsLongAsAnyMatrix) {
  auto weights = noise(16 * 8, 4);
  Matrix kept;
  {
    const auto ops = make_cpu_ops();
    const Matrix before = ops->make_matrix(100, 100, 8, DType::kFloat32);
    kept = ops->make_matrix(16, 8, 8, DType::kFloat32);
    const Matrix after = ops->make_matrix(3000, 3000, 8, DType::kFloat32);
    const Matrix next_chunk = ops->make_matrix(2800, 2800, 8, DType::kFloat32);
    for (const Matrix& matrix : {before, after, next_chunk}) {
      std::vector<float> ones(size(matrix.out_features * matrix.in_features), 1.0f);
      ops->write_rows(matrix, 0, view(ones, {matrix.out_features, matrix.in_features}));
    }
    for (float value : row(kept, 3)) EXPECT_EQ(value, 0.0f);
    ops->write_rows(kept, 0, view(weights, {16, 8}));
    EXPECT_EQ(row(after, 2999), std::vector<float>(3000, 1.0f));
  }
  EXPECT_EQ(row(kept, 15), std::vector<float>(weights.end() - 8, weights.end()));
}

}  // namespace
}  // namespace lockstep::test
