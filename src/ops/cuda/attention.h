// What attention() needs of whoever owns its memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace lockstep::cuda {

// Bytes of CudaOps::attention_scratch_ and of attention_words_, whatever the model and the batch.
// Rows whose partial results do not fit the scratch are worked on one group after the other; a step
// of one token a sequence that does not fit the words goes by way of the scratch. Neither changes a
// bit of a result.
inline constexpr std::size_t kAttentionScratchBytes = std::size_t{64} << 20;

// What a step of one token a sequence needs besides.
struct RotaryArguments {
  const float* inverse_frequencies;
  const float* q_norm;  // may be null
  const float* k_norm;
  float eps;
  int kv_heads;
  std::uint64_t* words;  // partial results, kAttentionScratchBytes
  unsigned* launches;    // how many there were, and blocks of the next that have begun
};

}  // namespace lockstep::cuda
