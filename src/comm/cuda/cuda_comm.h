// CudaComm: collectives between the GPUs of one process, enqueued on the ranks' streams. Small
// float32 sums go the fast path (peer_reduce.h) where every GPU can reach every other, everything
// else through NCCL.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <memory>
#include <string>

#include "lockstep/comm.h"

namespace lockstep::cuda {

// Of the NCCL that is used: "2.27.3". Throws Error when it cannot be loaded.
std::string nccl_version();

// What the ranks of one team share.
class CudaGroup;

struct CudaCommOptions {
  // Sums of any size have the bits of the canonical tree; without it large ones are added in NCCL's
  // order.
  bool deterministic = false;
  std::chrono::milliseconds timeout;
};

std::shared_ptr<CudaGroup> make_cuda_group(int world_size, const CudaCommOptions& options);

// One rank's end. Called on every rank's own thread at the same time, each with its device current.
// `host` is the rank's end of a ThreadComm, by which the ranks meet and are woken; it outlives the
// result. A group that was aborted stays aborted.
std::unique_ptr<Comm> make_cuda_comm(std::shared_ptr<CudaGroup> group, Comm& host,
                                     cudaStream_t stream);

// How the rank's kernels reach its peers; null where they cannot, and for a rank alone. Lives as
// long as the comm, which make_cuda_comm() made.
const struct PeerGroup* peer_group(const Comm& comm);

}  // namespace lockstep::cuda
