#pragma once

#include "core/ranks_per_gpu.h"
#include "lockstep/comm.h"

namespace lockstep::cuda {

// Calls `enqueue`, which puts an exchange into the rank's stream. Where ranks share GPUs, all ranks
// do it together, when their streams are done, and then wait for its end: some calls of CUDA wait
// for all that runs on a GPU (a first allocation of pinned memory does), and keep other threads
// from launching the very kernel that this waits for.
template <typename Enqueue>
void exchange_together(Comm& comm, const Enqueue& enqueue) {
  if (ranks_share_gpus()) comm.barrier();
  enqueue();
  if (ranks_share_gpus()) comm.barrier();
}

}  // namespace lockstep::cuda
