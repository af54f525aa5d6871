// How a warp brings rows of memory into shared memory ahead of their use: kDepth stages, each
// filled by bulk copies, a row each, that nobody waits for until the stage is used. For Hopper and
// later.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {

// All lanes of the warp make all calls. A stage is filled by expect() and copies of what was
// expected.
template <int kDepth>
class RowQueue {
 public:
  // `barriers`: kDepth, in shared memory.
  __device__ RowQueue(std::uint64_t* barriers, int lane)
      : barriers_(shared_address(barriers)), lane_(lane) {
#if __CUDA_ARCH__ >= 900
    if (lane == 0) {
      for (int i = 0; i < kDepth; ++i)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier(i)) : "memory");
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy_));
    __syncwarp();
#endif
  }

  // What the copies to a stage amount to. Everybody has read what it held.
  __device__ void expect(int stage, int bytes) {
#if __CUDA_ARCH__ >= 900
    if (lane_ == 0)
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier(stage)),
                   "r"(bytes)
                   : "memory");
#endif
  }

  // Copies `rows` rows of `bytes` bytes; from(row) says where row is, `to` and `pitch` where it
  // goes. All multiples of 16. What is read need not stay in the L2 cache.
  template <typename From>
  __device__ void copy(int stage, unsigned char* to, int pitch, int rows, int bytes, From&& from) {
#if __CUDA_ARCH__ >= 900
    for (int row = lane_; row < rows; row += 32)
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
          "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to + row * pitch)),
          "l"(from(row)), "r"(bytes), "r"(barrier(stage)), "l"(policy_)
          : "memory");
#endif
  }

  // Until the stage is full for the `turn`-th time, from 0.
  __device__ void wait(int stage, unsigned turn) {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "{\n"
        ".reg .pred full;\n"
        "again: mbarrier.try_wait.parity.shared::cta.b64 full, [%0], %1;\n"
        "@!full bra again;\n"
        "}" ::"r"(barrier(stage)),
        "r"(turn & 1)
        : "memory");
#endif
  }

 private:
  __device__ unsigned barrier(int stage) const { return barriers_ + stage * 8; }

  unsigned barriers_;
  int lane_;
  std::uint64_t policy_ = 0;
};

}  // namespace lockstep::cuda
