#include "spmd/devices.h"

#include <cuda_runtime_api.h>

#include "comm/cuda/cuda_comm.h"
#include "comm/thread_comm.h"
#include "core/check.h"
#include "core/ranks_per_gpu.h"
#include "ops/cuda/cuda_check.h"
#include "ops/cuda/cuda_ops.h"

namespace lockstep {
namespace {

using cuda::check_cuda;

class CudaTeam final : public GpuTeam {
 public:
  CudaTeam(int world_size, bool deterministic)
      : deterministic_(deterministic),
        group_(cuda::make_cuda_group(world_size, {deterministic, default_comm_timeout()})) {}

  GpuRank make_rank(Device device, Comm& host) override {
    auto ops = std::make_unique<cuda::CudaOps>(device.index, deterministic_);
    GpuRank rank;
    rank.stream = ops->stream();
    rank.comm = cuda::make_cuda_comm(group_, host, ops->stream());
    ops->use_peers(*rank.comm, cuda::peer_group(*rank.comm));
    rank.ops = std::move(ops);
    return rank;
  }

 private:
  const bool deterministic_;
  const std::shared_ptr<cuda::CudaGroup> group_;
};

}  // namespace

int cuda_device_count() {
  ranks_per_gpu();  // before CUDA is first used
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // not sticky: take it back
    return 0;
  }
  return count;
}

std::vector<std::uint64_t> cuda_free_memory(int ranks) {
  std::vector<std::uint64_t> bytes;
  if (ranks == 0) return bytes;
  const int devices = cuda_device_count();
  int current = 0;  // of the caller's thread
  check_cuda(cudaGetDevice(&current));
  for (int rank = 0; rank < ranks; ++rank) {
    const int device = rank % devices;
    std::size_t free = 0, total = 0;
    check_cuda(cudaSetDevice(device));
    check_cuda(cudaMemGetInfo(&free, &total));
    bytes.push_back(free / static_cast<std::size_t>((ranks - device + devices - 1) / devices));
  }
  check_cuda(cudaSetDevice(current));
  return bytes;
}

void require_cuda() {
  if (cuda_device_count() > 0) return;
  int driver = 0, count = 0;
  check(cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0,
        "no CUDA device can be used here: there is no NVIDIA driver");
  const cudaError_t status = cudaGetDeviceCount(&count);
  fail("no CUDA device can be used here: {}",
       status == cudaSuccess ? "there is none" : cudaGetErrorString(status));
}

std::unique_ptr<GpuTeam> make_gpu_team(int world_size, bool deterministic) {
  return std::make_unique<CudaTeam>(world_size, deterministic);
}

}  // namespace lockstep
