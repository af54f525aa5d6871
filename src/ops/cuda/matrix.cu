// Matrices on the GPU: row-major, rows padded to whole 16 bytes.
#include <algorithm>

#include "ops/cuda/barrier.h"
#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

template <typename From, typename To>
__global__ void convert_rows_kernel(To* out, const From* in, std::int64_t rows,
                                    std::int64_t columns, std::int64_t leading) {
  begin_kernel();
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y)
    out[row * leading + column] = from_float<To>(to_float(in[row * columns + column]));
}

// As core/dummy.h has it, to the bit: every step there is exact but the last rounding.
template <typename T>
__global__ void dummy_rows_kernel(T* out, DummySource source, std::int64_t source_row,
                                  std::int64_t source_column, std::int64_t rows,
                                  std::int64_t columns, std::int64_t leading) {
  begin_kernel();
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (column >= columns) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float value = dummy_value(dummy_row(source.key, static_cast<std::uint64_t>(source_row + row)),
                              static_cast<std::uint64_t>(source_column + column), source.base);
    if (source.dtype == DType::kBFloat16)
      value = to_float(from_float<BFloat16>(value));
    else if (source.dtype == DType::kFloat16)
      value = to_float(from_float<Float16>(value));
    out[row * leading + column] = from_float<T>(value);
  }
}

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

// How read() goes through memory: kReadWarps warps of each block take turns with pieces of
// kReadRows rows.
constexpr int kReadWarps = 8, kReadDepth = 3, kReadRows = 8, kReadRowBytes = 512;
constexpr int kReadPiece = kReadRows * kReadRowBytes;
constexpr std::size_t kReadSharedBytes = kReadWarps * kReadDepth * (kReadPiece + sizeof(Barrier));

// Pieces are only brought to the multiprocessors, which is what takes the time.
__global__ void __launch_bounds__(kReadWarps* kWarp)
    read_kernel(const unsigned char* data, std::int64_t bytes, unsigned* never) {
  auto* const shared = static_cast<unsigned char*>(launched_shared_memory());
  allow_next_kernel();
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  unsigned char* const places = shared + warp * kReadDepth * kReadPiece;
  Barrier* const full =
      reinterpret_cast<Barrier*>(shared + kReadWarps * kReadDepth * kReadPiece) + warp * kReadDepth;
  if (lane == 0) {
    for (int i = 0; i < kReadDepth; ++i) full[i].start(1);
    barriers_started();
  }
  __syncwarp();
#if __CUDA_ARCH__ >= 900
  const std::int64_t pieces = bytes / kReadPiece;
#else
  const std::int64_t pieces = 0;
#endif
  const std::int64_t begin = blockIdx.x * pieces / gridDim.x + warp;
  const std::int64_t end = (blockIdx.x + 1) * pieces / gridDim.x;
  std::int64_t next = begin;
  const auto copy = [&](int place) {
    if (next < end) {
      if (lane == 0) full[place].expect(kReadPiece);
      if (lane < kReadRows)
        copy_bytes(full[place], places + place * kReadPiece + lane * kReadRowBytes,
                   data + next * kReadPiece + lane * kReadRowBytes, kReadRowBytes);
    }
    next += kReadWarps;
  };
  for (int place = 0; place < kReadDepth; ++place) copy(place);
  int place = 0;
  unsigned turn = 0;
  for (std::int64_t piece = begin; piece < end; piece += kReadWarps) {
    full[place].wait(turn);
    __syncwarp();
    copy(place);
    if (++place == kReadDepth) {
      place = 0;
      ++turn;
    }
  }
  unsigned sum = 0;  // of what is no whole piece
  const std::int64_t threads = std::int64_t{gridDim.x} * blockDim.x;
  const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (std::int64_t i = pieces * kReadPiece + thread * 4; i < bytes; i += threads * 4)
    sum ^= *reinterpret_cast<const unsigned*>(data + i);
  if (never != nullptr) *never = sum;  // null: but the compiler cannot know
  wait_for_previous_kernels();         // nothing that is read is written by them
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
  if (unconverted_.bytes() < rows.bytes()) unconverted_ = allocate(rows.bytes());
  const auto bytes = static_cast<std::int64_t>(rows.bytes());
  upload(tensor_of(unconverted_.data(), bytes, device), tensor_of(rows.data, bytes, Device{}));
  with_element_type(rows.dtype, [&]<typename From>(From) {
    with_element_type(matrix.dtype, [&]<typename To>(To) {
      launch(stream_, convert_rows_kernel<From, To>, divide_up(matrix.in_features, kThreads),
             std::min(rows.shape[0], kMaxGridYZ), 1, dim3(kThreads), reinterpret_cast<To*>(to),
             static_cast<const From*>(unconverted_.data()), rows.shape[0], matrix.in_features,
             leading);
    });
  });
}

bool CudaOps::write_dummy_rows(const Matrix& matrix, std::int64_t first_row, std::int64_t rows,
                               const DummySource& source, std::int64_t source_row,
                               std::int64_t source_column) {
  check(first_row >= 0 && rows >= 0 && first_row + rows <= matrix.out_features,
        "write_dummy_rows: {} rows from row {} of [{}, {}]", rows, first_row, matrix.out_features,
        matrix.in_features);
  const std::int64_t leading = leading_dimension(matrix);
  with_element_type(matrix.dtype, [&]<typename T>(T) {
    launch(stream_, dummy_rows_kernel<T>, divide_up(matrix.in_features, kThreads),
           std::min(rows, kMaxGridYZ), 1, dim3(kThreads),
           static_cast<T*>(matrix.data) + first_row * leading, source, source_row, source_column,
           rows, matrix.in_features, leading);
  });
  return true;
}

Matrix CudaOps::row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) {
  check(0 <= begin && begin <= end && end <= matrix.out_features &&
            (begin % kRowBlock == 0 || begin == end),
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
  launch(stream_, read_kernel, num_multiprocessors_, 1, 1,
         Block{kReadWarps * kWarp, kReadSharedBytes},
         static_cast<const unsigned char*>(matrix.data), static_cast<std::int64_t>(matrix.bytes),
         nullptr);
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
