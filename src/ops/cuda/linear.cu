// linear() on the GPU. Up to kMaxDecodeRows rows: tensor cores fed straight from memory, in the
// canonical sum's shape. More rows: cuBLASLt, unless the bits have to be the same at every world
// size.
//
// A step of few rows takes as long as reading the weights does, so everything here is about asking
// for them early. The features are dealt out to sets of warps, as evenly as possible, once for the
// whole kernel; a set works through its share in groups of panels, each warp on its leaf. Each
// warp has a queue of steps in shared memory, which does not stop between groups and is filled
// before the kernels before this one are done: that is when the memory would be idle.
//
// A lane's 16 bytes of a weight row are eight neighbouring columns; it uses them as its share of
// two tensor-core tiles, and reads the inputs at the same columns: which column meets which slot of
// the instruction is the same for both operands. The order of a leaf's sum is the instruction's,
// step after step.
#include <algorithm>
#include <cstdint>

#include "comm/cuda/peer_exchange.h"
#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/matmul.h"
#include "ops/cuda/row_queue.h"
#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {

// What becomes of a row's product.
enum class Result {
  kStored,     // as float32
  kGated,      // the weight's first half are gates, the second what they are for: silu(gate) * up
  kExchanged,  // sent to all ranks, as one rank's share of a sum
};

namespace {

constexpr int kWarps = 8;  // of a CTA: one for each leaf, of one set of features or of several
constexpr int kThreads = kWarps * kWarp;
constexpr int kPanel = 16;       // weight rows of one tensor-core tile
constexpr int kTileRows = 8;     // input rows of one tensor-core tile
constexpr int kStep = 32;        // columns that a warp multiplies at a time: two tiles' worth
constexpr int kMinFeatures = 8;  // of a set
constexpr int kLargeSharedBytes = 200 << 10;  // of a device that can have large queues

struct LinearArguments {
  void* out;              // [rows, features]; float32, or T where it is gated
  const void* x;          // [rows, in_features]
  const void* weight;     // [out_features, leading dimension]
  const float* bias;      // [out_features] or null
  std::int64_t features;  // with gates: half the weight's
  std::int64_t in_features;
  std::int64_t leading;  // elements between weight rows
  int rows;
  std::int64_t first_row;  // of the exchange
  int leaves;
  int leaf_size;
  // Sets of warps: the first `larger_sets` have one feature more.
  int set_features;
  int larger_sets;
};

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

// One step: kStep columns of a panel times those of all tiles.
template <typename T, int kTiles>
__device__ void multiply_step(float (&d)[kTiles][4], const uint4& upper, const uint4& lower,
                              const uint4 (&inputs)[kTiles]) {
  const std::uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
  const std::uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
    multiply_tile<T>(d[tile], first, inputs[tile].x, inputs[tile].y);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
    multiply_tile<T>(d[tile], second, inputs[tile].z, inputs[tile].w);
}

// One warp's place in the work.
struct Share {
  int warp, lane;
  int sets;  // of the CTA
  std::int64_t first_set;
  std::int64_t begin;  // the set's first feature
  int features;        // of the set
  std::int64_t first_column;

  __device__ explicit Share(const LinearArguments& a)
      : warp(static_cast<int>(threadIdx.x) / kWarp),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        sets(kWarps / a.leaves),
        first_set(std::int64_t{blockIdx.x} * sets),
        begin(begin_of(a, first_set + warp / a.leaves)),
        features(static_cast<int>(begin_of(a, first_set + warp / a.leaves + 1) - begin)),
        first_column(std::int64_t{warp % a.leaves} * a.leaf_size) {}

  static __device__ std::int64_t begin_of(const LinearArguments& a, std::int64_t set) {
    return set * a.set_features + min(set, std::int64_t{a.larger_sets});
  }
};

// A group of kPanels panels, for up to kRows rows.
template <int kMaxRows, int kNumPanels, Result kItsResult>
struct Group {
  static constexpr Result kResult = kItsResult;
  static constexpr int kRows = kMaxRows;  // 1 or a multiple of kTileRows
  static constexpr int kPanels = kNumPanels;
  static constexpr int kTiles = (kRows + kTileRows - 1) / kTileRows;
  // With gates, a panel has eight of them and what they are for.
  static constexpr int kPanelFeatures = kResult == Result::kGated ? kPanel / 2 : kPanel;
  static constexpr int kFeatures = kPanels * kPanelFeatures;
  static constexpr int kSumStride = kRows == 1 ? 1 : kRows + 1;
  static constexpr int kWarpSums = kPanels * kPanel * kSumStride;
  // Small ones are kept for two groups, which saves a barrier.
  static constexpr int kSumBuffers = kRows == 1 ? 2 : 1;
  static constexpr std::size_t kSumBytes =
      std::size_t{kSumBuffers} * kWarps * kWarpSums * sizeof(float);

