// linear() on the GPU. Up to kMaxDecodeRows rows: tensor cores fed straight from memory, in the
// canonical sum's shape. More rows: cuBLASLt, unless the bits have to be the same at every world
// size.
#include <cstdint>

#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/matmul.h"

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;     // of a CTA: one for each leaf, or several panels' leaves
constexpr int kPanel = 16;    // weight rows of one tensor-core tile
constexpr int kTileRows = 8;  // input rows of one tensor-core tile
constexpr int kStep = 32;     // columns that a warp multiplies at a time: two tiles' worth
constexpr int kMaxDecodeRows = 64;

struct LinearArguments {
  float* out;          // [rows, out_features]
  const void* x;       // [rows, in_features]
  const void* weight;  // [out_features, leading dimension]
  const float* bias;   // [out_features] or null
  std::int64_t out_features;
  std::int64_t in_features;
  std::int64_t leading;  // elements between weight rows
  int rows;
  int leaves;
  std::int64_t leaf_size;
};

// 16 bytes of a weight: read once, not to be kept near.
__device__ inline uint4 load_weight(const void* address) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address));
  return value;
}

// D += A * B for a 16x16 tile of weights and a 16x8 tile of inputs.
template <typename T>
__device__ inline void multiply_tile(float (&d)[4], unsigned a0, unsigned a1, unsigned a2,
                                     unsigned a3, unsigned b0, unsigned b1) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}

// The canonical tree over `leaves` (a power of two) sums that lie `stride` floats apart.
__device__ inline float sum_leaves(const float* sums, int leaves, int stride) {
  float values[kWarps];
#pragma unroll
  for (int i = 0; i < kWarps; ++i) values[i] = i < leaves ? sums[i * stride] : 0.0f;
#pragma unroll
  for (int width = 1; width < kWarps; width *= 2)
#pragma unroll
    for (int i = 0; i + width < kWarps; i += 2 * width)
      if (i + width < leaves) values[i] += values[i + width];
  return values[0];
}

// One warp computes one leaf of kPanel outputs for up to kTiles * kTileRows rows. A lane's 16 bytes
// of a weight row are eight neighbouring columns; it uses them as its share of two tensor-core
// tiles, and reads the inputs at the same columns, so that no shuffle and no shared memory is
// needed: which column meets which slot of the instruction is the same for both operands. The order
// of a leaf's sum is the instruction's, step after step.
template <typename T, int kTiles>
__global__ __launch_bounds__(kWarps * 32,
                             kTiles == 1 ? 3
                                         : 1) void linear_kernel(const LinearArguments arguments) {
  __shared__ float sums[kWarps][kPanel][kTiles * kTileRows + 1];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int group = lane / 4, quarter = lane % 4;
  const int leaf = warp % arguments.leaves;
  const int panels = kWarps / arguments.leaves;
  const std::int64_t first_panel = static_cast<std::int64_t>(blockIdx.x) * panels;
  const std::int64_t first_row = (first_panel + warp / arguments.leaves) * kPanel;
  const std::int64_t begin = leaf * arguments.leaf_size + quarter * 8;
  const std::int64_t end = (leaf + 1) * arguments.leaf_size;

  const T* weight = static_cast<const T*>(arguments.weight);
  const T* upper = weight + (first_row + group) * arguments.leading;
  const T* lower = upper + 8 * arguments.leading;
  const bool has_upper = first_row + group < arguments.out_features;
  const bool has_lower = first_row + group + 8 < arguments.out_features;
  const T* x = static_cast<const T*>(arguments.x) + group * arguments.in_features;

  // Two sets of weights (and, for few rows, inputs): one is multiplied while the other is on its
  // way.
  constexpr int kUnroll = 2;  // steps of a set
  constexpr bool kInputsAhead = kTiles == 1;
  constexpr int kStride = kStep * kUnroll;
  uint4 a[2][kUnroll], b[2][kUnroll], ahead[2][kInputsAhead ? kUnroll : 1];
  const auto load_weights = [&](int set, std::int64_t k) {
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
      const std::int64_t column = k + i * kStep;
      a[set][i] = has_upper && column < end ? load_weight(upper + column) : uint4{};
      b[set][i] = has_lower && column < end ? load_weight(lower + column) : uint4{};
    }
  };
  const auto load_input = [&](int tile, std::int64_t column) {
    const bool valid = tile * kTileRows + group < arguments.rows && column < end;
    return valid ? *reinterpret_cast<const uint4*>(x + tile * kTileRows * arguments.in_features +
                                                   column)
                 : uint4{};
  };
  const auto load_inputs = [&](int set, std::int64_t k) {
    if constexpr (kInputsAhead)
#pragma unroll
      for (int i = 0; i < kUnroll; ++i) ahead[set][i] = load_input(0, k + i * kStep);
  };
  float d[kTiles][4] = {};
  const auto multiply = [&](int set, std::int64_t k) {
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const uint4 input = kInputsAhead ? ahead[set][i] : load_input(tile, k + i * kStep);
        multiply_tile<T>(d[tile], a[set][i].x, b[set][i].x, a[set][i].y, b[set][i].y, input.x,
                         input.y);
        multiply_tile<T>(d[tile], a[set][i].z, b[set][i].z, a[set][i].w, b[set][i].w, input.z,
                         input.w);
      }
    }
  };

  load_weights(0, begin);
  load_weights(1, begin + kStride);
  begin_kernel();  // weights do not depend on the kernels before this one; inputs do
  load_inputs(0, begin);
  load_inputs(1, begin + kStride);
  // All lanes of a warp take the same number of turns.
  for (std::int64_t k = begin; k < end + quarter * 8; k += 2 * kStride) {
    multiply(0, k);
    load_weights(0, k + 2 * kStride);
    load_inputs(0, k + 2 * kStride);
    multiply(1, k + kStride);
    load_weights(1, k + 3 * kStride);
    load_inputs(1, k + 3 * kStride);
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    const int column = tile * kTileRows + quarter * 2;
    sums[warp][group][column] = d[tile][0];
    sums[warp][group][column + 1] = d[tile][1];
    sums[warp][group + 8][column] = d[tile][2];
    sums[warp][group + 8][column + 1] = d[tile][3];
  }
  __syncthreads();
  constexpr int kWarpStride = kPanel * (kTiles * kTileRows + 1);
  for (int i = threadIdx.x; i < panels * kPanel * arguments.rows; i += kWarps * 32) {
    const int row = i / (panels * kPanel), panel = i / kPanel % panels, in_panel = i % kPanel;
    const std::int64_t feature = (first_panel + panel) * kPanel + in_panel;
    if (feature >= arguments.out_features) continue;
    float sum =
        sum_leaves(&sums[panel * arguments.leaves][in_panel][row], arguments.leaves, kWarpStride);
    if (arguments.bias) sum += arguments.bias[feature];
    arguments.out[row * arguments.out_features + feature] = sum;
  }
}

