#pragma once

#include <cuda_runtime_api.h>

#include "core/ranks_per_gpu.h"
#include "lockstep/comm.h"
#include "ops/cuda/cuda_check.h"

namespace lockstep::cuda {

// Where ranks share GPUs: waits until all ranks have come here and their streams are done, so that
// nothing that one of them still does on its way waits for a kernel that waits for it. Not while a
// graph is recorded, which only starts after the ranks have met.
inline void meet_before_exchange(Comm& comm, cudaStream_t stream) {
  if (!ranks_share_gpus()) return;
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check_cuda(cudaStreamIsCapturing(stream, &status));
  if (status == cudaStreamCaptureStatusNone) comm.barrier();
}

}  // namespace lockstep::cuda
