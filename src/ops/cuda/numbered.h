// Words of a float32 and a number: what a block gives to one that does not wait for it to end. A
// word is stored at once, so that the value is there when the number is the one that is waited for.
#pragma once

#include <cstdint>

#include "ops/cuda/relaxed.h"

namespace lockstep::cuda {

__device__ inline void store_numbered(std::uint64_t* word, float value, unsigned number) {
  store_on_gpu(word, static_cast<std::uint64_t>(number) << 32 | __float_as_uint(value));
}

// values[i] is what word(i) has, for every i < count, once they all have the number. They are asked
// for together, and those that are missing again: one after the other would be as many ways to
// memory.
template <int kCount, typename Word>
__device__ inline void wait_for(float (&values)[kCount], int count, unsigned number, Word&& word) {
  std::uint64_t found[kCount];
  for (unsigned missing = (1u << min(count, kCount)) - 1; missing != 0;) {
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (missing >> i & 1) found[i] = load_on_gpu(word(i));
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if ((missing >> i & 1) && found[i] >> 32 == number) {
        values[i] = __uint_as_float(static_cast<unsigned>(found[i]));
        missing &= ~(1u << i);
      }
  }
}

}  // namespace lockstep::cuda
