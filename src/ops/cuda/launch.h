// The one way in which kernels are launched. A kernel may begin while those before it on the stream
// still run (programmatic dependent launch, on Hopper and later): as soon as all blocks of the one
// before it have begun and there is room. Its blocks then wait in wait_for_previous_kernels(), and
// may read ahead what no kernel writes: weights. Not where ranks share GPUs: blocks that wait there
// would hold the room of those that they wait for.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <utility>

#include "core/ranks_per_gpu.h"
#include "ops/cuda/cuda_check.h"

namespace lockstep::cuda {

// Lets the next kernel start its way to wait_for_previous_kernels().
__device__ inline void allow_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaTriggerProgrammaticLaunchCompletion();
#endif
}

// Waits until the kernels before this one are done and what they wrote is visible. All blocks of
// all kernels do, before anything is touched that a kernel of the same step writes. The one
// exception waits for values instead (reduce_norm_kernel).
__device__ inline void wait_for_previous_kernels() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  cudaGridDependencySynchronize();
#endif
}

__device__ inline void begin_kernel() {
  allow_next_kernel();
  wait_for_previous_kernels();
}

// The most shared memory that a block can have on the calling thread's device.
inline int max_shared_bytes() {
  static thread_local const int bytes = [] {
    int device = 0, most = 0;
    check_cuda(cudaGetDevice(&device));
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
    return most;
  }();
  return bytes;
}

// What is known of a kernel on the calling thread's device. A rank's thread keeps its device.
struct KernelState {
  bool for_hopper = false;
  int static_shared_bytes = 0;
  bool prepared = false;
};
inline KernelState& state_of(const void* kernel) {
  static thread_local std::unordered_map<const void*, KernelState> states;
  const auto [entry, first] = states.try_emplace(kernel);
  if (first) {
    cudaFuncAttributes attributes{};
    check_cuda(cudaFuncGetAttributes(&attributes, kernel));
    entry->second.for_hopper = attributes.ptxVersion >= 90;
    entry->second.static_shared_bytes = static_cast<int>(attributes.sharedSizeBytes);
  }
  return entry->second;
}

// Whether what runs of `kernel` was compiled with Hopper's instructions: code for older devices
// runs on newer ones as well.
template <typename... Parameters>
bool is_for_hopper(void (*kernel)(Parameters...)) {
  return state_of(reinterpret_cast<const void*>(kernel)).for_hopper;
}

inline constexpr std::int64_t kMaxGridX = 0x7fffffff;
inline constexpr std::int64_t kMaxGridYZ = 65535;

// Lets a kernel have as much shared memory as there is: the limit is the device's, which other
// threads may use with launches of other sizes. All kernels ask for the same division between
// shared memory and L1 cache: kernels that differ there cannot be on a multiprocessor at the same
// time.
inline void prepare(const void* kernel) {
  KernelState& state = state_of(kernel);
  if (state.prepared) return;
  state.prepared = true;
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared));
  check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  max_shared_bytes() - state.static_shared_bytes));
}

// Threads of a block, and bytes of shared memory beside what the kernel declares.
struct Block {
  Block(dim3 its_threads, std::size_t its_shared_bytes = 0)
      : threads(its_threads), shared_bytes(its_shared_bytes) {}
  Block(int its_threads, std::size_t its_shared_bytes = 0)
      : Block(dim3(static_cast<unsigned>(its_threads)), its_shared_bytes) {}
  dim3 threads;
  std::size_t shared_bytes;
  int cluster = 1;  // blocks of a cluster, neighbours in x
};

// Enqueues kernel<<<(x, y, z), block>>>(arguments...). Nothing to do for an empty grid. Throws
// Error for a grid that CUDA does not know, and for what CUDA reports.
template <typename... Parameters, typename... Arguments>
void launch(cudaStream_t stream, void (*kernel)(Parameters...), std::int64_t x, std::int64_t y,
            std::int64_t z, const Block& block, Arguments&&... arguments) {
  if (x == 0 || y == 0 || z == 0) return;
  check(x > 0 && y > 0 && z > 0 && x <= kMaxGridX && y <= kMaxGridYZ && z <= kMaxGridYZ,
        "a kernel's grid cannot be {} x {} x {}", x, y, z);
  prepare(reinterpret_cast<const void*>(kernel));
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (is_for_hopper(kernel) && !ranks_share_gpus()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (block.cluster > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(block.cluster), 1, 1};
  }
  cudaLaunchConfig_t config{};
  config.gridDim =
      dim3(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
  config.blockDim = block.threads;
  config.dynamicSmemBytes = block.shared_bytes;
  config.stream = stream;
  config.attrs = attributes;
  config.numAttrs = count;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
  check_cuda(cudaGetLastError());
}

inline constexpr std::int64_t divide_up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

}  // namespace lockstep::cuda
