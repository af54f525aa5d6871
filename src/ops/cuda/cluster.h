// Clusters: blocks that run at the same time, close to each other, and reach each other's shared
// memory. For Hopper and later.
#pragma once

#include <cuda_runtime.h>

#include "ops/cuda/barrier.h"
#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {

// The cluster's barrier. All threads of all its blocks arrive and then wait, in turns. What was
// stored before arriving is seen after waiting, so it takes as long as the slowest store to memory.
__device__ inline void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// Stores to where `place`, in this block's shared memory, is in that of the cluster's `block`,
// which must have begun. It arrives at the barrier that is there where `barrier` is here.
__device__ inline void store_in_cluster(int block, Barrier& barrier, float* place, float value) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .b32 there, barrier_there;\n"
      "mapa.shared::cluster.u32 there, %0, %2;\n"
      "mapa.shared::cluster.u32 barrier_there, %1, %2;\n"
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.f32 [there], %3, [barrier_there];\n"
      "}" ::"r"(shared_address(place)),
      "r"(barrier.address()), "r"(block), "f"(value)
      : "memory");
#endif
}

}  // namespace lockstep::cuda