  static __device__ int count(const LinearArguments& a) {
    return (a.set_features + (a.larger_sets > 0) + kFeatures - 1) / kFeatures;
  }

  // Adds up the leaves of the CTA's `group`-th groups and brings the sums where they belong. A
  // thread's d[panel][tile] is its share of a tensor-core tile.
  template <typename T>
  static __device__ void finish(const LinearArguments& a, const Share& share,
                                const ResidualExchange& exchange, std::uint32_t number, int group,
                                const float (&d)[kPanels][kTiles][4], float* sums) {
    const int row_of_lane = share.lane / 4, quarter = share.lane % 4;
    if (kSumBuffers == 1 && group > 0) __syncthreads();  // the last group's sums were read
    sums += group % kSumBuffers * (kWarps * kWarpSums);
#pragma unroll
    for (int panel = 0; panel < kPanels; ++panel)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        float* to = sums + share.warp * kWarpSums + (panel * kPanel + row_of_lane) * kSumStride +
                    tile * kTileRows + quarter * 2;
        const float(&sum)[4] = d[panel][tile];
        if (kRows > 1) {
          to[0] = sum[0];
          to[1] = sum[1];
          to[8 * kSumStride] = sum[2];
          to[8 * kSumStride + 1] = sum[3];
        } else if (quarter == 0) {
          to[0] = sum[0];
          to[8 * kSumStride] = sum[2];
        }
      }
    __syncthreads();
    const int features = share.sets * kFeatures;
    for (int i = static_cast<int>(threadIdx.x); i < features * a.rows; i += kThreads) {
      const int row = kRows == 1 ? 0 : i / features, of_row = i - row * features;
      const int set = of_row / kFeatures, in_group = of_row % kFeatures;
      const std::int64_t feature =
          Share::begin_of(a, share.first_set + set) + group * kFeatures + in_group;
      if (feature >= Share::begin_of(a, share.first_set + set + 1)) continue;
      const int panel = in_group / kPanelFeatures, in_panel = in_group % kPanelFeatures;
      const float* leaves =
          sums + set * a.leaves * kWarpSums + (panel * kPanel + in_panel) * kSumStride + row;
      float sum = sum_leaves(leaves, a.leaves, kWarpSums);
      if (a.bias) sum += a.bias[feature];
      if constexpr (kResult == Result::kGated) {
        float up = sum_leaves(leaves + kPanelFeatures * kSumStride, a.leaves, kWarpSums);
        if (a.bias) up += a.bias[a.features + feature];
        static_cast<T*>(a.out)[row * a.features + feature] = from_float<T>(silu_multiply(sum, up));
      } else if constexpr (kResult == Result::kExchanged) {
        send_partial(exchange, (a.first_row + row) * a.features + feature, sum, number);
      } else {
        static_cast<float*>(a.out)[row * a.features + feature] = sum;
      }
    }
  }
};

// The number of the exchange that this kernel's results are for.
template <Result kResult>
__device__ std::uint32_t begin_exchange(const ResidualExchange& exchange) {
  if constexpr (kResult != Result::kExchanged) return 0;
  return next_exchange(exchange);
}

