// Norms, activations, sums and copies.
#include <limits>

#include "core/check.h"
#include "ops/helpers.h"

namespace lockstep::test {
namespace {

class Elementwise : public OnEveryTarget {};

TEST_P(Elementwise, RmsNormIsCloseToTheExactValue) {
  for (std::int64_t size_of_row : {1, 6, 15, 16, 17, 64, 576, 1000}) {
    for (std::int64_t rows : {1, 3}) {
      auto x = noise(rows * size_of_row, 1), weight = noise(size_of_row, 2);
      std::vector<float> out(x.size(), kPoison);
      const Shape shape{rows, size_of_row};
      ops_->rms_norm(view(out, shape), view(x, shape), view(weight, {size_of_row}), 1e-5f);
      for (std::int64_t row = 0; row < rows; ++row) {
        double squares = 0;
        for (std::int64_t i = 0; i < size_of_row; ++i)
          squares += std::pow(static_cast<double>(x[size(row * size_of_row + i)]), 2);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(size_of_row) + 1e-5);
        for (std::int64_t i = 0; i < size_of_row; ++i) {
          const double exact = x[size(row * size_of_row + i)] * scale * weight[size(i)];
          // The sum rounds once a step of 16 lanes and four times in the tree; its root halves
          // that.
          const double units = static_cast<double>(size_of_row) / 32 + 8;
          ASSERT_NEAR(out[size(row * size_of_row + i)], exact, units * 0x1p-24 * std::abs(exact));
        }
      }
      // In place, and every row by itself.
      std::vector<float> in_place = x;
      ops_->rms_norm(view(in_place, shape), view(in_place, shape), view(weight, {size_of_row}),
                     1e-5f);
      EXPECT_TRUE(same_bits(in_place, out));
      std::vector<float> last(x.end() - size_of_row, x.end()), alone(size(size_of_row));
      ops_->rms_norm(view(alone, {1, size_of_row}), view(last, {1, size_of_row}),
                     view(weight, {size_of_row}), 1e-5f);
      EXPECT_TRUE(same_bits(alone, {out.end() - size_of_row, out.end()}));
    }
  }
}

TEST_P(Elementwise, AddRmsNormIsItsParts) {
  const auto x = noise(3 * 40, 8), y = noise(3 * 40, 9);
  auto bias = noise(40, 10), weight = noise(40, 11);
  const Shape shape{3, 40};
  const Tensor bias_tensor = view(bias, {40});
  for (const Tensor* added : {static_cast<const Tensor*>(nullptr), &bias_tensor}) {
    std::vector<float> sum, stream = x, partial = y, normed(120), out(120, kPoison);
    for (std::size_t i = 0; i < x.size(); ++i)
      sum.push_back(x[i] + (added ? y[i] + bias[i % 40] : y[i]));
    ops_->rms_norm(view(normed, shape), view(sum, shape), view(weight, {40}), 1e-6f);
    ops_->add_rms_norm(view(out, shape), view(stream, shape), view(partial, shape), added,
                       view(weight, {40}), 1e-6f);
    EXPECT_TRUE(same_bits(stream, sum));
    EXPECT_TRUE(same_bits(out, normed));
  }
}

// silu goes through exp: everywhere from underflow to overflow.
TEST_P(Elementwise, SiluMultiplyIsCloseToTheExactValue) {
  for (std::int64_t width : {1, 7, 16, 33, 2000}) {
    constexpr std::int64_t kRows = 3;
    std::vector<float> gate_up, out(size(kRows * width), kPoison);
    auto up = noise(kRows * width, 3);
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < width; ++i)
        gate_up.push_back(row == 0   ? -110.0f + 220.0f * static_cast<float>(i) / 2000
                          : row == 1 ? std::ldexp(1.0f, static_cast<int>(-i % 140))
                                     : static_cast<float>(i % 200 - 100) * 0.1f);
      gate_up.insert(gate_up.end(), up.begin() + row * width, up.begin() + (row + 1) * width);
    }
    ops_->silu_multiply(view(out, {kRows, width}), view(gate_up, {kRows, 2 * width}));
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t i = 0; i < width; ++i) {
        const double gate = gate_up[size(row * 2 * width + i)], factor = up[size(row * width + i)];
        const double exact = gate / (1 + std::exp(-gate)) * factor;
        // exp, sum, quotient and product: 1.5 + 1 + 0.5 + 0.5 units. Where e^-gate overflows, 0.
        ASSERT_NEAR(out[size(row * width + i)], exact,
                    4 * 0x1p-24 * std::abs(exact) + 0x1p-121 * std::abs(factor))
            << gate;
      }
    }
  }
}

TEST_P(Elementwise, SiluOfWhatIsNoNumber) {
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> gate_up = {inf, std::nanf(""), -1000.0f, 0.0f, 1, 1, 1, 1}, out(4);
  ops_->silu_multiply(view(out, {1, 4}), view(gate_up, {1, 8}));
  EXPECT_EQ(out[0], inf);
  EXPECT_TRUE(std::isnan(out[1]));
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], 0.0f);
}

