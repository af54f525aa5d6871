// Words of a float32 and a number: what a block gives to one that does not wait for it to end. A
// word is stored at once, so that the value is there when the number is the one that is waited for.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace lockstep::cuda {

__device__ inline void store_numbered(std::uint64_t* word, float value, unsigned number) {
  __stcg(reinterpret_cast<unsigned long long*>(word),
         static_cast<unsigned long long>(number) << 32 | __float_as_uint(value));
}

__device__ inline std::uint64_t load_numbered(const std::uint64_t* word) {
  std::uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}

// The word's value, where `found` was there a moment ago.
__device__ inline float wait_for(const std::uint64_t* word, std::uint64_t found, unsigned number) {
  while (static_cast<unsigned>(found >> 32) != number) found = load_numbered(word);
  return __uint_as_float(static_cast<unsigned>(found));
}

}  // namespace lockstep::cuda
