// As src/ops/cuda/relaxed.h, on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <cstdint>

namespace lockstep::cuda {

inline std::uint64_t load_on_gpu(const std::uint64_t* word) {
  simulated_gpu::pause();
  return __atomic_load_n(word, __ATOMIC_RELAXED);
}
inline void store_on_gpu(std::uint64_t* word, std::uint64_t value) {
  __atomic_store_n(word, value, __ATOMIC_RELAXED);
}

inline uint4 load_on_system(const std::uint64_t* words) {
  const std::uint64_t first = load_on_gpu(words), second = load_on_gpu(words + 1);
  return {static_cast<unsigned>(first), static_cast<unsigned>(first >> 32),
          static_cast<unsigned>(second), static_cast<unsigned>(second >> 32)};
}
inline void store_on_system(std::uint64_t* word, std::uint64_t value) { store_on_gpu(word, value); }
// The second half first: nothing says that it arrives last.
inline void store_on_system(std::uint64_t* words, const uint4& value) {
  store_on_gpu(words + 1, std::uint64_t{value.w} << 32 | value.z);
  store_on_gpu(words, std::uint64_t{value.y} << 32 | value.x);
}

inline std::uint64_t now_ns() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                        std::chrono::steady_clock::now().time_since_epoch())
                                        .count());
}

}  // namespace lockstep::cuda
