// As src/ops/cuda/cluster.h, on the CPU.
#pragma once

#include "ops/cuda/barrier.h"

namespace lockstep::cuda {

inline void arrive_at_cluster() {
  simulated_gpu::Thread& thread = *simulated_gpu::current;
  if (!thread.block->cluster) simulated_gpu::broken("a cluster's barrier without a cluster");
  ++thread.cluster_turns;
  ++thread.block->cluster->arrived;
}
inline void wait_for_cluster() {
  const simulated_gpu::Thread& thread = *simulated_gpu::current;
  const simulated_gpu::Launch& launch = thread.block->launch;
  const int threads = launch.cluster_size * static_cast<int>(launch.block.x);
  while (thread.block->cluster->arrived < thread.cluster_turns * threads) simulated_gpu::pause();
}

inline void store_in_cluster(int block, Barrier& barrier, float* place, float value) {
  __atomic_store(static_cast<float*>(simulated_gpu::in_cluster(block, place)), &value,
                 __ATOMIC_SEQ_CST);
  static_cast<Barrier*>(simulated_gpu::in_cluster(block, &barrier))->complete(sizeof value);
}

}  // namespace lockstep::cuda
