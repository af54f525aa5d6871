#include <cuda_runtime.h>

#include "comm/cuda/peer_exchange.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = kPeerUnit;

struct Int64Max {
  using Value = std::int64_t;
  static constexpr int kPerPayload = 1;
  static __device__ uint2 reduce(uint2 a, uint2 b) {
    const auto value = [](uint2 v) {
      return static_cast<std::int64_t>(v.x | static_cast<std::uint64_t>(v.y) << 32);
    };
    return value(a) > value(b) ? a : b;
  }
};

// Every thread exchanges one payload with its counterparts on all ranks; a block is a unit.
template <typename Op>
__global__ __launch_bounds__(kThreads) void peer_all_reduce_kernel(
    const __grid_constant__ PeerGroup group, typename Op::Value* data, std::int64_t count) {
  begin_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t first = index * Op::kPerPayload;
  const std::uint32_t exchange = group.exchanges[blockIdx.x] + 1;
  if (first < count) {
    typename Op::Value mine[Op::kPerPayload] = {};
#pragma unroll
    for (int i = 0; i < Op::kPerPayload; ++i)
      if (first + i < count) mine[i] = data[first + i];
    uint2 payload[1];
    memcpy(payload, mine, sizeof payload);
    send_to_peers(group, index, payload[0], exchange);
    const bool complete = reduce_with_peers<Op, kMaxPeers>(group, index, payload, exchange);
    memcpy(mine, payload, sizeof payload);
#pragma unroll
    for (int i = 0; i < Op::kPerPayload; ++i)
      if (complete && first + i < count) data[first + i] = mine[i];
  }
  __syncthreads();  // every thread has read the exchange's number
  if (threadIdx.x == 0) group.exchanges[blockIdx.x] = exchange;
}

template <typename Op>
void peer_all_reduce(const PeerGroup& group, typename Op::Value* data, std::int64_t count,
                     cudaStream_t stream) {
  launch(stream, peer_all_reduce_kernel<Op>, divide_up(count, kThreads * Op::kPerPayload), 1, 1,
         dim3(kThreads), group, data, count);
}

}  // namespace

std::size_t peer_buffer_bytes(int world_size) {
  return 2 * static_cast<std::size_t>(world_size) * kPeerElements * sizeof(std::uint64_t);
}

std::size_t peer_exchange_bytes() {
  return divide_up(kPeerElements / 2, kPeerUnit) * sizeof(std::uint32_t);
}

void peer_sum(const PeerGroup& group, float* data, std::int64_t count, cudaStream_t stream) {
  peer_all_reduce<FloatSum>(group, data, count, stream);
}

void peer_max(const PeerGroup& group, std::int64_t* data, std::int64_t count, cudaStream_t stream) {
  peer_all_reduce<Int64Max>(group, data, count, stream);
}

}  // namespace lockstep::cuda
