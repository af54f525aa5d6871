// Loads and stores that are not ordered with others, of words that other blocks or other GPUs
// write or read at the same time.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace lockstep::cuda {

// Between blocks of one GPU.
__device__ inline std::uint64_t load_on_gpu(const std::uint64_t* word) {
  std::uint64_t value;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
  return value;
}
__device__ inline void store_on_gpu(std::uint64_t* word, std::uint64_t value) {
  __stcg(reinterpret_cast<unsigned long long*>(word), static_cast<unsigned long long>(value));
}

// Between GPUs. Each half of the 128 bits is there as a whole, but they may arrive apart.
__device__ inline uint4 load_on_system(const std::uint64_t* words) {
  uint4 value;
  asm volatile("ld.relaxed.sys.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(words)
               : "memory");
  return value;
}
__device__ inline void store_on_system(std::uint64_t* words, const uint4& value) {
  asm volatile("st.relaxed.sys.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(words), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}
__device__ inline void store_on_system(std::uint64_t* word, std::uint64_t value) {
  asm volatile("st.relaxed.sys.global.u64 [%0], %1;" ::"l"(word), "l"(value) : "memory");
}

// The GPU's clock, in ns; not the same on all GPUs.
__device__ inline std::uint64_t now_ns() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(time));
  return time;
}

}  // namespace lockstep::cuda
