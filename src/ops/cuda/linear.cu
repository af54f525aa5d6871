// linear() on the GPU. Up to kMaxDecodeRows rows: tensor cores fed straight from memory, in the
// canonical sum's shape. More rows: cuBLASLt, unless the bits have to be the same at every world
// size.
//
// A step of few rows takes as long as reading the weights does, so everything here is about asking
// for them early: before the kernels before this one are done, which is when the memory would be
// idle.
#include <algorithm>
#include <cstdint>

#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/few_rows.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/matmul.h"
#include "ops/cuda/one_row.h"
#include "ops/cuda/product.h"

namespace lockstep::cuda {
namespace {

constexpr int kMinFeatures = 8;               // of a set
constexpr int kLargeSharedBytes = 200 << 10;  // of a device that can have large queues

// Several rows, where few_rows.h is not for them: leaves that are no whole parts of boxes, devices
// before Hopper. Each warp has a queue of steps in shared memory, which does not stop between
// groups. What a lane copies is what it uses, so that lanes need not wait for each other.
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
    const Share share(a, static_cast<int>(threadIdx.x) / kWarp);
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
        copy_async_by_lines(shared_address(to), has_upper ? row_from : weight, !has_upper);
        copy_async_by_lines(shared_address(to + kWarp * 16), has_lower ? row_from + lower : weight,
                            !has_lower);
      }
    };
    const auto copy_inputs = [&](unsigned char* step, int at) {
      const bool in_leaf = at + quarter * 8 < a.leaf_size;
      unsigned char* to = step + kWeightBytes + share.lane * 16;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const int row = tile * kTileRows + row_of_lane;
        const bool valid = in_leaf && row < a.rows;
        copy_async_by_lines(shared_address(to + tile * kWarp * 16),
                            valid ? x + row * a.in_features + at : x, !valid);
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
    unsigned char* const queue = shared + share.warp * kDepth * kStepBytes;
    const int steps = (a.leaf_size + kStep - 1) / kStep;
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      // In two halves, one after the other: the kernels before this one still wait for memory,
      // behind all that was asked of it before.
      if (i == kDepth / 2) wait_for_groups_but<0>();
      copy_weights(queue + i * kStepBytes);
      advance();
      end_group();
    }
    wait_for_previous_kernels();  // weights do not depend on them; inputs do
#pragma unroll
    for (int i = 0; i < kDepth; ++i) {
      copy_inputs(queue + i * kStepBytes, i % steps * kStep);
      end_group();
    }
    const std::uint32_t number = begin_exchange<kResult>(exchange);

    int place = 0;  // of the step in the queue
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      float d[kPanels][kTiles][4] = {};
      for (int step = 0; step < steps; ++step) {
        wait_for_groups_but<kDepth - 1>();
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
        end_group();
        advance();
        place = place + 1 == kDepth ? 0 : place + 1;
#pragma unroll
        for (int panel = 0; panel < kPanels; ++panel)
          multiply_step<T>(d[panel], upper[panel], lower_half[panel], inputs);
      }
      G::template finish<T>(a, share, exchange, number, group,
                            {row_of_lane, quarter * 2, quarter * 2 + 1}, d,
                            reinterpret_cast<float*>(shared + kSumsAt));
    }
  }
};

