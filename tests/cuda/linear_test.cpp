// linear() on the GPU against the CPU, in the canonical order's shape.
#include <gtest/gtest.h>

#include "cuda/harness.h"
#include "spmd/devices.h"

namespace lockstep::test {
namespace {

struct Case {
  std::int64_t out_features, in_features;
  int leaves;
};

// Aligned ones take the tensor cores, the others the general kernel.
constexpr Case kCases[] = {{64, 256, 8},   {16, 64, 8},    {17, 512, 8},    {1000, 1024, 8},
                           {48, 128, 4},   {33, 256, 2},   {100, 512, 1},   {5, 40, 8},
                           {131, 101, 8},  {1, 1, 8},      {7, 24, 1},      {256, 4096, 8},
                           {192, 3584, 2}, {90, 2560, 8},  {40, 128, 2},    {2200, 1536, 8},
                           {2100, 768, 8}, {9002, 512, 8}, {4500, 2048, 8}, {4300, 2560, 8}};

class Linear : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "there is no GPU here";
    gpu_ = std::make_unique<cuda::CudaOps>(0);
    exact_ = std::make_unique<cuda::CudaOps>(0, true);
    cpu_ = make_cpu_ops();
  }

  // x in the weights' dtype; the result in float32.
  static std::vector<float> run(cuda::CudaOps& ops, const Case& c, DType dtype,
                                std::vector<float> weights, const std::vector<float>& x,
                                std::int64_t rows, std::vector<float>* bias) {
    const Matrix matrix = ops.make_matrix(c.out_features, c.in_features, c.leaves, dtype);
    ops.write_rows(matrix, 0, host(weights, {c.out_features, c.in_features}));
    const Device device{DeviceType::kCuda, 0};
    std::vector<std::uint8_t> bytes = encode(x, dtype);
    OwnedTensor input = allocate_tensor(ops, device, dtype, {rows, c.in_features});
    ops.upload(input.tensor, {bytes.data(), dtype, input.tensor.shape, {}});
    OwnedTensor out = allocate_tensor(ops, device, DType::kFloat32, {rows, c.out_features});
    std::vector<float> result(size(rows * c.out_features), kNaN);
    ops.upload(out.tensor, host(result, out.tensor.shape));
    OwnedTensor bias_tensor;
    if (bias) {
      bias_tensor = allocate_tensor(ops, device, DType::kFloat32, {c.out_features});
      ops.upload(bias_tensor.tensor, host(*bias, {c.out_features}));
    }
    ops.linear(out.tensor, input.tensor, matrix, bias ? &bias_tensor.tensor : nullptr);
    ops.download(host(result, out.tensor.shape), out.tensor);
    return result;
  }

  std::unique_ptr<cuda::CudaOps> gpu_, exact_;
  std::unique_ptr<Ops> cpu_;
};

TEST_F(Linear, IsTheCpusUpToTheOrderOfLeaves) {
  std::uint32_t seed = 1;
  for (const Case& c : kCases) {
    for (DType dtype : kFloatTypes) {
      for (std::int64_t rows : kRowCounts) {
        if (too_large(rows * c.out_features * c.in_features, dtype)) continue;
        std::vector<float> weights = noise(c.out_features * c.in_features, ++seed);
        std::vector<float> bias = noise(c.out_features, ++seed);
        std::vector<float> x = noise(rows * c.in_features, ++seed);
        // What the GPU gets to see of x.
        std::vector<std::uint8_t> bytes = encode(x, dtype);
        std::vector<float> rounded = to_float32({bytes.data(), dtype, {rows * c.in_features}, {}});
        const Matrix matrix = cpu_->make_matrix(c.out_features, c.in_features, c.leaves, dtype);
        cpu_->write_rows(matrix, 0, host(weights, {c.out_features, c.in_features}));
        std::vector<float> expected(size(rows * c.out_features));
        const Tensor bias_tensor = host(bias, {c.out_features});
        cpu_->linear(host(expected, {rows, c.out_features}), host(rounded, {rows, c.in_features}),
                     matrix, &bias_tensor);
        const auto actual = run(*gpu_, c, dtype, weights, x, rows, &bias);
        // Products of two numbers around 1, added with float32 rounding at each step.
        const double limit = 4e-6 * std::sqrt(static_cast<double>(c.in_features)) + 1e-6;
        for (std::size_t i = 0; i < expected.size(); ++i)
          ASSERT_NEAR(actual[i], expected[i], limit * 4)
              << c.out_features << " x " << c.in_features << ", " << c.leaves << " leaves, "
              << name_of(dtype) << ", " << rows << " rows, element " << i;
      }
    }
  }
}

