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

struct BitOr {  // two neighbouring words
  using Value = std::uint32_t;
  static constexpr int kPerPayload = 2;
  static __device__ uint2 reduce(uint2 a, uint2 b) { return {a.x | b.x, a.y | b.y}; }
};

// Where `sender`'s payload `index` of an exchange arrives at `receiver`.
__device__ inline std::uint64_t* peer_slot(const PeerGroup& group, int receiver, int sender,
                                           std::int64_t index, std::uint32_t exchange) {
  const std::int64_t buffer = (exchange % 2) * group.world_size;
  return group.received[receiver] + (buffer + sender) * kPeerElements + 2 * index;
}

__device__ inline void send_to_peers(const PeerGroup& group, std::int64_t index, uint2 payload,
                                     std::uint32_t exchange) {
  for (int step = 1; step < group.world_size; ++step) {
    const int peer = (group.rank + step) % group.world_size;
    store_payload(peer_slot(group, peer, group.rank, index, exchange), payload, exchange);
  }
}

// This rank's payload `index` becomes that of all ranks, reduced. False: aborted.
template <typename Op>
__device__ inline bool reduce_with_peers(const PeerGroup& group, std::int64_t index, uint2& payload,
                                         std::uint32_t exchange) {
  const auto slot = [&](int sender) {
    return peer_slot(group, group.rank, sender, index, exchange);
  };
  const auto is_peer = [&](int sender) {
    return sender < group.world_size && sender != group.rank;
  };
  uint4 found[kMaxPeers];  // all asked for at once
#pragma unroll
  for (int sender = 0; sender < kMaxPeers; ++sender)
    if (is_peer(sender)) found[sender] = load_payload(slot(sender));
  bool complete = true;
  uint2 values[kMaxPeers];
#pragma unroll
  for (int sender = 0; sender < kMaxPeers; ++sender) {
    values[sender] = payload;
    if (is_peer(sender))
      complete =
          receive(group, slot(sender), found[sender], exchange, sender, values[sender]) && complete;
  }
  reduce_in_tree<Op>(values, group.world_size);
  payload = values[0];
  return complete;
}

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
    uint2 payload;
    memcpy(&payload, mine, sizeof payload);
    send_to_peers(group, index, payload, exchange);
    const bool complete = reduce_with_peers<Op>(group, index, payload, exchange);
    memcpy(mine, &payload, sizeof payload);
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

void peer_or(const PeerGroup& group, std::uint32_t* data, std::int64_t count, cudaStream_t stream) {
  peer_all_reduce<BitOr>(group, data, count, stream);
}

}  // namespace lockstep::cuda