// copy_async() that has the L2 cache fetch the whole line.
__device__ inline void copy_piece(void* to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
               "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}

// Several rows. What a lane copies is what it uses, so that lanes need not wait for each other.
template <typename T, Result kResult, int kMaxRows, int kNumPanels, int kDepth>
struct RowsKernel : Group<kMaxRows, kNumPanels, kResult> {
  using G = Group<kMaxRows, kNumPanels, kResult>;
  static constexpr int kWeightBytes = G::kPanels * 2 * kWarp * 16;
  static constexpr int kStepBytes = kWeightBytes + G::kTiles * kWarp * 16;
  static constexpr std::size_t kSumsAt = std::size_t{kWarps} * kDepth * kStepBytes;
  static constexpr std::size_t kSharedBytes = kSumsAt + G::kSumBytes;

  static __device__ void run(const LinearArguments& a, const ResidualExchange& exchange,
                             unsigned char* shared) {
    constexpr int kTiles = G::kTiles, kPanels = G::kPanels;
    constexpr bool kGated = kResult == Result::kGated;
    const Share share(a);
    const int row_of_lane = share.lane / 4, quarter = share.lane % 4;

    // The step that is asked for next: its column, and the lane's row of the group's first panel.
    const T* const weight = static_cast<const T*>(a.weight) + share.begin * a.leading +
                            share.first_column + quarter * 8;
    const T* const x = static_cast<const T*>(a.x) + share.first_column + quarter * 8;
    const std::int64_t lower = (kGated ? a.features : std::int64_t{8}) * a.leading;
    int feature = row_of_lane, column = 0;
    const T* from = weight + feature * a.leading;
    const auto copy_weights = [&](unsigned char* step) {
      const bool in_leaf = column + quarter * 8 < a.leaf_size;
#pragma unroll
      for (int panel = 0; panel < kPanels; ++panel) {
        const int row = feature + panel * G::kPanelFeatures;
        const T* row_from = from + panel * G::kPanelFeatures * a.leading;
        unsigned char* to = step + panel * (2 * kWarp * 16) + share.lane * 16;
        const bool has_upper = in_leaf && row < share.features;
        const bool has_lower = kGated ? has_upper : in_leaf && row + 8 < share.features;
        copy_piece(to, has_upper ? row_from : weight, has_upper);
        copy_piece(to + kWarp * 16, has_lower ? row_from + lower : weight, has_lower);
      }
    };
    const auto copy_inputs = [&](unsigned char* step, int at) {
      const bool in_leaf = at + quarter * 8 < a.leaf_size;
      unsigned char* to = step + kWeightBytes + share.lane * 16;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int row = tile * kTileRows + row_of_lane;
        const bool valid = in_leaf && row < a.rows;
        copy_piece(to + tile * kWarp * 16, valid ? x + row * a.in_features + at : x, valid);
      }
    };
    const auto advance = [&] {
      column += kStep;
      from += kStep;
      if (column < a.leaf_size) return;
      column = 0;
      feature += G::kFeatures;
      from = weight + feature * a.leading;
    };
    const auto end_copies = [] { asm volatile("cp.async.commit_group;" ::: "memory"); };

    unsigned char* const queue = shared + share.warp * kDepth * kStepBytes;
    const int steps = (a.leaf_size + kStep - 1) / kStep;
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      copy_weights(queue + i * kStepBytes);
      advance();
      end_copies();
    }
    wait_for_previous_kernels();  // weights do not depend on them; inputs do
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      copy_inputs(queue + i * kStepBytes, i % steps * kStep);
      end_copies();
    }
    const std::uint32_t number = begin_exchange<kResult>(exchange);

    int place = 0;  // of the step in the queue
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      float d[kPanels][kTiles][4] = {};
      for (int step = 0; step < steps; ++step) {
        asm volatile("cp.async.wait_group %0;" ::"n"(kDepth - 1) : "memory");
        unsigned char* const here = queue + place * kStepBytes;
        const uint4* const words = reinterpret_cast<const uint4*>(here) + share.lane;
        uint4 upper[kPanels], lower_half[kPanels], inputs[kTiles];
#pragma unroll
        for (int panel = 0; panel < kPanels; ++panel) {
          upper[panel] = words[2 * panel * kWarp];
          lower_half[panel] = words[(2 * panel + 1) * kWarp];
        }
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile)
          inputs[tile] = words[(2 * kPanels + tile) * kWarp];
        copy_weights(here);
        copy_inputs(here, column);
        end_copies();
        advance();
        place = place + 1 == kDepth ? 0 : place + 1;
#pragma unroll
        for (int panel = 0; panel < kPanels; ++panel)
          multiply_step<T>(d[panel], upper[panel], lower_half[panel], inputs);
      }
      G::template finish<T>(a, share, exchange, number, group, d,
                            reinterpret_cast<float*>(shared + kSumsAt));
    }
  }
};

