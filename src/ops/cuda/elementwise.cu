// The operations in which every element stands for itself.
#include <algorithm>
#include <cstdint>

#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// A thread's first column, where each takes kWidth; rows are blockIdx.y and every gridDim.y-th.
template <int kWidth = 1>
__device__ std::int64_t thread_column() {
  return (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kWidth;
}

// One thread for every kWidth columns of a row.
template <typename... Parameters, typename... Arguments>
void launch_rows(cudaStream_t stream, void (*kernel)(Parameters...), std::int64_t rows,
                 std::int64_t columns, int width, Arguments&&... arguments) {
  launch(stream, kernel, divide_up(columns, std::int64_t{kThreads} * width),
         std::min(rows, kMaxGridYZ), 1, kThreads, arguments...);
}

template <int kWidth>
__global__ void __launch_bounds__(kThreads) add_kernel(float* x, const float* y, std::int64_t rows,
                                                       std::int64_t size, std::int64_t y_stride) {
  begin_kernel();
  const std::int64_t column = thread_column<kWidth>();
  if (column >= size) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    auto sum = load_pack<float, kWidth>(x + row * size + column);
    const auto term = load_pack<float, kWidth>(y + row * y_stride + column);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.values[i] += term.values[i];
    store_pack(x + row * size + column, sum);
  }
}

template <typename T, typename From, int kWidth>
__global__ void __launch_bounds__(kThreads)
    silu_multiply_kernel(T* out, const From* gate_up, std::int64_t rows, std::int64_t size) {
  begin_kernel();
  const std::int64_t column = thread_column<kWidth>();
  if (column >= size) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const From* from = gate_up + row * 2 * size + column;
    const auto gate = load_pack<From, kWidth>(from);
    const auto up = load_pack<From, kWidth>(from + size);
    Pack<T, kWidth> result;
#pragma unroll
    for (int i = 0; i < kWidth; ++i)
      result.values[i] =
          from_float<T>(silu_multiply(to_float(gate.values[i]), to_float(up.values[i])));
    store_pack(out + row * size + column, result);
  }
}

// Rows of `columns` words. A row that x does not have comes out as all ones: NaN.
template <typename Word>
__global__ void __launch_bounds__(kThreads)
    gather_rows_kernel(Word* out, const Word* x, const std::int32_t* indices, std::int64_t rows,
                       std::int64_t x_rows, std::int64_t columns) {
  begin_kernel();
  const std::int64_t column = thread_column();
  if (column >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const std::int32_t index = indices[row];
    Word word;
    if (index >= 0 && index < x_rows)
      word = x[index * columns + column];
    else
      memset(&word, 0xff, sizeof(word));
    out[row * columns + column] = word;
  }
}

__global__ void __launch_bounds__(kThreads)
    copy_columns_kernel(float* out, std::int64_t out_stride, const float* x, std::int64_t x_stride,
                        std::int64_t rows, std::int64_t columns) {
  begin_kernel();
  const std::int64_t column = thread_column();
  if (column >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    out[row * out_stride + column] = x[row * x_stride + column];
}

// -1 for a row that has no token.
__global__ void __launch_bounds__(kThreads)
    token_ids_kernel(std::int32_t* ids, const std::int32_t* tokens, const std::int32_t* positions,
                     const std::int32_t* row_sequence, std::int64_t rows, std::int64_t slots,
                     std::int64_t length) {
  begin_kernel();
  const std::int64_t row = thread_column();
  if (row >= rows) return;
  const std::int32_t slot = row_sequence[row], position = positions[row];
  const bool exists = slot >= 0 && slot < slots && position >= 0 && position < length;
  ids[row] = exists ? tokens[slot * length + position] : -1;
}

template <typename Word>
void gather(cudaStream_t stream, const Tensor& out, const Tensor& x, const Tensor& indices,
            std::size_t row_bytes) {
  const auto columns = static_cast<std::int64_t>(row_bytes / sizeof(Word));
  launch_rows(stream, gather_rows_kernel<Word>, out.shape[0], columns, 1, out.as<Word>(),
              x.as<const Word>(), indices.as<const std::int32_t>(), out.shape[0], x.shape[0],
              columns);
}

}  // namespace

