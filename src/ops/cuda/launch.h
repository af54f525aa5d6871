// The one way in which kernels are launched. Every kernel may begin while the one before it on the
// stream still runs (programmatic dependent launch, on devices that can), because every kernel
// calls begin_kernel() before it touches memory.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

#include "ops/cuda/cuda_check.h"

namespace lockstep::cuda {

// To be called by every thread of every kernel before anything else: waits until the kernels before
// it are done and what they wrote is visible, then lets the next one start its way here.
__device__ inline void begin_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Whether the calling thread's device can start a kernel early. A rank's thread keeps its device.
inline bool can_start_early() {
  static thread_local const bool can = [] {
    int device = 0, major = 0;
    check_cuda(cudaGetDevice(&device));
    check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    return major >= 9;
  }();
  return can;
}

inline constexpr std::int64_t kMaxGridX = 0x7fffffff;
inline constexpr std::int64_t kMaxGridYZ = 65535;

// Enqueues kernel<<<(x, y, z), threads>>>(arguments...). Nothing to do for an empty grid. Throws
// Error for a grid that CUDA does not know, and for what CUDA reports.
template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), std::int64_t x, std::int64_t y,
            std::int64_t z, dim3 threads, Arguments&&... arguments) {
  if (x == 0 || y == 0 || z == 0) return;
  check(x > 0 && y > 0 && z > 0 && x <= kMaxGridX && y <= kMaxGridYZ && z <= kMaxGridYZ,
        "a kernel's grid cannot be {} x {} x {}", x, y, z);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
  config.blockDim = threads;
  config.stream = stream;
  config.attrs = &early;
  config.numAttrs = can_start_early() ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
  check_cuda(cudaGetLastError());
}

inline constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace lockstep::cuda
