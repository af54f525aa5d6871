// RMS norm, with or without completing the residual stream first, on one rank or over all. A row
// has kThreads threads, in one block or in a cluster of kBlocks. Element i belongs to thread
// (i / 4) % kThreads, which adds its squares in order; warps add up their threads' sums, and then
// those of the warps. So the order depends on nothing but the size.
//
// A cluster is for few rows: what a row's norm takes is the time in which its values come, and a
// multiprocessor that also reads weights brings them more slowly than eight do.
#include <algorithm>
#include <type_traits>
#include <utility>

#include "comm/cuda/exchange_together.h"
#include "comm/cuda/peer_exchange.h"
#include "ops/cuda/checks.h"
#include "ops/cuda/cluster.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 512;  // few enough to be beside the kernels that read weights
constexpr int kBlocks = 8;     // of a cluster
static_assert(kMaxWaitingBlocks % kBlocks == 0);
constexpr int kStep = 4;

// Elements [i, i+4) of a row, zeros behind its end; kWide: the row has them and they are aligned.
template <bool kWide, typename T>
__device__ Pack<T, kStep> load_step(const T* row, std::int64_t i, std::int64_t size) {
  if constexpr (kWide) {
    return load_pack<T, kStep>(row + i);
  } else {
    Pack<T, kStep> pack;
#pragma unroll
    for (int j = 0; j < kStep; ++j) pack.values[j] = i + j < size ? row[i + j] : T{};
    return pack;
  }
}

template <bool kWide, typename T>
__device__ void store_step(T* row, std::int64_t i, std::int64_t size, const Pack<T, kStep>& pack) {
  if constexpr (kWide) {
    store_pack(row + i, pack);
  } else {
#pragma unroll
    for (int j = 0; j < kStep; ++j)
      if (i + j < size) row[i + j] = pack.values[j];
  }
}

struct NormArguments {
  float* stream;        // [rows, size]
  const void* partial;  // [rows, size] to be added to the stream first, or null
  const float* bias;    // [size] to be added as well, or null
  const float* weight;  // [size]
  void* out;            // [rows, size]
  std::int64_t size;
  float eps;
  std::int64_t first_row;  // of those from all ranks
};

using Step = Pack<float, kStep>;

template <typename T>
__device__ Step to_step(const Pack<T, kStep>& pack) {
  if constexpr (std::is_same_v<T, float>) {
    return pack;
  } else {
    Step step;
#pragma unroll
    for (int j = 0; j < kStep; ++j) step.values[j] = to_float(pack.values[j]);
    return step;
  }
}

constexpr std::int64_t kStride = kThreads * kStep;
// Steps of a thread that stay in registers between the two passes.
constexpr int kKeptSteps = 2;

// A row's threads.
template <int kItsBlocks>
struct Team {
  static constexpr int kBlockThreads = kThreads / kItsBlocks;

  static __device__ std::int64_t row() { return blockIdx.x / kItsBlocks; }
  static __device__ int thread() {
    return static_cast<int>(blockIdx.x) % kItsBlocks * kBlockThreads +
           static_cast<int>(threadIdx.x);
  }
  // The first element of the thread's n-th step.
  static __device__ std::int64_t place(int n) {
    return std::int64_t{thread()} * kStep + n * kStride;
  }

  // What all blocks have of all of them.
  struct Sums {
    Barrier arrived;
    float values[kThreads / kWarp];  // of each of the row's warps
  };

  // First of all; sum() once, later.
  static __device__ void start(Sums& sums) {
    if constexpr (kItsBlocks > 1) {
      if (threadIdx.x == 0) {
        sums.arrived.start(1);
        barriers_started();
        sums.arrived.expect(sizeof sums.values);
      }
      arrive_at_cluster();
    }
  }
  static __device__ float sum(Sums& sums, float value) {
    if constexpr (kItsBlocks == 1) {
      return block_sum<kThreads>(value);
    } else {
      const int lane = static_cast<int>(threadIdx.x) % kWarp;
      value = warp_sum(value);
      wait_for_cluster();  // all blocks have begun
      if (lane < kItsBlocks)
        store_in_cluster(lane, sums.arrived, &sums.values[thread() / kWarp], value);
      sums.arrived.wait(0);
      return warp_sum(lane < kThreads / kWarp ? sums.values[lane] : 0.0f);
    }
  }
};

