// The operations on rows, against the CPU's: sums, norms, copies.
#include "comm/cuda/cuda_comm.h"
#include "comm/thread_comm.h"
#include "core/check.h"
#include "cuda/harness.h"

namespace lockstep::test {
namespace {

class Elementwise : public OnGpu {};

constexpr std::int64_t kSizes[] = {1, 3, 64, 577, 4096, 5001};

TEST_F(Elementwise, AddIsTheCpusSum) {
  for (std::int64_t rows : kRowCounts) {
    for (std::int64_t columns : kSizes) {
      for (bool broadcast : {false, true}) {
        std::vector<float> x = noise(rows * columns, 1), y = noise(rows * columns, 2);
        if (broadcast) y.resize(size(columns));
        const Shape y_shape = broadcast ? Shape{columns} : Shape{rows, columns};
        const Tensor gpu_x = put(x, {rows, columns});
        gpu().add(gpu_x, put(y, y_shape));
        cpu().add(host(x, {rows, columns}), host(y, y_shape));
        EXPECT_TRUE(same_bits(x, floats(gpu_x))) << rows << " x " << columns;
      }
    }
  }
}

TEST_F(Elementwise, SiluMultiplyMatchesTheCpu) {
  for (DType dtype : kFloatTypes) {
    for (std::int64_t rows : kRowCounts) {
      for (std::int64_t columns : kSizes) {
        std::vector<float> gate_up = noise(rows * 2 * columns, 3, 4.0f);
        gate_up[0] = -200.0f;  // exp overflows
        std::vector<float> expected(size(rows * columns));
        cpu().silu_multiply(host(expected, {rows, columns}), host(gate_up, {rows, 2 * columns}));
        const Tensor out = poisoned(dtype, {rows, columns});
        gpu().silu_multiply(out, put(gate_up, {rows, 2 * columns}));
        EXPECT_LE(difference(expected, floats(out)), tolerance(dtype, 1e-6))
            << name_of(dtype) << " " << rows << " x " << columns;
      }
    }
  }
}

TEST_F(Elementwise, RmsNormMatchesTheCpu) {
  for (DType dtype : kFloatTypes) {
    for (std::int64_t rows : kRowCounts) {
      for (std::int64_t columns : kSizes) {
        std::vector<float> x = noise(rows * columns, 4, 3.0f), weight = noise(columns, 5);
        std::vector<float> expected(x.size());
        cpu().rms_norm(host(expected, {rows, columns}), host(x, {rows, columns}),
                       host(weight, {columns}), 1e-5f);
        const Tensor out = poisoned(dtype, {rows, columns});
        gpu().rms_norm(out, put(x, {rows, columns}), put(weight, {columns}), 1e-5f);
        EXPECT_LE(difference(expected, floats(out)), tolerance(dtype, 1e-6))
            << name_of(dtype) << " " << rows << " x " << columns;
      }
    }
  }
}

// In bfloat16, products of many rows are rounded on their way to the norm; of few rows never.
TEST_F(Elementwise, NormOfAPartialLinearMatchesTheCpu) {
  const std::unique_ptr<Comm> comm = std::move(make_thread_comms(1).front());
  const std::unique_ptr<Comm> gpu_comm =
      cuda::make_cuda_comm(cuda::make_cuda_group(1, {false, default_comm_timeout()}), *comm,
                           dynamic_cast<cuda::CudaOps&>(gpu()).stream());
  constexpr std::int64_t kInFeatures = 128;
  for (DType dtype : kFloatTypes) {
    for (std::int64_t rows : {64, 65, 300}) {
      for (std::int64_t columns : {64, 577, 4096, 5001}) {
        if (too_large(rows * columns * kInFeatures, dtype)) continue;
        SCOPED_TRACE(testing::Message() << name_of(dtype) << " " << rows << " x " << columns);
        const Shape shape{rows, columns};
        std::vector<float> weights = noise(columns * kInFeatures, 15, 0.1f);
        const std::vector<float> x = noise(rows * kInFeatures, 16);
        const std::vector<float> stream = noise(rows * columns, 17);
        std::vector<float> bias = noise(columns, 18), weight = noise(columns, 19);
        std::vector<std::uint8_t> bytes = encode(x, dtype);  // what the GPU gets to see of x
        std::vector<float> rounded = to_float32({bytes.data(), dtype, {rows * kInFeatures}, {}});
        const auto make_matrix = [&](Ops& ops) {
          Matrix matrix = ops.make_matrix(columns, kInFeatures, kLeaves, dtype);
          ops.write_rows(matrix, 0, host(weights, {columns, kInFeatures}));
          return matrix;
        };
        const Matrix cpu_matrix = make_matrix(cpu()), gpu_matrix = make_matrix(gpu());
        const Tensor cpu_bias = host(bias, {columns}), gpu_bias = put(bias, {columns});
        for (bool biased : {false, true}) {
          std::vector<float> partial(stream.size()), sum = stream, expected(stream.size());
          cpu().partial_linear(*comm, host(partial, shape), host(rounded, {rows, kInFeatures}),
                               cpu_matrix);
          cpu().all_reduce_add_rms_norm(*comm, host(expected, shape), host(sum, shape),
                                        host(partial, shape), biased ? &cpu_bias : nullptr,
                                        host(weight, {columns}), 1e-5f);
          const Tensor gpu_partial = poisoned(DType::kFloat32, shape);
          const Tensor gpu_stream = put(stream, shape), out = poisoned(dtype, shape);
          gpu().partial_linear(*gpu_comm, gpu_partial, put_as(dtype, x, {rows, kInFeatures}),
                               gpu_matrix);
          gpu().all_reduce_add_rms_norm(*gpu_comm, out, gpu_stream, gpu_partial,
                                        biased ? &gpu_bias : nullptr, put(weight, {columns}),
                                        1e-5f);
          const double limit = rows > 64 && dtype == DType::kBFloat16 ? 0x1p-8 : 1e-5;
          EXPECT_LE(difference(sum, floats(gpu_stream)), limit);
          EXPECT_LE(difference(expected, floats(out)), tolerance(dtype, limit));
        }
      }
    }
  }
}

// Few rows have a cluster of blocks each, many have one block.
TEST_F(Elementwise, RmsNormOfARowDoesNotDependOnTheOthers) {
  for (std::int64_t columns : {577, 4096, 5120}) {
    const std::int64_t rows = 65;
    const std::vector<float> x = noise(rows * columns, 6);
    const Tensor weight = put(noise(columns, 7), {columns});
    const Tensor out = poisoned(DType::kFloat32, {rows, columns});
    gpu().rms_norm(out, put(x, {rows, columns}), weight, 1e-5f);
    const std::vector<float> together = floats(out);
    for (std::int64_t first_row : {0, 1, 64}) {
      for (std::int64_t count : {1, 33, 64}) {
        if (first_row + count > rows) continue;
        const auto first = x.begin() + first_row * columns, last = first + count * columns;
        const auto expected =
            std::span(together).subspan(size(first_row * columns), size(count * columns));
        const Tensor alone = poisoned(DType::kFloat32, {count, columns});
        gpu().rms_norm(alone, put(std::vector<float>(first, last), {count, columns}), weight,
                       1e-5f);
        EXPECT_TRUE(same_bits(floats(alone), expected)) << columns << " " << count;
        // One element further on in memory, where rows are not aligned.
        std::vector<float> shifted(size(count * columns) + 1);
        std::copy(first, last, shifted.begin() + 1);
        const Tensor memory = put(shifted, {count * columns + 1});
        const Tensor odd{memory.as<float>() + 1, DType::kFloat32, {count, columns}, memory.device};
        gpu().rms_norm(alone, odd, weight, 1e-5f);
        EXPECT_TRUE(same_bits(floats(alone), expected)) << columns << " " << count << " shifted";
      }
    }
  }
}

TEST_F(Elementwise, RmsNormMayReplaceItsInput) {
  const std::int64_t rows = 3, columns = 1000;
  const std::vector<float> x = noise(rows * columns, 8);
  const Tensor weight = put(noise(columns, 9), {columns});
  const Tensor out = poisoned(DType::kFloat32, {rows, columns}), in = put(x, {rows, columns});
  gpu().rms_norm(out, in, weight, 1e-5f);
  gpu().rms_norm(in, in, weight, 1e-5f);
  EXPECT_TRUE(same_bits(floats(out), floats(in)));
}

TEST_F(Elementwise, GatherRowsCopiesRows) {
  for (DType dtype : kFloatTypes) {
    for (std::int64_t columns : {1, 5, 64, 577}) {
      const std::int64_t rows = 20;
      const std::vector<float> x = noise(rows * columns, 10);
      const std::vector<std::int32_t> indices = {19, 0, 7, 7, 3};
      const Tensor source = put_as(dtype, x, {rows, columns});
      const Tensor out = poisoned(dtype, {5, columns});
      gpu().gather_rows(out, source, put(indices, {5}));
      const std::vector<float> all = floats(source), found = floats(out);
      for (std::size_t i = 0; i < indices.size(); ++i)
        EXPECT_TRUE(same_bits(std::span(all).subspan(size(indices[i] * columns), size(columns)),
                              std::span(found).subspan(i * size(columns), size(columns))));
    }
  }
}

TEST_F(Elementwise, GatherRowsOfARowThatIsNotThereIsNaN) {
  const Tensor out = make(DType::kBFloat16, {2, 6});
  const std::vector<float> x = noise(4 * 6, 11);
  gpu().gather_rows(out, put_as(DType::kBFloat16, x, {4, 6}),
                    put(std::vector<std::int32_t>{4, -1}, {2}));
  for (float value : floats(out)) EXPECT_TRUE(std::isnan(value));
}

TEST_F(Elementwise, CopyColumnsLeavesTheOthers) {
  for (std::int64_t rows : kRowCounts) {
    std::vector<float> x = noise(rows * 700, 12), out = noise(rows * 900, 13);
    const Tensor gpu_out = put(out, {rows, 900});
    gpu().copy_columns(gpu_out, 101, put(x, {rows, 700}), 33, 599);
    cpu().copy_columns(host(out, {rows, 900}), 101, host(x, {rows, 700}), 33, 599);
    EXPECT_TRUE(same_bits(out, floats(gpu_out)));
  }
}

TEST_F(Elementwise, TokenIdsLooksUpTheRowsTokens) {
  std::vector<std::int32_t> tokens(3 * 50);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(1000 + i);
  BatchView batch;
  batch.rows = 5;
  batch.positions = put(std::vector<std::int32_t>{0, 49, 7, 50, 1}, {5});
  batch.row_sequence = put(std::vector<std::int32_t>{0, 2, 1, 1, -1}, {5});
  const Tensor ids = make(DType::kInt32, {5});
  gpu().token_ids(ids, put(tokens, {3, 50}), batch);
  EXPECT_EQ(get<std::int32_t>(ids), (std::vector<std::int32_t>{1000, 1149, 1057, -1, -1}));
}

TEST_F(Elementwise, NoRowsAreNoWork) {
  const Tensor none{nullptr, DType::kFloat32, {0, 8}, {DeviceType::kCuda, 0}};
  gpu().add(none, none);
  gpu().rms_norm(none, none, put(noise(8, 14), {8}), 1e-5f);
  gpu().silu_multiply(none, Tensor{nullptr, DType::kFloat32, {0, 16}, {DeviceType::kCuda, 0}});
}

TEST_F(Elementwise, WrongArgumentsAreErrors) {
  std::vector<float> values(8);
  const Tensor x = put(values, {2, 4});
  EXPECT_THROW(gpu().add(x, host(values, {2, 4})), Error);  // not on the GPU
  EXPECT_THROW(gpu().add(x, put(values, {4, 2})), Error);
  EXPECT_THROW(gpu().silu_multiply(x, x), Error);
  EXPECT_THROW(gpu().rms_norm(make(DType::kInt32, {2, 4}), x, put(noise(4, 1), {4}), 1e-5f), Error);
  EXPECT_THROW(gpu().copy_columns(x, 2, x, 0, 3), Error);
  EXPECT_THROW(gpu().gather_rows(x, x, put(std::vector<std::int32_t>{0}, {1})), Error);
}

}  // namespace
}  // namespace lockstep::test
