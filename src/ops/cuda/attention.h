// What attention() needs of whoever owns its memory.
#pragma once

#include <cstddef>

namespace lockstep::cuda {

// Bytes of CudaOps::attention_scratch_, whatever the model and the batch: rows whose partial
// results do not fit together are worked on one group after the other, which changes no bit of a
// result.
inline constexpr std::size_t kAttentionScratchBytes = std::size_t{64} << 20;

}  // namespace lockstep::cuda
