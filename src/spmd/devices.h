// What devices this build and host have, and what a rank on a GPU is made of. A build without CUDA
// compiles no_cuda.cpp for the answers.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lockstep/comm.h"
#include "ops/ops.h"

namespace lockstep {

// CUDA devices of this host; 0 without a GPU.
int cuda_device_count();

// The most GPU ranks that this host can have: as many as it has GPUs, unless ranks share them
// (core/ranks_per_gpu.h).
int max_cuda_ranks();

// Bytes that each of `ranks` ranks has free, at most max_cuda_ranks(): an equal part of its GPU's.
std::vector<std::uint64_t> cuda_free_memory(int ranks);

// Throws Error, saying why, when this build or this host cannot run on CUDA devices.
void require_cuda();

struct GpuRank {
  std::unique_ptr<Ops> ops;
  std::unique_ptr<Comm> comm;
  void* stream = nullptr;  // cudaStream_t
};

// Makes the ranks of one team, each on its own thread, all at the same time.
class GpuTeam {
 public:
  virtual ~GpuTeam() = default;
  // `host` is the rank's end of a ThreadComm, by which the ranks meet; it outlives the result.
  virtual GpuRank make_rank(Device device, Comm& host) = 0;
};

// deterministic: bits are the same at every world size for any number of rows, not only for decode
// steps.
std::unique_ptr<GpuTeam> make_gpu_team(int world_size, bool deterministic);

}  // namespace lockstep
