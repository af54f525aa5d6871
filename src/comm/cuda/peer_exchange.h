// Device code of the exchange between peers, for kernels that make it a part of theirs. Values
// travel in payloads of 64 bits; kPeerUnit payloads that lie together are a unit, which counts its
// exchanges. Every rank exchanges the same payloads in the same order.
//
// Consecutive exchanges of a unit use different buffers. Two are enough: a rank that is two
// exchanges ahead has received what this rank sent in the one between, after it had read the one
// before.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "comm/cuda/peer_reduce.h"
#include "ops/cuda/barrier.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/relaxed.h"

namespace lockstep::cuda {

// 64 bits of payload are 16 bytes: half, exchange number, half, exchange number. Halves may arrive
// apart, but never a value without the number beside it.
__device__ inline uint4 load_payload(const std::uint64_t* address) {
  return load_on_system(address);
}
__device__ inline void store_payload(std::uint64_t* address, uint2 payload,
                                     std::uint32_t exchange) {
  store_on_system(address, {payload.x, exchange, payload.y, exchange});
}

// Called now and then by whoever waits for `sender`. False: nobody is to wait any longer.
// `deadline` is 0 at first.
__device__ inline bool may_wait(const PeerGroup& group, int sender, std::uint64_t& deadline) {
  if (*group.abort != 0) return false;
  if (deadline == 0) deadline = now_ns() + group.timeout_ns;
  if (now_ns() <= deadline) return true;
  *group.abort = static_cast<std::uint32_t>(sender) + 1;
  return false;
}
constexpr std::uint32_t kPollsBetweenChecks = 1024;

// Waits for the payload at `address`, where `found` was a moment ago, to carry `exchange`. False:
// aborted.
__device__ inline bool receive(const PeerGroup& group, const std::uint64_t* address, uint4 found,
                               std::uint32_t exchange, int sender, uint2& payload) {
  std::uint64_t deadline = 0;
  for (std::uint32_t polls = 1; found.y != exchange || found.w != exchange; ++polls) {
    if (polls % kPollsBetweenChecks == 0 && !may_wait(group, sender, deadline)) return false;
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

// values[0] becomes the values of all ranks, reduced in the tree of comm.h: pairs, pairs of pairs,
// and so on. kPeers: at least the world size.
template <typename Op, int kPeers>
__device__ inline void reduce_in_tree(uint2 (&values)[kPeers], int world_size) {
#pragma unroll
  for (int width = 1; width < kPeers; width *= 2)
#pragma unroll
    for (int r = 0; r + width < kPeers; r += 2 * width)
      if (r + width < world_size) values[r] = Op::reduce(values[r], values[r + width]);
}

// For the kernels that send to an exchange of rows: its number. Called by kThreads threads of a
// block, the first among them, when the kernels before are done; lets the kernel that receives
// begin. Not before all have read the number: the first block that has received everything for its
// row changes it, while others still send.
template <int kThreads>
__device__ inline std::uint32_t next_exchange(const ResidualExchange& exchange) {
  const std::uint32_t number = *static_cast<volatile std::uint32_t*>(exchange.last) + 1;
  sync_threads<1, kThreads>();
  if (threadIdx.x == 0) {
    if (blockIdx.x == 0 && blockIdx.y == 0) {
      *static_cast<volatile std::uint32_t*>(exchange.current) = number;
      __threadfence();
    }
    allow_next_kernel();
  }
  return number;
}

__device__ inline std::uint64_t* residual_slot(const ResidualExchange& exchange, int receiver,
                                               int sender, std::int64_t index,
                                               std::uint32_t number) {
  const std::int64_t buffer = (number % 2) * exchange.world_size;
  return exchange.received[receiver] + (buffer + sender) * kPeerElements + index;
}

// Sends element `index` of this rank's share to all ranks, itself among them: in one store, so that
// the value is there when the number is.
__device__ inline void send_partial(const ResidualExchange& exchange, std::int64_t index,
                                    float value, std::uint32_t number) {
  const std::uint64_t word = static_cast<std::uint64_t>(number) << 32 | __float_as_uint(value);
  int peer = exchange.rank;  // itself last
  for (int step = 0; step < exchange.world_size; ++step) {
    peer = peer + 1 == exchange.world_size ? 0 : peer + 1;
    store_on_system(residual_slot(exchange, peer, exchange.rank, index, number), word);
  }
}

// The sum over ranks of kSteps pieces of four neighbouring elements, the n-th from indices[n] on
// (negative: none, nor any behind it), in the tree of comm.h. False: aborted. kPeers: at least the
// world size. kMost: pieces of all ranks that registers have room for.
template <int kPeers, int kMost, int kSteps>
__device__ inline bool receive_sums(const PeerGroup& group, const std::int64_t (&indices)[kSteps],
                                    std::uint32_t number, float (&sums)[kSteps][4]) {
  constexpr int kTogether = kPeers * kSteps <= kMost ? kSteps : 1;
  const ResidualExchange& exchange = group.residual;
  const auto slot = [&](int sender, std::int64_t index) {
    return residual_slot(exchange, exchange.rank, sender, index, number);
  };
  if (indices[0] < 0) return true;
  // This rank's own product comes first as a rule. Until it is there, one word is watched.
  uint2 payload;
  if (!receive(group, slot(exchange.rank, indices[0]), {}, number, exchange.rank, payload))
    return false;
#pragma unroll
  for (int begin = 0; begin < kSteps; begin += kTogether) {
    uint4 found[kTogether][2][kPeers];
    const auto is_there = [&](const uint4& payload) {
      return payload.y == number && payload.w == number;
    };
#pragma unroll
    for (int n = 0; n < kTogether; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half)
#pragma unroll
        for (int sender = 0; sender < kPeers; ++sender) found[n][half][sender].y = number - 1;
    std::uint64_t deadline = 0;
    for (std::uint32_t polls = 1;; ++polls) {
#pragma unroll
      for (int n = 0; n < kTogether; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int sender = 0; sender < kPeers; ++sender)
            if (sender < exchange.world_size && indices[begin + n] >= 0 &&
                !is_there(found[n][half][sender]))
              found[n][half][sender] = load_payload(slot(sender, indices[begin + n] + 2 * half));
      int missing = -1;
#pragma unroll
      for (int n = 0; n < kTogether; ++n)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int sender = 0; sender < kPeers; ++sender)
            if (sender < exchange.world_size && indices[begin + n] >= 0 &&
                !is_there(found[n][half][sender]))
              missing = sender;
      if (missing < 0) break;
      if (polls % kPollsBetweenChecks == 0 && !may_wait(group, missing, deadline)) return false;
    }
#pragma unroll
    for (int n = 0; n < kTogether; ++n)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (indices[begin + n] < 0) continue;
        uint2 values[kPeers];
#pragma unroll
        for (int sender = 0; sender < kPeers; ++sender)
          values[sender] = {found[n][half][sender].x, found[n][half][sender].z};
        reduce_in_tree<FloatSum>(values, exchange.world_size);
        sums[begin + n][2 * half] = __uint_as_float(values[0].x);
        sums[begin + n][2 * half + 1] = __uint_as_float(values[0].y);
      }
  }
  return true;
}

}  // namespace lockstep::cuda