// What a thread has of a row, or of a vector of its size.
template <typename Team, int kSteps>
struct Steps {
  Step values[kSteps];

  template <bool kWide>
  __device__ void load(const float* row, std::int64_t size) {
#pragma unroll
    for (int n = 0; n < kSteps; ++n) {
      const std::int64_t i = Team::place(n);
      values[n] = i < size ? load_step<kWide>(row, i, size) : Step{};
    }
  }
};

// stream + (partial + bias).
template <bool kWide>
__device__ Step complete(const NormArguments& a, const Step& stream, const Step& partial,
                         std::int64_t i) {
  const Step bias = a.bias ? load_step<kWide>(a.bias, i, a.size) : Step{};
  Step sum;
#pragma unroll
  for (int j = 0; j < kStep; ++j)
    sum.values[j] = __fadd_rn(stream.values[j], __fadd_rn(partial.values[j], bias.values[j]));
  return sum;
}

__device__ float add_squares(const Step& step, float sum) {
#pragma unroll
  for (int j = 0; j < kStep; ++j) sum = fmaf(step.values[j], step.values[j], sum);
  return sum;
}

template <typename T, bool kWide>
__device__ void write(const NormArguments& a, std::int64_t row, std::int64_t i, const Step& x,
                      const Step& weight, float scale) {
  Pack<T, kStep> result;
#pragma unroll
  for (int j = 0; j < kStep; ++j)
    result.values[j] = from_float<T>(x.values[j] * scale * weight.values[j]);
  store_step<kWide>(static_cast<T*>(a.out) + row, i, a.size, result);
}

// 1 / sqrt(mean + eps), from each thread's sum of squares.
template <typename Team>
__device__ float scale_of(const NormArguments& a, typename Team::Sums& sums, float sum) {
  sum = Team::sum(sums, sum);
  return 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(a.size), a.eps));
}

template <typename T, bool kWide, int kItsBlocks, typename Partial = float>
__global__ void __launch_bounds__(kThreads / kItsBlocks, kItsBlocks == 1 ? 2 : kBlocks)
    norm_kernel(const NormArguments a) {
  using Team = Team<kItsBlocks>;
  allow_next_kernel();
  __shared__ typename Team::Sums sums_of_warps;
  Team::start(sums_of_warps);
  Steps<Team, kKeptSteps> weight;
  weight.template load<kWide>(a.weight, a.size);  // nothing that runs writes to it
  wait_for_previous_kernels();
  const std::int64_t size = a.size, row = Team::row() * size;
  Steps<Team, kKeptSteps> kept;
  float sum = 0.0f;
  const auto first_pass = [&](std::int64_t i) {
    Step step = load_step<kWide>(a.stream + row, i, size);
    if (a.partial) {
      const Partial* partial = static_cast<const Partial*>(a.partial) + row;
      step = complete<kWide>(a, step, to_step(load_step<kWide>(partial, i, size)), i);
      store_step<kWide>(a.stream + row, i, size, step);
    }
    sum = add_squares(step, sum);
    return step;
  };
#pragma unroll
  for (int n = 0; n < kKeptSteps; ++n)
    if (Team::place(n) < size) kept.values[n] = first_pass(Team::place(n));
  for (std::int64_t i = Team::place(kKeptSteps); i < size; i += kStride) first_pass(i);

  const float scale = scale_of<Team>(a, sums_of_warps, sum);
#pragma unroll
  for (int n = 0; n < kKeptSteps; ++n)
    if (Team::place(n) < size)
      write<T, kWide>(a, row, Team::place(n), kept.values[n], weight.values[n], scale);
  for (std::int64_t i = Team::place(kKeptSteps); i < size; i += kStride)
    write<T, kWide>(a, row, i, load_step<kWide>(a.stream + row, i, size),
                    load_step<kWide>(a.weight, i, size), scale);
}

