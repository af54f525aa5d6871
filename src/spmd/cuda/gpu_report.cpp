#include "spmd/gpu_report.h"

#include <cuda_runtime_api.h>

#include <array>
#include <memory>

#include "comm/cuda/cuda_comm.h"
#include "core/check.h"
#include "ops/cuda/matmul.h"
#include "spmd/cuda/nvml.h"

namespace lockstep {
namespace {

// 12090 is 12.9.
std::string cuda_version(int version) {
  return version == 0 ? "" : fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

GpuInfo describe_gpu(int device) {
  GpuInfo info;
  cudaDeviceProp properties{};
  cudaError_t status = cudaGetDeviceProperties(&properties, device);
  if (status == cudaSuccess) {
    info.name = properties.name;
    info.bus_id = fmt::format("{:04x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                              properties.pciDeviceID);
    info.total_bytes = properties.totalGlobalMem;
    info.compute_capability = 10 * properties.major + properties.minor;
    info.multiprocessors = properties.multiProcessorCount;
    int mode = cudaComputeModeDefault;
    if (cudaDeviceGetAttribute(&mode, cudaDevAttrComputeMode, device) == cudaSuccess)
      info.prohibited = mode == cudaComputeModeProhibited;
    std::size_t total = 0, free = 0;
    status = cudaSetDevice(device);
    if (status == cudaSuccess) status = cudaMemGetInfo(&free, &total);
    info.free_bytes = free;
  }
  if (status != cudaSuccess) {
    info.error = fmt::format("{} ({})", cudaGetErrorString(status), cudaGetErrorName(status));
    cudaGetLastError();  // not sticky: take it back
  }
  return info;
}

// What `version` returns, or why it throws.
template <typename Version>
GpuLibrary describe_library(const char* name, const Version& version) {
  GpuLibrary library{name, {}, {}};
  try {
    library.version = version();
  } catch (const Error& error) {
    library.error = error.what();
  }
  return library;
}

}  // namespace

GpuReport report_gpus() {
  GpuReport report;
  report.built_in = true;
  int version = 0;
  if (cudaRuntimeGetVersion(&version) == cudaSuccess)
    report.runtime_version = cuda_version(version);
  if (cudaDriverGetVersion(&version) == cudaSuccess) report.driver_version = cuda_version(version);
  report.libraries = {describe_library("NCCL", cuda::nccl_version),
                      describe_library("cuBLASLt", cuda::cublaslt_version)};

  std::unique_ptr<cuda::Nvml> nvml;
  try {
    nvml = std::make_unique<cuda::Nvml>();
    report.driver_release = nvml->driver_release();
  } catch (const Error& error) {
    report.nvml_error = error.what();
  }

  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    report.error_name = cudaGetErrorName(status);
    report.error_text = cudaGetErrorString(status);
    cudaGetLastError();
    return report;
  }
  for (int device = 0; device < count; ++device) {
    report.gpus.push_back(describe_gpu(device));
    if (nvml) nvml->describe(report.gpus.back());
  }
  for (int a = 0; a < count; ++a) {
    std::vector<GpuLink>& row = report.links.emplace_back();
    for (int b = 0; b < count; ++b) {
      GpuLink& link = row.emplace_back();
      if (a == b) continue;
      int reachable = 0;
      if (cudaDeviceCanAccessPeer(&reachable, a, b) != cudaSuccess) cudaGetLastError();
      link.peer_access = reachable != 0;
      if (nvml)
        link.kind = nvml->link(report.gpus[static_cast<std::size_t>(a)].bus_id,
                               report.gpus[static_cast<std::size_t>(b)].bus_id);
    }
  }
  return report;
}

}  // namespace lockstep