// One row, on Hopper: weight rows come by bulk copies of up to kColumns columns.
template <typename T, Result kResult, int kColumns, int kDepth>
struct OneRowKernel : Group<1, 1, kResult> {
  using G = Group<1, 1, kResult>;
  // Neighbouring rows are 64 bytes apart modulo 128: eight lanes that read 16 bytes each, four of
  // one row and four of the next, then meet all banks.
  static constexpr int kPitch = kColumns * 2 + 64;
  static constexpr int kStageBytes = (kPanel + 1) * kPitch;  // weights, then the input
  static constexpr std::size_t kSumsAt = std::size_t{kWarps} * kDepth * kStageBytes;
  static constexpr std::size_t kBarriersAt = kSumsAt + G::kSumBytes;
  static constexpr std::size_t kSharedBytes = kBarriersAt + kWarps * kDepth * sizeof(std::uint64_t);
  static_assert(kColumns % kStep == 0 && kPitch % 128 == 64 && kSumsAt % 16 == 0);

  static __device__ void run(const LinearArguments& a, const ResidualExchange& exchange,
                             unsigned char* shared) {
    constexpr bool kGated = kResult == Result::kGated;
    const Share share(a);
    const int row_of_lane = share.lane / 4, quarter = share.lane % 4;
    const T* const weight =
        static_cast<const T*>(a.weight) + share.begin * a.leading + share.first_column;
    const T* const x = static_cast<const T*>(a.x) + share.first_column;

    RowQueue<kDepth> queue(
        reinterpret_cast<std::uint64_t*>(shared + kBarriersAt) + share.warp * kDepth, share.lane);
    unsigned char* const stages = shared + share.warp * kDepth * kStageBytes;
    struct Cursor {  // of a stage
      int feature = 0, column = 0;
      __device__ void advance(int leaf_size) {
        column += kColumns;
        if (column < leaf_size) return;
        column = 0;
        feature += G::kFeatures;
      }
    };
    const auto bytes_at = [&](const Cursor& at) {
      return min(kColumns, a.leaf_size - at.column) * 2;
    };
    const auto features_at = [&](const Cursor& at) {
      return max(0, min(G::kFeatures, share.features - at.feature));
    };
    const auto copy_weights = [&](const Cursor& at, int place) {
      const int count = features_at(at), bytes = bytes_at(at);
      queue.expect(place, count > 0 ? ((kGated ? 2 : 1) * count + 1) * bytes : 0);
      const T* const from = weight + at.feature * a.leading + at.column;
      unsigned char* const to = stages + place * kStageBytes;
      queue.copy(place, to, kPitch, count, bytes, [&](int row) { return from + row * a.leading; });
      if constexpr (kGated)
        queue.copy(place, to + 8 * kPitch, kPitch, count, bytes,
                   [&](int row) { return from + (a.features + row) * a.leading; });
    };
    const auto copy_input = [&](const Cursor& at, int place) {
      queue.copy(place, stages + place * kStageBytes + kPanel * kPitch, kPitch,
                 features_at(at) > 0 ? 1 : 0, bytes_at(at), [&](int) { return x + at.column; });
    };

    Cursor next, next_input;
#pragma unroll
    for (int place = 0; place < kDepth; ++place) {
      copy_weights(next, place);
      next.advance(a.leaf_size);
    }
    wait_for_previous_kernels();  // weights do not depend on them; the input does
#pragma unroll
    for (int place = 0; place < kDepth; ++place) {
      copy_input(next_input, place);
      next_input.advance(a.leaf_size);
    }
    const std::uint32_t number = begin_exchange<kResult>(exchange);

    int place = 0;
    unsigned turn = 0;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      float d[1][1][4] = {};
      for (int column = 0; column < a.leaf_size; column += kColumns) {
        queue.wait(place, turn);
        const unsigned char* const stage = stages + place * kStageBytes + quarter * 16;
#pragma unroll
        for (int step = 0; step < kColumns / kStep; ++step) {
          if (column + step * kStep >= a.leaf_size) break;
          // Behind the end of a leaf there is what was there before.
          const bool in_leaf = column + step * kStep + quarter * 8 < a.leaf_size;
          const auto load = [&](int row) {
            return in_leaf
                       ? *reinterpret_cast<const uint4*>(stage + row * kPitch + step * kStep * 2)
                       : uint4{};
          };
          const uint4 input[1] = {load(kPanel)};  // the same in all rows of the tile
          multiply_step<T>(d[0], load(row_of_lane), load(row_of_lane + 8), input);
        }
        __syncwarp();  // all have read the stage
        if (next.feature < groups * G::kFeatures) {
          copy_weights(next, place);
          copy_input(next, place);
          next.advance(a.leaf_size);
        }
        if (++place == kDepth) {
          place = 0;
          ++turn;
        }
      }
      G::template finish<T>(a, share, exchange, number, group, d,
                            reinterpret_cast<float*>(shared + kSumsAt));
    }
  }
};