// Any dtype, alignment and size: one CTA an output feature and row, one warp a leaf.
template <typename T>
__global__ __launch_bounds__(kWarps * 32) void linear_any_kernel(const LinearArguments arguments) {
  __shared__ float sums[kWarps];
  begin_kernel();
  const int leaf = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int64_t feature = blockIdx.x, row = blockIdx.y;
  const std::int64_t begin = leaf * arguments.leaf_size;
  const std::int64_t end = min(begin + arguments.leaf_size, arguments.in_features);
  const T* weight = static_cast<const T*>(arguments.weight) + feature * arguments.leading;
  const T* x = static_cast<const T*>(arguments.x) + row * arguments.in_features;
  float sum = 0;
  if (leaf < arguments.leaves)
    for (std::int64_t k = begin + lane; k < end; k += 32)
      sum = fmaf(to_float(weight[k]), to_float(x[k]), sum);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, distance);
  if (lane == 0) sums[leaf] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  sum = sum_leaves(sums, arguments.leaves, 1);
  if (arguments.bias) sum += arguments.bias[feature];
  arguments.out[row * arguments.out_features + feature] = sum;
}

template <typename T, int kTiles>
void launch_linear(const LinearArguments& arguments, cudaStream_t stream) {
  const std::int64_t features = kWarps / arguments.leaves * kPanel;
  launch(stream, linear_kernel<T, kTiles>, divide_up(arguments.out_features, features), 1, 1,
         dim3(kWarps * 32), arguments);
}

// Rows in groups of at most kMaxDecodeRows; a row's bits do not depend on the group.
template <typename T>
void canonical_linear(LinearArguments arguments, bool aligned, std::int64_t rows,
                      cudaStream_t stream) {
  const std::int64_t limit = aligned ? kMaxDecodeRows : kMaxGridYZ;
  for (std::int64_t row = 0; row < rows; row += limit) {
    arguments.rows = static_cast<int>(std::min(limit, rows - row));
    if (!aligned) {
      launch(stream, linear_any_kernel<T>, arguments.out_features, arguments.rows, 1,
             dim3(kWarps * 32), arguments);
    } else if constexpr (!std::is_same_v<T, float>) {
      if (arguments.rows <= 8)
        launch_linear<T, 1>(arguments, stream);
      else if (arguments.rows <= 16)
        launch_linear<T, 2>(arguments, stream);
      else if (arguments.rows <= 32)
        launch_linear<T, 4>(arguments, stream);
      else
        launch_linear<T, 8>(arguments, stream);
    }
    arguments.x = static_cast<const T*>(arguments.x) + arguments.rows * arguments.in_features;
    arguments.out += arguments.rows * arguments.out_features;
  }
}

}  // namespace

void CudaOps::linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias) {
  const std::int64_t rows = x.num_rows();
  check_tensor("linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_tensor("linear", "out", out, DType::kFloat32, {rows, weight.out_features});
  if (bias) check_tensor("linear", "bias", *bias, DType::kFloat32, {weight.out_features});
  if (rows == 0 || weight.out_features == 0) return;

  LinearArguments arguments{};
  arguments.out = out.as<float>();
  arguments.x = x.data;
  arguments.weight = weight.data;
  arguments.bias = bias ? bias->as<const float>() : nullptr;
  arguments.out_features = weight.out_features;
  arguments.in_features = weight.in_features;
  arguments.leading = leading_dimension(weight);
  arguments.leaves = weight.leaves;
  arguments.leaf_size = (weight.in_features + weight.leaves - 1) / weight.leaves;
  // Tensor cores take eight columns a lane: leaves must end at multiples of eight.
  const bool aligned = weight.in_features % (8 * weight.leaves) == 0 && weight.in_features > 0 &&
                       weight.leaves > 0 && kWarps % weight.leaves == 0;
  if (rows > kMaxDecodeRows && aligned && !deterministic_) {
    matmul_->multiply(out, x, weight, stream_);
    if (bias) add(out, *bias);
    return;
  }
  with_element_type(weight.dtype, [&]<typename T>(T) {
    canonical_linear<T>(arguments, aligned && !std::is_same_v<T, float>, rows, stream_);
  });
}

}  // namespace lockstep::cuda
