// The fast path of small all-reduces between the GPUs of one process: every rank stores its values
// straight into every peer's memory, and each value carries the number of the exchange with it, so
// that arriving is the same as being valid. No flags, no fences, nothing to clear.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace lockstep::cuda {

inline constexpr int kMaxPeers = 8;
// float32 values of one exchange: 64 rows of a hidden size of 8192.
inline constexpr std::int64_t kPeerElements = std::int64_t{64} * 8192;
// Payloads of two float32 each that share the number of their exchange.
inline constexpr int kPeerUnit = 256;

// How shares of sums of rows travel from the kernels that compute them to those that need the sums,
// which do not wait for kernels but for values. One exchange at a time: its number is *last + 1 to
// the kernels that send. They leave it in *current before the kernel that receives begins, which
// leaves it in *last.
struct ResidualExchange {
  int rank = 0;
  int world_size = 1;
  // As PeerGroup's, but of their own.
  std::uint64_t* received[kMaxPeers] = {};
  std::uint32_t* last = nullptr;  // of this rank
  std::uint32_t* current = nullptr;
};

// One rank's end, as the kernel sees it.
struct PeerGroup {
  int rank = 0;
  int world_size = 1;
  // Receive buffers of every rank, [2 exchanges][world_size senders][kPeerElements] (value,
  // exchange number) pairs; zeroed at first.
  std::uint64_t* received[kMaxPeers] = {};
  std::uint32_t* exchanges = nullptr;  // of this rank: exchanges done, by unit
  // In host memory that every device can read: nonzero ends all waiting. A rank that waits too long
  // sets it to 1 + the number of the rank that it waited for.
  volatile std::uint32_t* abort = nullptr;
  std::uint64_t timeout_ns = 0;
  ResidualExchange residual;
};

std::size_t peer_buffer_bytes(int world_size);
std::size_t peer_exchange_bytes();

// Blocks of one launch that waits for other ranks, where ranks share GPUs: so few that those of
// seven ranks leave half of a GPU's multiprocessors to the eighth, whatever it runs.
inline constexpr int kMaxWaitingBlocks = 8;

// data[i] = the sum over ranks in the canonical tree, in place; count <= kPeerElements. Every rank
// enqueues the same exchanges in the same order. After an abort the contents are undefined.
void peer_sum(const PeerGroup& group, float* data, std::int64_t count, cudaStream_t stream);
// The same for the largest value; count <= kPeerElements / 2.
void peer_max(const PeerGroup& group, std::int64_t* data, std::int64_t count, cudaStream_t stream);
// The same for bits that any rank has set; count <= kPeerElements.
void peer_or(const PeerGroup& group, std::uint32_t* data, std::int64_t count, cudaStream_t stream);

}  // namespace lockstep::cuda