TEST_P(Elementwise, AddAddsTensorsAndRows) {
  auto x = noise(3 * 19, 4), y = noise(3 * 19, 5);
  std::vector<float> both, row;
  for (std::size_t i = 0; i < x.size(); ++i) {
    both.push_back(x[i] + y[i]);
    row.push_back(x[i] + y[i % 19]);
  }
  std::vector<float> sum = x;
  ops_->add(view(sum, {3, 19}), view(y, {3, 19}));
  EXPECT_TRUE(same_bits(sum, both));
  sum = x;
  ops_->add(view(sum, {3, 19}), view(y, {19}));
  EXPECT_TRUE(same_bits(sum, row));
}

TEST_P(Elementwise, GatherRowsCopies) {
  auto x = noise(5 * 3, 6);
  std::vector<std::int32_t> indices = {4, 0, 4, 2};
  std::vector<float> out(12, kPoison);
  ops_->gather_rows(view(out, {4, 3}), view(x, {5, 3}), view(indices, {4}));
  for (std::size_t i = 0; i < 12; ++i) EXPECT_EQ(out[i], x[size(indices[i / 3]) * 3 + i % 3]);
  indices[1] = 5;
  EXPECT_ERROR(ops_->gather_rows(view(out, {4, 3}), view(x, {5, 3}), view(indices, {4})),
               "row 5 is not within [0, 5)");
  indices[1] = -1;
  EXPECT_ERROR(ops_->gather_rows(view(out, {4, 3}), view(x, {5, 3}), view(indices, {4})), "row -1");
}

TEST_P(Elementwise, TokenIdsReadTheSequences) {
  std::vector<std::int32_t> tokens = {10, 11, 12, 20, 21, 22}, positions = {2, 0, 1},
                            sequences = {1, 0, 1}, ids(3);
  const auto batch = [&] { return BatchView{3, view(positions, {3}), view(sequences, {3}), {}}; };
  ops_->token_ids(view(ids, {3}), view(tokens, {2, 3}), batch());
  EXPECT_EQ(ids, (std::vector<std::int32_t>{22, 10, 21}));
  positions[0] = 3;
  EXPECT_ERROR(ops_->token_ids(view(ids, {3}), view(tokens, {2, 3}), batch()), "position 3");
  positions[0] = 0;
  sequences[2] = 2;
  EXPECT_ERROR(ops_->token_ids(view(ids, {3}), view(tokens, {2, 3}), batch()), "sequence 2");
}

TEST_P(Elementwise, UploadAndDownloadCopy) {
  auto host = noise(12, 7);
  const Buffer buffer = ops_->allocate(12 * sizeof(float));
  const Tensor device{buffer.data(), DType::kFloat32, {3, 4}, {}};
  EXPECT_EQ(device.as<float>()[11], 0.0f);
  ops_->upload(device, view(host, {3, 4}));
  std::vector<float> back(12);
  ops_->download(view(back, {3, 4}), device);
  EXPECT_EQ(back, host);
  EXPECT_ERROR(ops_->upload(device, view(host, {4, 3})), "destination must be float32 [4, 3]");
}

TEST_P(Elementwise, NoRowsAreFine) {
  std::vector<float> none, weight(4);
  std::vector<std::int32_t> no_ids;
  ops_->rms_norm(view(none, {0, 4}), view(none, {0, 4}), view(weight, {4}), 1e-5f);
  ops_->silu_multiply(view(none, {0, 4}), view(none, {0, 8}));
  ops_->silu_multiply(view(none, {2, 0}), view(none, {2, 0}));
  ops_->add(view(none, {0, 4}), view(weight, {4}));
  ops_->gather_rows(view(none, {0, 4}), view(weight, {1, 4}), view(no_ids, {0}));
  ops_->embedding(view(none, {0, 4}), ops_->make_matrix(3, 4, 8, DType::kFloat32),
                  view(no_ids, {0}));
}

TEST_P(Elementwise, WrongShapesAreErrors) {
  std::vector<float> x(12), weight(4);
  EXPECT_ERROR(ops_->rms_norm(view(x, {3, 4}), view(x, {4, 3}), view(weight, {3}), 1e-5f),
               "out must be float32 [4, 3], found float32 [3, 4]");
  EXPECT_ERROR(ops_->rms_norm(view(x, {3, 4}), view(x, {3, 4}), view(weight, {3}), 1e-5f),
               "weight must be float32 [4]");
  EXPECT_ERROR(ops_->silu_multiply(view(x, {3, 4}), view(x, {3, 4})), "gate_up must be");
  EXPECT_ERROR(ops_->add(view(x, {3, 4}), view(weight, {3})), "y must be float32 [4]");
  EXPECT_ERROR(ops_->add(view(x, {12}), view(x, {12})), "two axes");
}

LOCKSTEP_ON_EVERY_TARGET(Elementwise);

}  // namespace
}  // namespace lockstep::test