template <typename Kernel>
__global__ __launch_bounds__(kThreads, 1) void linear_kernel(
    const LinearArguments a, const __grid_constant__ ResidualExchange exchange) {
  if (Kernel::kResult != Result::kExchanged) allow_next_kernel();
  Kernel::run(a, exchange, static_cast<unsigned char*>(launched_shared_memory()));
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

// Deals out the features to as many blocks as there is use for.
std::int64_t deal(LinearArguments& arguments, int multiprocessors) {
  const std::int64_t sets_of_block = kWarps / arguments.leaves;
  const std::int64_t blocks = std::min<std::int64_t>(
      multiprocessors, divide_up(arguments.features, kMinFeatures * sets_of_block));
  const std::int64_t sets = blocks * sets_of_block;
  arguments.set_features = static_cast<int>(arguments.features / sets);
  arguments.larger_sets = static_cast<int>(arguments.features % sets);
  return blocks;
}

template <typename Kernel>
void launch_linear(LinearArguments arguments, const ResidualExchange& exchange, int multiprocessors,
                   cudaStream_t stream) {
  const std::int64_t blocks = deal(arguments, multiprocessors);
  launch(stream, linear_kernel<Kernel>, blocks, 1, 1, Block{kThreads, Kernel::kSharedBytes},
         arguments, exchange);
}

template <typename Ring>
BoxMaps maps_for(const LinearArguments& a) {
  // A set's last group may have fewer features; a larger set's has one more.
  const int heights[kBoxHeights] = {Ring::kFeatures, (a.set_features + 1) % Ring::kFeatures,
                                    a.set_features % Ring::kFeatures};
  return make_box_maps(a.weight, Ring::kHalves, a.features, a.leading, a.leaf_size, Ring::kParts,
                       heights);
}

// False where it cannot run. The arguments are dealt out to the blocks.
template <typename Kernel>
bool launch_boxed(const LinearArguments& arguments, std::int64_t blocks,
                  const ResidualExchange& exchange, cudaStream_t stream) {
  constexpr auto kKernel = boxed_kernel<Kernel>;
  const std::size_t shared_bytes = Kernel::shared_bytes(arguments);
  if (!is_for_hopper(kKernel) || shared_bytes > static_cast<std::size_t>(max_shared_bytes()))
    return false;
  launch(stream, kKernel, blocks, 1, 1, Block{kThreads + Kernel::kAskers * kWarp, shared_bytes},
         arguments, exchange, maps_for<typename Kernel::Ring>(arguments),
         Kernel::make_inputs(arguments));
  return true;
}

// As deep a ring as there is room for beside the input.
template <typename T, Result kResult>
bool launch_one_row(LinearArguments arguments, const ResidualExchange& exchange,
                    int multiprocessors, cudaStream_t stream) {
  const std::int64_t blocks = deal(arguments, multiprocessors);
  return launch_boxed<OneRowKernel<T, kResult, 3>>(arguments, blocks, exchange, stream) ||
         launch_boxed<OneRowKernel<T, kResult, 2>>(arguments, blocks, exchange, stream);
}

// The same for 2 to 32 rows.
template <typename T, Result kResult>
bool launch_few_rows(LinearArguments arguments, const ResidualExchange& exchange,
                     int multiprocessors, cudaStream_t stream) {
  if (arguments.leaf_size % kBoxPart != 0 || !aligned({arguments.x}, 16)) return false;
  const std::int64_t blocks = deal(arguments, multiprocessors);
  // Higher boxes are narrower. They are as high as there are features for.
  const int features = arguments.set_features + (arguments.larger_sets > 0);
  const bool low = features <= Group<1, 1, kResult>::kFeatures;
  const bool middle = features <= Group<1, 2, kResult>::kFeatures;
  auto launch = launch_boxed<FewRowsKernel<T, kResult, 1, 2, 1>>;
  if (arguments.rows > 2 * kTileRows)
    launch = low      ? launch_boxed<FewRowsKernel<T, kResult, 4, 1, 1>>
             : middle ? launch_boxed<FewRowsKernel<T, kResult, 4, 2, 2>>
                      : launch_boxed<FewRowsKernel<T, kResult, 4, 4, 4>>;
  else if (arguments.rows > kTileRows)
    launch = low ? launch_boxed<FewRowsKernel<T, kResult, 2, 1, 1>>
                 : launch_boxed<FewRowsKernel<T, kResult, 2, 2, 2>>;
  return launch(arguments, blocks, exchange, stream);
}

// The kernel for so many rows. A large queue leaves no room for a second block beside it, only for
// the small kernels in between: so that each multiprocessor gets one block, and as much as another.
template <typename T, Result kResult>
void launch_linear(const LinearArguments& arguments, const ResidualExchange& exchange,
                   int multiprocessors, cudaStream_t stream) {
  const int rows = arguments.rows;
  const bool large = max_shared_bytes() >= kLargeSharedBytes;
  if (rows == 1 && launch_one_row<T, kResult>(arguments, exchange, multiprocessors, stream)) return;
  if (rows > 1 && launch_few_rows<T, kResult>(arguments, exchange, multiprocessors, stream)) return;
  auto launch = large ? launch_linear<RowsKernel<T, kResult, 32, 2, 4>>
                      : launch_linear<RowsKernel<T, kResult, 32, 2, 2>>;
  if (rows <= 8)
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

bool CudaOps::uses_cublaslt(std::int64_t rows, const Matrix& weight) const {
  return rows > kMaxDecodeRows && !deterministic_ && fits_tensor_cores(weight);
}

void CudaOps::linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias) {
  const std::int64_t rows = x.num_rows();
  check_tensor("linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_tensor("linear", "out", out, DType::kFloat32, {rows, weight.out_features});
  if (bias) check_tensor("linear", "bias", *bias, DType::kFloat32, {weight.out_features});
  if (rows == 0 || weight.out_features == 0) return;
  if (uses_cublaslt(rows, weight)) {
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
  if (!uses_cublaslt(rows, weight)) return canonical_linear<Result::kGated>(out, x, weight, bias);
  if (bias) return Ops::gated_linear(out, x, weight, bias, gate_up);
  // Half the memory to go through, at the precision of what comes out.
  Tensor rounded = gate_up;
  rounded.dtype = weight.dtype;
  matmul_->multiply(rounded, x, weight, stream_);
  silu_multiply(out, rounded);
}

// How shares travel depends on nothing in which ranks differ.
void CudaOps::partial_linear(Comm& comm, const Tensor& partial, const Tensor& x,
                             const Matrix& weight) {
  const std::int64_t rows = x.num_rows(), size = weight.out_features;
  pending_ = {};
  pending_.exchanged = peers_ != nullptr && &comm == comm_ && rows > 0 && rows <= kMaxDecodeRows &&
                       exchanges_rows_of(size);
  if (!pending_.exchanged && !rounds_partials(comm, rows, weight))
    return linear(partial, x, weight, nullptr);
  check_tensor("partial_linear", "x", x, weight.dtype, {rows, weight.in_features});
  check_tensor("partial_linear", "partial", partial, DType::kFloat32, {rows, size});
  if (pending_.exchanged) return canonical_linear<Result::kExchanged>(partial, x, weight, nullptr);
  pending_.dtype = weight.dtype;
  Tensor rounded = partial;
  rounded.dtype = weight.dtype;
  matmul_->multiply(rounded, x, weight, stream_);
}

// Half the bytes to send, and to go through on one GPU. Not in float16: a share can be larger than
// any float16 where the sum is not. Not where the sum goes directly between the GPUs, which is
// sooner there. Ranks whose shares differ may not all use cuBLASLt; equal ones have equal leaves.
bool CudaOps::rounds_partials(const Comm& comm, std::int64_t rows, const Matrix& weight) const {
  const int ranks = comm.world_size();
  return weight.dtype == DType::kBFloat16 && weight.out_features > 0 &&
         uses_cublaslt(rows, weight) && weight.leaves * ranks == kLeaves &&
         (ranks == 1 || (rows * weight.out_features > kPeerElements && !ranks_share_gpus()));
}

}  // namespace lockstep::cuda
