// What devices this build and host have. A build without CUDA compiles no_cuda.cpp for the answer.
#pragma once

namespace lockstep {

// CUDA devices of this host; 0 without a GPU.
int cuda_device_count();

// Throws Error, saying why, when this build or this host cannot run on CUDA devices.
void require_cuda();

}  // namespace lockstep
