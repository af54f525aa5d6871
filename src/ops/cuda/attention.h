// What attention() needs of whoever owns its memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep::cuda {

// Bytes of CudaOps::attention_scratch_, whatever the model and the batch: rows whose partial
// results do not fit together are worked on one group after the other, which changes no bit of a
// result.
inline constexpr std::size_t kAttentionScratchBytes = std::size_t{64} << 20;
// Of CudaOps::attention_counters_: rows times KV heads of a step that one kernel can do.
inline constexpr std::int64_t kAttentionCounters = 16384;

// What a step of one token a sequence needs besides.
struct RotaryArguments {
  const float* inverse_frequencies;
  const float* q_norm;  // may be null
  const float* k_norm;
  float eps;
  int kv_heads;
  unsigned* counters;  // [rows, KV heads] of blocks that are done; zeros, before and after
};

}  // namespace lockstep::cuda