template <typename Kernel>
__global__ __launch_bounds__(kThreads, 1) void linear_kernel(
    const LinearArguments a, const __grid_constant__ ResidualExchange exchange) {
  extern __shared__ __align__(128) unsigned char shared[];
  if (Kernel::kResult != Result::kExchanged) allow_next_kernel();
  Kernel::run(a, exchange, shared);
}

// Any dtype, alignment and size: one CTA an output feature and row, one warp a leaf.
template <typename T, Result kResult>
__global__ __launch_bounds__(kThreads) void linear_any_kernel(
    const LinearArguments arguments, const __grid_constant__ ResidualExchange exchange) {
  __shared__ float sums[kWarps];
  if (kResult != Result::kExchanged) allow_next_kernel();
  wait_for_previous_kernels();
  const std::uint32_t number = begin_exchange<kResult>(exchange);
  const int leaf = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int64_t feature = blockIdx.x, row = blockIdx.y;
  const std::int64_t begin = std::int64_t{leaf} * arguments.leaf_size;
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
  if constexpr (kResult == Result::kExchanged)
    send_partial(exchange, (arguments.first_row + row) * arguments.features + feature, sum, number);
  else
    static_cast<float*>(arguments.out)[row * arguments.features + feature] = sum;
}

template <typename Kernel>
void launch_linear(LinearArguments arguments, const ResidualExchange& exchange, int multiprocessors,
                   cudaStream_t stream) {
  const std::int64_t sets_of_block = kWarps / arguments.leaves;
  const std::int64_t blocks = std::min<std::int64_t>(
      multiprocessors, divide_up(arguments.features, kMinFeatures * sets_of_block));
  const std::int64_t sets = blocks * sets_of_block;
  arguments.set_features = static_cast<int>(arguments.features / sets);
  arguments.larger_sets = static_cast<int>(arguments.features % sets);
  launch(stream, linear_kernel<Kernel>, blocks, 1, 1, Block{kThreads, Kernel::kSharedBytes},
         arguments, exchange);
}

// The kernel for so many rows. A large queue leaves no room for a second block beside it, only for
// the small kernels in between: so that each multiprocessor gets one block, and as much as another.
template <typename T, Result kResult>
void launch_linear(const LinearArguments& arguments, const ResidualExchange& exchange,
                   int multiprocessors, cudaStream_t stream) {
  using OneRow = OneRowKernel<T, kResult, 256, 2>;
  const int rows = arguments.rows;
  const bool large = max_shared_bytes() >= kLargeSharedBytes;
  static thread_local const bool has_one_row =
      large && is_for_hopper(reinterpret_cast<const void*>(&linear_kernel<OneRow>));
  auto launch = large ? launch_linear<RowsKernel<T, kResult, 32, 2, 4>>
                      : launch_linear<RowsKernel<T, kResult, 32, 2, 2>>;
  if (rows == 1 && has_one_row)
    launch = launch_linear<OneRow>;
  else if (rows <= 8)
    launch = large ? launch_linear<RowsKernel<T, kResult, 8, 2, 8>>
                   : launch_linear<RowsKernel<T, kResult, 8, 2, 4>>;
  else if (rows <= 16)
    launch = large ? launch_linear<RowsKernel<T, kResult, 16, 2, 6>>
                   : launch_linear<RowsKernel<T, kResult, 16, 2, 3>>;
  launch(arguments, exchange, multiprocessors, stream);
}
constexpr std::int64_t kMaxRowsAtOnce = 32;

LinearArguments make_arguments(const Tensor& out, const Tensor& x, const Matrix& weight,
                               const Tensor* bias, std::int64_t features) {
  LinearArguments arguments{};
  arguments.out = out.data;
  arguments.x = x.data;
  arguments.weight = weight.data;
  arguments.bias = bias ? bias->as<const float>() : nullptr;
  arguments.features = features;
  arguments.in_features = weight.in_features;
  arguments.leading = leading_dimension(weight);
  arguments.leaves = weight.leaves;
  arguments.leaf_size = static_cast<int>((weight.in_features + weight.leaves - 1) / weight.leaves);
  return arguments;
}