void CudaOps::add(const Tensor& x, const Tensor& y) {
  check_table("add", "x", x);
  check_tensor("add", "x", x, DType::kFloat32, x.shape);
  const std::int64_t rows = x.shape[0], size = x.shape[1];
  const bool broadcast = y.shape.rank() == 1;
  check_tensor("add", "y", y, DType::kFloat32, broadcast ? Shape{size} : x.shape);
  const bool wide = size % 4 == 0 && aligned({x.data, y.data}, 16);
  launch_rows(stream_, wide ? add_kernel<4> : add_kernel<1>, rows, size, wide ? 4 : 1,
              x.as<float>(), y.as<const float>(), rows, size, broadcast ? 0 : size);
}

// Where a product is rounded to 16 bits (gated_linear()), gate_up may be as out is.
void CudaOps::silu_multiply(const Tensor& out, const Tensor& gate_up) {
  check_table("silu_multiply", "out", out);
  const std::int64_t rows = out.shape[0], size = out.shape[1];
  check_activation("silu_multiply", "out", out, out.shape);
  const DType from = gate_up.dtype == out.dtype ? out.dtype : DType::kFloat32;
  check_tensor("silu_multiply", "gate_up", gate_up, from, {rows, 2 * size});
  with_element_type(out.dtype, [&]<typename T>(T) {
    const auto launch_from = [&]<typename From>(From) {
      constexpr int kWidth = 16 / sizeof(From);
      const bool wide = size % kWidth == 0 && aligned({out.data, gate_up.data}, 16);
      launch_rows(stream_,
                  wide ? silu_multiply_kernel<T, From, kWidth> : silu_multiply_kernel<T, From, 1>,
                  rows, size, wide ? kWidth : 1, out.as<T>(), gate_up.as<const From>(), rows, size);
    };
    if (from == DType::kFloat32)
      launch_from(float{});
    else
      launch_from(T{});
  });
}

void CudaOps::gather_rows(const Tensor& out, const Tensor& x, const Tensor& indices) {
  check_table("gather_rows", "x", x);
  const std::int64_t count = indices.num_rows();
  check_tensor("gather_rows", "indices", indices, DType::kInt32, {count});
  check_tensor("gather_rows", "out", out, x.dtype, {count, x.shape[1]});
  const std::size_t bytes = static_cast<std::size_t>(x.shape[1]) * size_of(x.dtype);
  const auto fits = [&](std::size_t word) {
    return bytes % word == 0 && aligned({out.data, x.data}, word);
  };
  if (fits(16))
    gather<uint4>(stream_, out, x, indices, bytes);
  else if (fits(4))
    gather<std::uint32_t>(stream_, out, x, indices, bytes);
  else
    gather<std::uint8_t>(stream_, out, x, indices, bytes);
}

void CudaOps::copy_columns(const Tensor& out, std::int64_t out_column, const Tensor& x,
                           std::int64_t x_column, std::int64_t columns) {
  check_table("copy_columns", "x", x);
  check_table("copy_columns", "out", out);
  check_tensor("copy_columns", "x", x, DType::kFloat32, x.shape);
  check_tensor("copy_columns", "out", out, DType::kFloat32, {x.shape[0], out.shape[1]});
  check(columns >= 0 && out_column >= 0 && x_column >= 0 && out_column <= out.shape[1] - columns &&
            x_column <= x.shape[1] - columns,
        "copy_columns: {} columns from {} of {} to {} of {}", columns, x_column, x.shape[1],
        out_column, out.shape[1]);
  launch_rows(stream_, copy_columns_kernel, x.shape[0], columns, 1, out.as<float>() + out_column,
              out.shape[1], x.as<const float>() + x_column, x.shape[1], x.shape[0], columns);
}

void CudaOps::token_ids(const Tensor& ids, const Tensor& tokens, const BatchView& batch) {
  check_table("token_ids", "tokens", tokens);
  check_tensor("token_ids", "tokens", tokens, DType::kInt32, tokens.shape);
  check_tensor("token_ids", "ids", ids, DType::kInt32, {batch.rows});
  check_tensor("token_ids", "positions", batch.positions, DType::kInt32, {batch.rows});
  check_tensor("token_ids", "row_sequence", batch.row_sequence, DType::kInt32, {batch.rows});
  launch(stream_, token_ids_kernel, divide_up(batch.rows, kThreads), 1, 1, kThreads,
         ids.as<std::int32_t>(), tokens.as<const std::int32_t>(),
         batch.positions.as<const std::int32_t>(), batch.row_sequence.as<const std::int32_t>(),
         batch.rows, tokens.shape[0], tokens.shape[1]);
}

}  // namespace lockstep::cuda
