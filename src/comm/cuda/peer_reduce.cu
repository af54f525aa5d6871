#include <cuda_runtime.h>

#include "comm/cuda/peer_reduce.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// 64 bits of payload travel as one 16-byte store: half, exchange number, half, exchange number.
// Halves of a vector store may arrive apart, but never a value without the number beside it.
__device__ inline void store_payload(std::uint64_t* address, uint2 payload,
                                     std::uint32_t exchange) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %2};" ::"l"(address),
               "r"(payload.x), "r"(exchange), "r"(payload.y)
               : "memory");
}

__device__ inline uint4 load_payload(const std::uint64_t* address) {
  uint4 value;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}

__device__ inline std::uint64_t now_ns() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

// Waits for the payload at `address` to carry `exchange`. False: aborted.
__device__ inline bool receive(const PeerGroup& group, const std::uint64_t* address,
                               std::uint32_t exchange, int sender, uint2& payload) {
  uint4 found = load_payload(address);
  std::uint64_t deadline = 0;
  for (std::uint32_t polls = 1; found.y != exchange || found.w != exchange; ++polls) {
    if (polls % 1024 == 0) {
      if (*group.abort != 0) return false;
      if (deadline == 0) deadline = now_ns() + group.timeout_ns;
      if (now_ns() > deadline) {
        *group.abort = static_cast<std::uint32_t>(sender) + 1;
        return false;
      }
    }
    found = load_payload(address);
  }
  payload = {found.x, found.z};
  return true;
}

struct FloatSum {  // two neighbouring float32
  using Value = float;
  static constexpr int kPerPayload = 2;
  static __device__ uint2 reduce(uint2 a, uint2 b) {
    return {__float_as_uint(__uint_as_float(a.x) + __uint_as_float(b.x)),
            __float_as_uint(__uint_as_float(a.y) + __uint_as_float(b.y))};
  }
};

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

// Every thread exchanges one payload with its counterparts on all ranks.
template <typename Op>
__global__ __launch_bounds__(kThreads) void peer_all_reduce_kernel(
    const __grid_constant__ PeerGroup group, typename Op::Value* data, std::int64_t count) {
  begin_kernel();
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const std::int64_t first = index * Op::kPerPayload;
  // Consecutive exchanges of a block use different buffers. Two are enough: a rank that is two
  // exchanges ahead has received what this rank sent in the one between, after it had read the one
  // before.
  const std::uint32_t exchange = group.exchanges[blockIdx.x] + 1;
  const std::int64_t buffer = (exchange % 2) * group.world_size;
  if (first < count) {
    typename Op::Value mine[Op::kPerPayload] = {};
#pragma unroll
    for (int i = 0; i < Op::kPerPayload; ++i)
      if (first + i < count) mine[i] = data[first + i];
    uint2 payload;
    memcpy(&payload, mine, sizeof payload);
    for (int step = 1; step < group.world_size; ++step) {
      const int peer = (group.rank + step) % group.world_size;
      store_payload(group.received[peer] + (buffer + group.rank) * kPeerElements + 2 * index,
                    payload, exchange);
    }
    uint2 values[kMaxPeers];
    bool complete = true;
#pragma unroll
    for (int sender = 0; sender < kMaxPeers; ++sender) {
      values[sender] = payload;
      if (sender < group.world_size && sender != group.rank)
        complete = complete && receive(group,
                                       group.received[group.rank] +
                                           (buffer + sender) * kPeerElements + 2 * index,
                                       exchange, sender, values[sender]);
    }
    // The tree of comm.h over the ranks: pairs, pairs of pairs, and so on.
#pragma unroll
    for (int width = 1; width < kMaxPeers; width *= 2)
#pragma unroll
      for (int r = 0; r + width < kMaxPeers; r += 2 * width)
        if (r + width < group.world_size) values[r] = Op::reduce(values[r], values[r + width]);
    memcpy(mine, &values[0], sizeof payload);
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
  return divide_up(kPeerElements / 2, kThreads) * sizeof(std::uint32_t);
}

void peer_sum(const PeerGroup& group, float* data, std::int64_t count, cudaStream_t stream) {
  peer_all_reduce<FloatSum>(group, data, count, stream);
}

void peer_max(const PeerGroup& group, std::int64_t* data, std::int64_t count, cudaStream_t stream) {
  peer_all_reduce<Int64Max>(group, data, count, stream);
}

}  // namespace lockstep::cuda
