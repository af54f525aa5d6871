// Elements of tensors in device code: conversion to and from float32 (round to nearest even), loads
// of several at once, and sums over threads in one fixed order.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "core/check.h"
#include "lockstep/tensor.h"

namespace lockstep::cuda {

using BFloat16 = __nv_bfloat16;
using Float16 = __half;

// Calls f with a value of the C++ type of a floating-point dtype.
template <typename Function>
void with_element_type(DType dtype, Function&& f) {
  switch (dtype) {
    case DType::kFloat32:
      return f(float{});
    case DType::kBFloat16:
      return f(BFloat16{});
    case DType::kFloat16:
      return f(Float16{});
    default:
      fail("{} is no floating-point dtype", name_of(dtype));
  }
}

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(BFloat16 value) { return __bfloat162float(value); }
__device__ inline float to_float(Float16 value) { return __half2float(value); }

template <typename T>
__device__ inline T from_float(float value) {
  if constexpr (std::is_same_v<T, BFloat16>)
    return __float2bfloat16_rn(value);
  else if constexpr (std::is_same_v<T, Float16>)
    return __float2half_rn(value);
  else
    return value;
}

// Two 16-bit elements in a word, the first one in the lower half.
template <typename T>
__device__ inline std::uint32_t pack_pair(float first, float second) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  } else {
    const __half2 pair = __floats2half2_rn(first, second);
    return *reinterpret_cast<const std::uint32_t*>(&pair);
  }
}

// to[index] = value, where `to` is an array of a floating-point dtype.
__device__ inline void store(void* to, DType dtype, std::int64_t index, float value) {
  if (dtype == DType::kBFloat16)
    static_cast<BFloat16*>(to)[index] = from_float<BFloat16>(value);
  else if (dtype == DType::kFloat16)
    static_cast<Float16*>(to)[index] = from_float<Float16>(value);
  else
    static_cast<float*>(to)[index] = value;
}

// silu(gate) * up.
__device__ inline float silu_multiply(float gate, float up) {
  return gate / __fadd_rn(1.0f, expf(-gate)) * up;
}

// Neighbours that are loaded and stored by one instruction.
template <typename T, int kSize>
struct alignas(sizeof(T) * kSize) Pack {
  T values[kSize];
};

template <typename T, int kSize>
__device__ inline Pack<T, kSize> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kSize>*>(from);
}
template <typename T, int kSize>
__device__ inline void store_pack(T* to, const Pack<T, kSize>& pack) {
  *reinterpret_cast<Pack<T, kSize>*>(to) = pack;
}

inline bool aligned(std::initializer_list<const void*> pointers, std::uintptr_t alignment) {
  for (const void* pointer : pointers)
    if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0) return false;
  return true;
}

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Reductions give every thread the same result. Sums are __fadd_rn: the compiler must not fuse them
// with the product before them in one kernel and not in another.

// Over groups of kLanes neighbouring lanes, a power of two: halves are added, 16 or fewer apart.
template <int kLanes = kWarp>
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2)
    value = __fadd_rn(value, __shfl_xor_sync(kAllLanes, value, offset));
  return value;
}

// Over the kThreads threads of a block, a multiple of 32: warps first, then their sums.
template <int kThreads>
__device__ inline float block_sum(float value) {
  constexpr int kWarps = kThreads / kWarp;
  static_assert(kWarps <= kWarp);
  __shared__ float sums[kWarps];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  value = warp_sum(value);
  if (lane == 0) sums[warp] = value;
  __syncthreads();
  value = warp_sum(lane < kWarps ? sums[lane] : 0.0f);
  __syncthreads();  // sums may be used again
  return value;
}

}  // namespace lockstep::cuda
