// Attention for steps of many rows that follow each other in their sequences.
#pragma once

#include <cuda_runtime_api.h>

#include "ops/ops.h"

namespace lockstep::cuda {

// Ops::attention() with tensor cores, for arguments that it has checked and that are not empty. Any
// rows are right; fast are those that follow each other in one sequence. False, and nothing is
// done, if this is not the kernel for these types, sizes or alignments.
bool prompt_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                      const KvLayer& cache, const BatchView& batch, int num_multiprocessors,
                      cudaStream_t stream);

}  // namespace lockstep::cuda
