// Weights on their way into a GPU's matrices: conversions, stages, seeded values.
#include <numeric>

#include "core/dummy.h"
#include "cuda/harness.h"
#include "lockstep/error.h"

namespace lockstep::test {
namespace {

class MatrixOnGpu : public OnGpu {
 protected:
  // All elements, row by row.
  std::vector<float> elements(const Matrix& matrix) {
    std::vector<std::int32_t> ids(size(matrix.out_features));
    std::iota(ids.begin(), ids.end(), 0);
    const Tensor out = poisoned(DType::kFloat32, {matrix.out_features, matrix.in_features});
    gpu().embedding(out, matrix, put(ids, {matrix.out_features}));
    return floats(out);
  }
};

constexpr std::pair<std::int64_t, std::int64_t> kShapes[] = {{1, 1},   {5, 8},     {3, 7},
                                                             {33, 64}, {300, 129}, {2, 5000}};

// The last ranks' shards of a small vocabulary have no rows, wherever it ends.
TEST_F(MatrixOnGpu, ViewsBeginAtBlocksOrAreEmpty) {
  const Matrix matrix = gpu().make_matrix(104, 8, kLeaves, DType::kBFloat16);
  EXPECT_EQ(gpu().row_view(matrix, 96, 104).out_features, 8);
  EXPECT_EQ(gpu().row_view(matrix, 104, 104).out_features, 0);
  EXPECT_THROW(gpu().row_view(matrix, 1, 3), Error);
  EXPECT_THROW(gpu().row_view(matrix, 96, 105), Error);
}

TEST_F(MatrixOnGpu, RowsOfEveryDtypeAreConvertedAsOnTheCpu) {
  for (DType from : kFloatTypes) {
    for (DType to : kFloatTypes) {
      for (const auto& [rows, columns] : kShapes) {
        // Large and tiny ones, and what rounds to infinity in float16.
        std::vector<float> values = noise(rows * columns, 5, 0.02f);
        for (std::size_t i = 0; i < values.size(); i += 7) values[i] *= 1e6f;
        for (std::size_t i = 3; i < values.size(); i += 11) values[i] *= 1e-6f;
        std::vector<std::uint8_t> bytes = encode(values, from);
        const Matrix matrix = gpu().make_matrix(rows + 3, columns, kLeaves, to);
        gpu().write_rows(matrix, 2, Tensor{bytes.data(), from, {rows, columns}, {}});

        std::vector<float> expected(size(2 * columns), 0.0f);
        const std::vector<float> read = to_float32({bytes.data(), from, {rows, columns}, {}});
        std::vector<std::uint8_t> rounded = encode(read, to);
        const auto written = to_float32({rounded.data(), to, {rows, columns}, {}});
        expected.insert(expected.end(), written.begin(), written.end());
        expected.resize(size((rows + 3) * columns), 0.0f);
        EXPECT_TRUE(same_bits(elements(matrix), expected))
            << name_of(from) << " to " << name_of(to) << ", " << rows << " x " << columns;
      }
    }
  }
}

// More pieces than there are stages, each written to as soon as it may be.
TEST_F(MatrixOnGpu, StagesAreNotReusedTooEarly) {
  constexpr std::int64_t kColumns = 4096, kPieceRows = 64, kPieces = 60;
  const Matrix matrix = gpu().make_matrix(kPieceRows * kPieces, kColumns, kLeaves, DType::kFloat32);
  std::vector<float> expected;
  for (std::int64_t piece = 0; piece < kPieces; ++piece) {
    auto* staged = static_cast<float*>(gpu().stage(size(kPieceRows * kColumns) * sizeof(float)));
    for (std::int64_t i = 0; i < kPieceRows * kColumns; ++i)
      staged[i] = static_cast<float>(piece * 7 + i % 13);
    expected.insert(expected.end(), staged, staged + kPieceRows * kColumns);
    gpu().write_rows(matrix, piece * kPieceRows,
                     Tensor{staged, DType::kFloat32, {kPieceRows, kColumns}, {}});
  }
  EXPECT_TRUE(same_bits(elements(matrix), expected));
}

TEST_F(MatrixOnGpu, SeededRowsAreTheCpus) {
  for (DType to : kFloatTypes) {
    for (DType rounded_to : kFloatTypes) {
      const DummySource source{dummy_key(3, "model.norm.weight"), kDummyNormBase, rounded_to};
      const std::int64_t rows = 70, columns = 131, source_row = 9, source_column = 1000;
      const Matrix matrix = gpu().make_matrix(rows + 1, columns, kLeaves, to);
      ASSERT_TRUE(gpu().write_dummy_rows(matrix, 1, rows, source, source_row, source_column));
      std::vector<float> values;
      for (std::int64_t row = 0; row < rows; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
          values.push_back(
              dummy_value(dummy_row(source.key, static_cast<std::uint64_t>(source_row + row)),
                          static_cast<std::uint64_t>(source_column + column), source.base));
      for (DType dtype : {rounded_to, to}) {
        std::vector<std::uint8_t> bytes = encode(values, dtype);
        values = to_float32({bytes.data(), dtype, {rows, columns}, {}});
      }
      values.insert(values.begin(), size(columns), 0.0f);
      EXPECT_TRUE(same_bits(elements(matrix), values)) << name_of(rounded_to) << name_of(to);
    }
  }
}

TEST_F(MatrixOnGpu, ADownloadBringsWhatWasThereInItsOrder) {
  const std::unique_ptr<Download> first = gpu().make_download(), second = gpu().make_download();
  const Tensor x = put(std::vector<float>{1, 2, 3}, {1, 3});
  first->start(x);
  gpu().add(x, x);
  second->start(x);
  while (!second->ready()) {
  }
  EXPECT_TRUE(first->ready());
  const auto* a = static_cast<const float*>(first->data());
  const auto* b = static_cast<const float*>(second->data());
  EXPECT_EQ((std::vector<float>{a, a + 3}), (std::vector<float>{1, 2, 3}));
  EXPECT_EQ((std::vector<float>{b, b + 3}), (std::vector<float>{2, 4, 6}));
  first->start(x.rows(0, 0));
  while (!first->ready()) {
  }
}

}  // namespace
}  // namespace lockstep::test
