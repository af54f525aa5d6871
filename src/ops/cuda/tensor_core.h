// What tensor cores are fed with: the instructions of a warp that multiply tiles of 16-bit elements
// and bring them there from shared memory, and copies into shared memory that go on behind the
// threads' backs. All need compute capability 8.0.
#pragma once

#include <cstdint>
#include <type_traits>

#include "ops/cuda/element.h"

namespace lockstep::cuda {

// Where something is within the block's shared memory.
using SharedAddress = std::uint32_t;

// The shared memory that a kernel was launched with, aligned to 1024 bytes.
__device__ inline void* launched_shared_memory() {
  extern __shared__ __align__(1024) unsigned char launched_memory[];
  return launched_memory;
}

__device__ inline SharedAddress shared_address(const void* pointer) {
  return static_cast<SharedAddress>(__cvta_generic_to_shared(pointer));
}

// D += A * B for tiles A 16x16, B 16x8, D 16x8 that lie in the registers of a warp. With g = lane /
// 4 and q = lane % 4, a lane holds of
//   A: rows g, g + 8, g, g + 8 at columns 2q and 2q + 1, the last two 8 columns further on;
//   B: rows 2q and 2q + 1 of column g, then rows 2q + 8 and 2q + 9;
//   D: row g at columns 2q and 2q + 1, then row g + 8.
template <typename T>
__device__ inline void multiply_tile(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                     std::uint32_t b1) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    static_assert(std::is_same_v<T, Float16>);
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Four 8x8 matrices of 16-bit elements. Lane 8 i + r gives the address of row r of matrix i, 16
// bytes; a lane gets of each matrix the elements 2 (lane % 4) and the next of row lane / 4.
__device__ inline void load_matrices(std::uint32_t (&matrices)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row));
}

// The same of the transposed matrices.
__device__ inline void load_transposed(std::uint32_t (&matrices)[4], SharedAddress row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(row));
}

// Starts a copy of 16 bytes from global memory, or of zeros, when nothing is read.
__device__ inline void copy_async(SharedAddress to, const void* from, bool zeros) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(to), "l"(from), "r"(zeros ? 0 : 16)
               : "memory");
}

// The same by way of whole lines of the L2 cache.
__device__ inline void copy_async_by_lines(SharedAddress to, const void* from, bool zeros) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;"
               :
               : "r"(to), "l"(from), "r"(zeros ? 0 : 16)
               : "memory");
}

// The copies that the calling thread has started since its last group are a group.
__device__ inline void end_group() { asm volatile("cp.async.commit_group;" : : : "memory"); }

// Waits for the calling thread's groups, but not for the last kCount of them.
template <int kCount>
__device__ inline void wait_for_groups_but() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kCount) : "memory");
}

// Waits for all copies that the calling thread has started; other threads see them after a barrier.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" : : : "memory"); }

// The lane, asked for anew by each call: what is computed from it within a loop is not kept in
// registers from before the loop.
__device__ inline int current_lane() {
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

// 2^x to 2 units in the last place, 2^0 = 1 and 2^-infinity = 0; results below 2^-126 are 0.
__device__ inline float fast_exp2(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
}

}  // namespace lockstep::cuda