TEST_F(Linear, ARowsBitsDoNotDependOnTheOthers) {
  for (const Case& c : kCases) {
    for (DType dtype : kFloatTypes) {
      if (too_large(32 * c.out_features * c.in_features, dtype)) continue;  // the largest batch
      const std::vector<float> weights = noise(c.out_features * c.in_features, 5);
      const std::vector<float> x = noise(200 * c.in_features, 6);
      const auto all = run(*exact_, c, dtype, weights, x, 200, nullptr);
      for (std::int64_t row : {0, 7, 8, 63, 64, 199}) {
        const std::vector<float> one(x.begin() + row * c.in_features,
                                     x.begin() + (row + 1) * c.in_features);
        const auto alone = run(*gpu_, c, dtype, weights, one, 1, nullptr);
        ASSERT_EQ(0, std::memcmp(alone.data(), all.data() + row * c.out_features,
                                 alone.size() * sizeof(float)))
            << c.out_features << " x " << c.in_features << ", " << name_of(dtype) << ", row "
            << row;
      }
      for (std::int64_t rows : {2, 8, 9, 16, 17, 32}) {
        const std::vector<float> some(x.begin(), x.begin() + rows * c.in_features);
        const auto together = run(*gpu_, c, dtype, weights, some, rows, nullptr);
        ASSERT_EQ(0, std::memcmp(together.data(), all.data(), together.size() * sizeof(float)))
            << c.out_features << " x " << c.in_features << ", " << name_of(dtype) << ", " << rows
            << " rows";
      }
    }
  }
}

TEST_F(Linear, GatedIsTheProductAndThenTheGates) {
  for (const Case& c : kCases) {
    if (c.out_features % 2 != 0) continue;
    const std::int64_t size_out = c.out_features / 2;
    for (DType dtype : kFloatTypes) {
      const std::vector<float> weights = noise(c.out_features * c.in_features, 15, 0.1f);
      const Matrix matrix = exact_->make_matrix(c.out_features, c.in_features, c.leaves, dtype);
      std::vector<float> copy = weights;
      exact_->write_rows(matrix, 0, host(copy, {c.out_features, c.in_features}));
      std::vector<float> bias = noise(c.out_features, 16);
      const Device device{DeviceType::kCuda, 0};
      const OwnedTensor bias_tensor =
          allocate_tensor(*exact_, device, DType::kFloat32, {c.out_features});
      exact_->upload(bias_tensor.tensor, host(bias, {c.out_features}));
      for (std::int64_t rows : kRowCounts) {
        if (too_large(rows * c.out_features * c.in_features, dtype)) continue;
        std::vector<std::uint8_t> bytes = encode(noise(rows * c.in_features, 17), dtype);
        const auto make = [&](DType type, std::int64_t columns) {
          return allocate_tensor(*exact_, device, type, {rows, columns});
        };
        const OwnedTensor x = make(dtype, c.in_features);
        exact_->upload(x.tensor, {bytes.data(), dtype, x.tensor.shape, {}});
        const OwnedTensor gate_up = make(DType::kFloat32, c.out_features);
        const OwnedTensor separate = make(dtype, size_out), together = make(dtype, size_out);
        const OwnedTensor scratch = make(DType::kFloat32, c.out_features);
        exact_->linear(gate_up.tensor, x.tensor, matrix, &bias_tensor.tensor);
        exact_->silu_multiply(separate.tensor, gate_up.tensor);
        exact_->gated_linear(together.tensor, x.tensor, matrix, &bias_tensor.tensor,
                             scratch.tensor);
        std::vector<std::uint8_t> expected(separate.tensor.bytes()), actual(expected.size(), 0xff);
        exact_->download({expected.data(), dtype, separate.tensor.shape, {}}, separate.tensor);
        exact_->download({actual.data(), dtype, separate.tensor.shape, {}}, together.tensor);
        ASSERT_EQ(0, std::memcmp(expected.data(), actual.data(), actual.size()))
            << c.out_features << " x " << c.in_features << ", " << c.leaves << " leaves, "
            << name_of(dtype) << ", " << rows << " rows";
      }
    }
  }
}

// 2, 4 and 8 ranks' shares of a row-parallel product complete the tree of one rank.
TEST_F(Linear, SharesAddUpToTheWholeBitForBit) {
  for (std::int64_t columns : {512, 4096, 2816}) {
    const std::int64_t features = 80, rows = 3;
    for (DType dtype : kFloatTypes) {
      const std::vector<float> weights = noise(features * columns, 8);
      const std::vector<float> x = noise(rows * columns, 9);
      const auto whole = run(*gpu_, {features, columns, 8}, dtype, weights, x, rows, nullptr);
      for (int ranks : {2, 4, 8}) {
        const std::int64_t share = columns / ranks;
        const auto part_of = [&](const std::vector<float>& from, std::int64_t lines, int rank) {
          std::vector<float> part;
          for (std::int64_t line = 0; line < lines; ++line)
            part.insert(part.end(), from.begin() + line * columns + rank * share,
                        from.begin() + line * columns + (rank + 1) * share);
          return part;
        };
        std::vector<std::vector<float>> sums;
        for (int rank = 0; rank < ranks; ++rank)
          sums.push_back(run(*gpu_, {features, share, 8 / ranks}, dtype,
                             part_of(weights, features, rank), part_of(x, rows, rank), rows,
                             nullptr));
        for (int width = 1; width < ranks; width *= 2)
          for (int rank = 0; rank + width < ranks; rank += 2 * width)
            for (std::size_t i = 0; i < whole.size(); ++i)
              sums[size(rank)][i] += sums[size(rank + width)][i];
        ASSERT_EQ(0, std::memcmp(sums[0].data(), whole.data(), whole.size() * sizeof(float)))
            << columns << " columns on " << ranks << " ranks in " << name_of(dtype);
      }
    }
  }
}

}  // namespace
}  // namespace lockstep::test