// Tensor cores take eight columns a lane: leaves must end at multiples of eight.
bool fits_tensor_cores(const Matrix& weight) {
  return weight.dtype != DType::kFloat32 && weight.in_features > 0 && weight.leaves > 0 &&
         weight.in_features % (8 * weight.leaves) == 0 && kWarps % weight.leaves == 0;
}

}  // namespace

// Any number of rows, in groups: a row's bits do not depend on its group.
template <Result kResult>
void CudaOps::canonical_linear(const Tensor& out, const Tensor& x, const Matrix& weight,
                               const Tensor* bias) {
  const std::int64_t features = weight.out_features / (kResult == Result::kGated ? 2 : 1);
  LinearArguments arguments = make_arguments(out, x, weight, bias, features);
  const ResidualExchange exchange =
      kResult == Result::kExchanged ? peers_->residual : ResidualExchange{};
  const bool tensor_cores = fits_tensor_cores(weight);
  const std::int64_t limit = tensor_cores ? kMaxRowsAtOnce : kMaxGridYZ;
  for (std::int64_t row = 0; row < x.num_rows(); row += limit) {
    const std::int64_t rows = std::min(limit, x.num_rows() - row);
    arguments.rows = static_cast<int>(rows);
    arguments.first_row = row;
    arguments.x = x.rows(row, row + rows).data;
    arguments.out = out.rows(row, row + rows).data;
    with_element_type(weight.dtype, [&]<typename T>(T) {
      if constexpr (!std::is_same_v<T, float>)
        if (tensor_cores)
          return launch_linear<T, kResult>(arguments, exchange, num_multiprocessors_, stream_);
      if constexpr (kResult != Result::kGated)
        launch(stream_, linear_any_kernel<T, kResult>, features, rows, 1, kThreads, arguments,
               exchange);
    });
  }
}

void CudaOps::linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias) {
  const std::int64_t rows = x.num_rows();
  check_tensor("linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_tensor("linear", "out", out, DType::kFloat32, {rows, weight.out_features});
  if (bias) check_tensor("linear", "bias", *bias, DType::kFloat32, {weight.out_features});
  if (rows == 0 || weight.out_features == 0) return;
  if (rows > kMaxDecodeRows && !deterministic_ && fits_tensor_cores(weight)) {
    matmul_->multiply(out, x, weight, stream_);
    if (bias) add(out, *bias);
    return;
  }
  canonical_linear<Result::kStored>(out, x, weight, bias);
}

void CudaOps::gated_linear(const Tensor& out, const Tensor& x, const Matrix& weight,
                           const Tensor* bias, const Tensor& gate_up) {
  const std::int64_t rows = x.num_rows();
  if (!fits_tensor_cores(weight) || weight.out_features == 0 || rows == 0)
    return Ops::gated_linear(out, x, weight, bias, gate_up);
  check(weight.out_features % 2 == 0, "gated_linear: {} rows are no pairs", weight.out_features);
  check_tensor("gated_linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_activation("gated_linear", "out", out, {rows, weight.out_features / 2});
  check(out.dtype == weight.dtype, "gated_linear: out is {}, the weight {}", name_of(out.dtype),
        name_of(weight.dtype));
  if (bias) check_tensor("gated_linear", "bias", *bias, DType::kFloat32, {weight.out_features});
  if (rows <= kMaxDecodeRows || deterministic_)
    return canonical_linear<Result::kGated>(out, x, weight, bias);
  if (bias) return Ops::gated_linear(out, x, weight, bias, gate_up);
  // Half the memory to go through, at the precision of what comes out.
  Tensor rounded = gate_up;
  rounded.dtype = weight.dtype;
  matmul_->multiply(rounded, x, weight, stream_);
  silu_multiply(out, rounded);
}

// Whether shares are sent as they are computed depends on nothing in which ranks differ.
void CudaOps::partial_linear(Comm& comm, const Tensor& partial, const Tensor& x,
                             const Matrix& weight) {
  const std::int64_t rows = x.num_rows(), size = weight.out_features;
  exchanged_ = peers_ != nullptr && &comm == comm_ && rows > 0 && rows <= kMaxDecodeRows &&
               exchanges_rows_of(size);
  if (!exchanged_) return linear(partial, x, weight, nullptr);
  check_tensor("partial_linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_tensor("partial_linear", "partial", partial, DType::kFloat32, {rows, size});
  canonical_linear<Result::kExchanged>(partial, x, weight, nullptr);
}

}  // namespace lockstep::cuda