// The partials come from all ranks (partial_linear()), and to wait for them is enough: who sent
// them had waited for everything before. Rows fit into registers.
template <typename T, int kPeers, int kSteps, int kItsBlocks>
__global__ void __launch_bounds__(kThreads / kItsBlocks, kItsBlocks > 1         ? kBlocks
                                                         : kPeers * kSteps <= 8 ? 2
                                                                                : 1)
    reduce_norm_kernel(const __grid_constant__ PeerGroup group, const NormArguments a) {
  using Team = Team<kItsBlocks>;
  allow_next_kernel();
  __shared__ typename Team::Sums sums_of_warps;
  Team::start(sums_of_warps);
  Steps<Team, kSteps> weight;
  weight.template load<true>(a.weight, a.size);
  const std::uint32_t number = *static_cast<volatile std::uint32_t*>(group.residual.current);
  const std::int64_t size = a.size, row = (a.first_row + Team::row()) * size;
  std::int64_t indices[kSteps];
#pragma unroll
  for (int n = 0; n < kSteps; ++n) indices[n] = Team::place(n) < size ? row + Team::place(n) : -1;
  Step streams[kSteps];
#pragma unroll
  for (int n = 0; n < kSteps; ++n)
    // Not from the L1 cache, which may not know of the kernel that wrote it.
    if (indices[n] >= 0) {
      const float4 values = __ldcg(reinterpret_cast<const float4*>(a.stream + indices[n]));
      memcpy(&streams[n], &values, sizeof values);
    }
  float sums[kSteps][kStep];
  receive_sums<kPeers, kItsBlocks == 1 ? 4 : 8>(group, indices, number, sums);
  float sum = 0.0f;
#pragma unroll
  for (int n = 0; n < kSteps; ++n) {
    const std::int64_t i = Team::place(n);
    if (i >= size) continue;
    Step partial;
    memcpy(&partial, sums[n], sizeof partial);
    streams[n] = complete<true>(a, streams[n], partial, i);
    store_step<true>(a.stream + row, i, size, streams[n]);
    sum = add_squares(streams[n], sum);
  }
  const float scale = scale_of<Team>(a, sums_of_warps, sum);
#pragma unroll
  for (int n = 0; n < kSteps; ++n)
    if (Team::place(n) < size)
      write<T, true>(a, row, Team::place(n), streams[n], weight.values[n], scale);
  if (blockIdx.x == 0 && threadIdx.x == 0)
    *static_cast<volatile std::uint32_t*>(group.residual.last) = number;
}

constexpr int kMaxSteps = 4;  // of a row whose partials come from all ranks

using ReduceNormKernel = void (*)(PeerGroup, NormArguments);

template <typename T, int kPeers, int kItsBlocks>
ReduceNormKernel reduce_norm_kernel_for(std::int64_t size) {
  if (size <= kStride) return reduce_norm_kernel<T, kPeers, 1, kItsBlocks>;
  if (size <= 2 * kStride) return reduce_norm_kernel<T, kPeers, 2, kItsBlocks>;
  return reduce_norm_kernel<T, kPeers, kMaxSteps, kItsBlocks>;
}

template <typename T, int kItsBlocks>
ReduceNormKernel reduce_norm_kernel_for(int world_size, std::int64_t size) {
  if (world_size <= 2) return reduce_norm_kernel_for<T, 2, kItsBlocks>(size);
  return world_size <= 4 ? reduce_norm_kernel_for<T, 4, kItsBlocks>(size)
                         : reduce_norm_kernel_for<T, kMaxPeers, kItsBlocks>(size);
}

// Whether rows get clusters: not where they are so many that blocks are plenty.
bool in_clusters(std::int64_t rows) {
  return rows <= kMaxDecodeRows && is_for_hopper(norm_kernel<float, true, kBlocks>);
}

}  // namespace

