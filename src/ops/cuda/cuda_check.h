// The one checker for CUDA's error codes.
#pragma once

#include <cuda_runtime_api.h>

#include <source_location>

#include "core/check.h"

namespace lockstep::cuda {

// Throws Error with CUDA's name and text of the error and the place of the call.
inline void check_cuda(cudaError_t status,
                       std::source_location where = std::source_location::current()) {
  if (status == cudaSuccess) [[likely]]
    return;
  const char* file = where.file_name();
  for (const char* c = file; *c; ++c)
    if (*c == '/') file = c + 1;
  fail("CUDA: {} ({}) at {}:{}", cudaGetErrorString(status), cudaGetErrorName(status), file,
       where.line());
}

}  // namespace lockstep::cuda
