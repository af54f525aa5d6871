// Barriers in shared memory that copies arrive at, and the copies: of boxes of a matrix that a
// tensor map describes (tensor_map.h). For Hopper and later.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {

// Its turns end, one after the other, when as many threads have arrived as it was started for and
// all bytes that they said to expect are there.
struct Barrier {
  std::uint64_t state;

  __device__ SharedAddress address() const { return shared_address(&state); }

  // Before any other use, by one thread, which then calls barriers_started().
  __device__ void start(int threads) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address()), "r"(threads)
                 : "memory");
#endif
  }

  __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(address()) : "memory");
#endif
  }

  // Arrives, and says that copies of so many bytes will.
  __device__ void expect(int bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address()),
                 "r"(bytes)
                 : "memory");
#endif
  }

  // Until turn `turn`, from 0, has ended; the one after it has not.
  __device__ void wait(unsigned turn) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred ended;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 ended, [%0], %1;\n"
        "@!ended bra again;\n"
        "}" ::"r"(address()),
        "r"(turn & 1)
        : "memory");
#endif
  }
};

__device__ inline void barriers_started() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// __syncthreads() for kThreads threads of a block. kNumber: of the barrier, not 0.
template <int kNumber, int kThreads>
__device__ inline void sync_threads() {
  asm volatile("bar.sync %0, %1;" ::"n"(kNumber), "n"(kThreads) : "memory");
}

// What is read need not stay in the L2 cache.
__device__ inline std::uint64_t read_once() {
  std::uint64_t policy = 0;
#if __CUDA_ARCH__ >= 900
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}

// Copies a run of bytes, a multiple of 16, to shared memory, where it arrives at `barrier`.
__device__ inline void copy_bytes(Barrier& barrier, void* to, const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(barrier.address()), "l"(read_once())
      : "memory");
#endif
}

// The same for a part of a row of the matrix, from this column on. `map`: for that.
__device__ inline void copy_part(Barrier& barrier, void* to, const void* map, int row, int column) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(column), "r"(row), "r"(barrier.address()), "l"(read_once())
      : "memory");
#endif
}

// The same for a box from this row of each half on, `part` parts from the left. `map`: for such
// boxes.
__device__ inline void copy_box(Barrier& barrier, void* to, const void* map, int row, int part) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      ".L2::cache_hint [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(shared_address(to)),
      "l"(map), "r"(0), "r"(part), "r"(row), "r"(0), "r"(barrier.address()), "l"(read_once())
      : "memory");
#endif
}

// The same for all leaves' parts from the `part`-th on, without a word about the L2 cache. `map`:
// for these (make_input_map()).
__device__ inline void copy_leaves(Barrier& barrier, void* to, const void* map, int part) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared_address(to)),
      "l"(map), "r"(0), "r"(0), "r"(0), "r"(part), "r"(barrier.address())
      : "memory");
#endif
}

}  // namespace lockstep::cuda
