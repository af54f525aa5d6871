// Matrices on the GPU: row-major, rows padded to whole 16 bytes.
#include <cstring>
#include <vector>

#include "core/convert.h"
#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

template <typename T>
__global__ void embedding_kernel(float* out, const T* table, const std::int32_t* ids,
                                 std::int64_t rows_of_table, std::int64_t columns,
                                 std::int64_t leading) {
  begin_kernel();
  const std::int64_t row = blockIdx.x;
  const std::int64_t id = ids[row];
  const bool found = id >= 0 && id < rows_of_table;  // others are padding
  for (std::int64_t column = threadIdx.x; column < columns; column += blockDim.x)
    out[row * columns + column] = found ? to_float(table[id * leading + column]) : 0.0f;
}

__global__ void read_kernel(const uint4* data, std::size_t count, unsigned* never) {
  begin_kernel();
  constexpr int kUnroll = 8;
  const std::size_t threads = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  unsigned sum = 0;
  for (; i + (kUnroll - 1) * threads < count; i += kUnroll * threads) {
    uint4 values[kUnroll];
#pragma unroll
    for (int j = 0; j < kUnroll; ++j) values[j] = __ldcs(data + i + j * threads);
#pragma unroll
    for (int j = 0; j < kUnroll; ++j) sum ^= values[j].x ^ values[j].y ^ values[j].z ^ values[j].w;
  }
  for (; i < count; i += threads) sum ^= data[i].x;
  if (never != nullptr) *never = sum;  // null: but the compiler cannot know
}

}  // namespace

Matrix CudaOps::make_matrix(std::int64_t out_features, std::int64_t in_features, int leaves,
                            DType dtype) {
  check(out_features >= 0 && in_features >= 0, "a matrix of [{}, {}]", out_features, in_features);
  check(leaves >= 1 && leaves <= kLeaves, "{} leaves: there are 1 to {}", leaves, kLeaves);
  Matrix matrix;
  matrix.out_features = out_features;
  matrix.in_features = in_features;
  matrix.leaves = leaves;
  matrix.dtype = dtype;
  matrix.bytes =
      static_cast<std::size_t>(out_features * leading_dimension(matrix)) * size_of(dtype);
  auto storage = std::make_shared<Buffer>(allocate(matrix.bytes));
  matrix.data = storage->data();
  matrix.storage = std::move(storage);
  return matrix;
}

void CudaOps::write_rows(const Matrix& matrix, std::int64_t first_row, const Tensor& rows) {
  check(rows.shape.rank() == 2 && rows.shape[1] == matrix.in_features && first_row >= 0 &&
            first_row + rows.shape[0] <= matrix.out_features,
        "write_rows: rows {} to row {} of [{}, {}]", to_string(rows.shape), first_row,
        matrix.out_features, matrix.in_features);
  const std::int64_t leading = leading_dimension(matrix);
  const std::size_t row_bytes = static_cast<std::size_t>(leading) * size_of(matrix.dtype);
  auto* to = static_cast<char*>(matrix.data) + static_cast<std::size_t>(first_row) * row_bytes;
  const auto tensor_of = [&](void* data, std::int64_t bytes, Device device) {
    return Tensor{data, DType::kUInt8, {bytes}, device};
  };
  const Device device{DeviceType::kCuda, device_};
  const auto total = static_cast<std::int64_t>(static_cast<std::size_t>(rows.shape[0]) * row_bytes);
  if (rows.dtype == matrix.dtype && leading == matrix.in_features) {
    upload(tensor_of(to, total, device), tensor_of(rows.data, total, Device{}));
    return;
  }
  const std::vector<float> values = to_float32(rows);
  std::vector<char> converted(static_cast<std::size_t>(total));
  for (std::int64_t row = 0; row < rows.shape[0]; ++row) {
    char* line = converted.data() + static_cast<std::size_t>(row) * row_bytes;
    for (std::int64_t column = 0; column < matrix.in_features; ++column) {
      const float value = values[static_cast<std::size_t>(row * matrix.in_features + column)];
      const std::uint16_t half =
          matrix.dtype == DType::kBFloat16 ? float_to_bfloat16(value) : float_to_float16(value);
      if (matrix.dtype == DType::kFloat32)
        std::memcpy(line + column * 4, &value, 4);
      else
        std::memcpy(line + column * 2, &half, 2);
    }
  }
  upload(tensor_of(to, total, device), tensor_of(converted.data(), total, Device{}));
}

Matrix CudaOps::row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) {
  check(0 <= begin && begin <= end && end <= matrix.out_features && begin % kRowBlock == 0,
        "rows [{}, {}) of a matrix of {} rows cannot be viewed", begin, end, matrix.out_features);
  Matrix view = matrix;
  const std::size_t row_bytes =
      static_cast<std::size_t>(leading_dimension(matrix)) * size_of(matrix.dtype);
  view.out_features = end - begin;
  view.data = static_cast<char*>(matrix.data) + static_cast<std::size_t>(begin) * row_bytes;
  view.bytes = static_cast<std::size_t>(end - begin) * row_bytes;
  return view;
}

void CudaOps::read(const Matrix& matrix) {
  launch(stream_, read_kernel, num_multiprocessors_ * 8, 1, 1, dim3(256),
         static_cast<const uint4*>(matrix.data), matrix.bytes / sizeof(uint4), nullptr);
}

void CudaOps::embedding(const Tensor& out, const Matrix& table, const Tensor& ids) {
  const std::int64_t rows = ids.num_rows();
  check_tensor("embedding", "ids", ids, DType::kInt32, {rows});
  check_tensor("embedding", "out", out, DType::kFloat32, {rows, table.in_features});
  with_element_type(table.dtype, [&]<typename T>(T) {
    launch(stream_, embedding_kernel<T>, rows, 1, 1, dim3(256), out.as<float>(),
           static_cast<const T*>(table.data), ids.as<const std::int32_t>(), table.out_features,
           table.in_features, leading_dimension(table));
  });
}

}  // namespace lockstep::cuda