// All kinds of rms_norm; partial and bias may be null. With peers, the partials come from them.
void CudaOps::norm(const char* op, const Tensor& out, const Tensor& stream, const Tensor* partial,
                   const Tensor* bias, const Tensor& weight, float eps, const PeerGroup* peers) {
  check_table(op, "x", stream);
  const std::int64_t rows = stream.shape[0], size = stream.shape[1];
  check_tensor(op, "x", stream, DType::kFloat32, stream.shape);
  check_activation(op, "out", out, stream.shape);
  check_tensor(op, "weight", weight, DType::kFloat32, {size});
  const bool rounded = partial && partial->dtype == DType::kBFloat16 && out.dtype == partial->dtype;
  if (partial)
    check_tensor(op, "partial", *partial, rounded ? DType::kBFloat16 : DType::kFloat32,
                 stream.shape);
  if (bias) check_tensor(op, "bias", *bias, DType::kFloat32, {size});
  NormArguments arguments{};
  arguments.stream = stream.as<float>();
  arguments.partial = partial ? partial->data : nullptr;
  arguments.bias = bias ? bias->as<const float>() : nullptr;
  arguments.weight = weight.as<const float>();
  arguments.out = out.data;
  arguments.size = size;
  arguments.eps = eps;
  const bool wide =
      size % kStep == 0 &&
      aligned({out.data, stream.data, arguments.partial, arguments.bias, weight.data}, 16);
  const bool cluster = in_clusters(rows) && !rounded;
  const std::int64_t blocks_of_row = cluster ? kBlocks : 1, blocks = rows * blocks_of_row;
  Block block(cluster ? kThreads / kBlocks : kThreads);
  if (cluster) block.cluster = kBlocks;
  with_element_type(out.dtype, [&]<typename T>(T) {
    if (peers) {
      const auto kernel = cluster ? reduce_norm_kernel_for<T, kBlocks>(peers->world_size, size)
                                  : reduce_norm_kernel_for<T, 1>(peers->world_size, size);
      const std::int64_t most = ranks_share_gpus() ? kMaxWaitingBlocks : blocks;
      for (std::int64_t begin = 0; begin < blocks; begin += most) {
        arguments.first_row = begin / blocks_of_row;
        launch(stream_, kernel, std::min(most, blocks - begin), 1, 1, block, *peers, arguments);
      }
      return;
    }
    auto kernel = wide ? norm_kernel<T, true, 1> : norm_kernel<T, false, 1>;
    if (cluster) kernel = wide ? norm_kernel<T, true, kBlocks> : norm_kernel<T, false, kBlocks>;
    if constexpr (std::is_same_v<T, BFloat16>)
      if (rounded) kernel = wide ? norm_kernel<T, true, 1, T> : norm_kernel<T, false, 1, T>;
    launch(stream_, kernel, blocks, 1, 1, block, arguments);
  });
}

void CudaOps::rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) {
  norm("rms_norm", out, x, nullptr, nullptr, weight, eps);
}

void CudaOps::add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                           const Tensor* bias, const Tensor& weight, float eps) {
  norm("add_rms_norm", out, stream, &partial, bias, weight, eps);
}

bool CudaOps::exchanges_rows_of(std::int64_t size) {
  return size % kStep == 0 && size <= kMaxSteps * kStride && size <= kPeerElements / 64;
}

void CudaOps::all_reduce_add_rms_norm(Comm& comm, const Tensor& out, const Tensor& stream,
                                      const Tensor& partial, const Tensor* bias,
                                      const Tensor& weight, float eps) {
  const PartialSum pending = std::exchange(pending_, {});
  Tensor sum = partial;
  sum.dtype = pending.dtype;
  const char* op = "all_reduce_add_rms_norm";
  if (!pending.exchanged) {
    comm.all_reduce(sum);
    return norm(op, out, stream, &sum, bias, weight, eps);
  }
  check(aligned({out.data, stream.data, weight.data}, 16) &&
            (bias == nullptr || aligned({bias->data}, 16)),
        "{}: tensors must be aligned to 16", op);
  exchange_together(comm, [&] { norm(op, out, stream, &sum, bias, weight, eps, peers_); });
}

void CudaOps::use_peers(const Comm& comm, const PeerGroup* peers) {
  comm_ = &comm;
  peers_ = peers;
}

}  // namespace lockstep::cuda
