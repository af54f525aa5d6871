// CUDA's language for a C++ compiler: kernels are functions that simulator.h runs.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include "simulated_gpu/simulator.h"

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __maxnreg__
#undef __grid_constant__
#define __global__
#define __device__
#define __host__
#define __shared__ static thread_local  // a block's threads are one thread of the CPU
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __maxnreg__(...)
#define __grid_constant__

// After the words above, which they use, and before __CUDA_ARCH__, which would have them speak PTX.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define __CUDA_ARCH__ 900

#define threadIdx (::simulated_gpu::current->index)
using simulated_gpu::blockDim;
using simulated_gpu::blockIdx;
using simulated_gpu::gridDim;

inline void cudaTriggerProgrammaticLaunchCompletion() { simulated_gpu::allow_next_launch(); }
inline void cudaGridDependencySynchronize() { simulated_gpu::wait_for_previous_launch(); }

inline void __syncthreads() { simulated_gpu::sync_block(); }
inline void __syncwarp(unsigned lanes = ~0u) {
  simulated_gpu::meet(simulated_gpu::Meeting::kSync, lanes, {});
}
inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

inline unsigned __ballot_sync(unsigned lanes, bool set) {
  const auto& found = simulated_gpu::meet(simulated_gpu::Meeting::kBallot, lanes, {set});
  unsigned bits = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (found.lanes >> lane & 1) bits |= found.words[lane][0] << lane;
  return bits;
}
inline bool __any_sync(unsigned lanes, bool set) { return __ballot_sync(lanes, set) != 0; }

// A source that does not take part leaves a lane its own value.
template <typename T>
T __shfl_sync(unsigned lanes, T value, int source) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint32_t words[2] = {};
  std::memcpy(words, &value, sizeof value);
  const auto& found =
      simulated_gpu::meet(simulated_gpu::Meeting::kShuffle, lanes, {words[0], words[1]});
  if (found.lanes >> (source & 31) & 1) std::memcpy(&value, found.words[source & 31], sizeof value);
  return value;
}
template <typename T>
T __shfl_xor_sync(unsigned lanes, T value, int bits) {
  return __shfl_sync(lanes, value, simulated_gpu::current->lane ^ bits);
}
template <typename T>
T __shfl_down_sync(unsigned lanes, T value, unsigned distance) {
  const int lane = simulated_gpu::current->lane, source = lane + static_cast<int>(distance);
  return __shfl_sync(lanes, value, source < 32 ? source : lane);
}

inline unsigned atomicAdd(unsigned* to, unsigned value) {
  return __atomic_fetch_add(to, value, __ATOMIC_SEQ_CST);
}
inline unsigned atomicOr(unsigned* to, unsigned value) {
  return __atomic_fetch_or(to, value, __ATOMIC_SEQ_CST);
}
inline long long atomicMax(long long* to, long long value) {
  long long before = __atomic_load_n(to, __ATOMIC_SEQ_CST);
  while (before < value && !__atomic_compare_exchange_n(to, &before, value, false, __ATOMIC_SEQ_CST,
                                                        __ATOMIC_SEQ_CST)) {
  }
  return before;
}

template <typename T>
T __ldcg(const T* from) {
  return *from;
}
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline unsigned long long __float2ull_rn(float value) {
  return static_cast<unsigned long long>(std::llrint(static_cast<double>(value)));
}
inline double __ull2double_rn(unsigned long long value) { return static_cast<double>(value); }
inline int __clz(int value) {
  return value == 0 ? 32 : __builtin_clz(static_cast<unsigned>(value));
}
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selectors) {
  const unsigned long long bytes = static_cast<unsigned long long>(high) << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i)
    result |= static_cast<unsigned>(bytes >> (selectors >> 4 * i & 7) * 8 & 0xff) << 8 * i;
  return result;
}
template <typename T>
T max(T a, T b) {
  return a < b ? b : a;
}
template <typename T>
T min(T a, T b) {
  return b < a ? b : a;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  return simulated_gpu::enqueue(
      *config, [kernel, values = std::tuple<std::decay_t<Parameters>...>(arguments...)] {
        std::apply(kernel, values);
      });
}
