#pragma once

#include "core/ranks_per_gpu.h"
#include "lockstep/comm.h"

namespace lockstep::cuda {

// Where ranks share GPUs: waits until all ranks have come here and their streams are done, so that
// nothing that one of them still does on its way waits for a kernel that waits for it.
inline void meet_before_exchange(Comm& comm) {
  if (ranks_share_gpus()) comm.barrier();
}

}  // namespace lockstep::cuda
