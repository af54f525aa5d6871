// ops/checks.h for tensors in host memory.
#pragma once

#include "ops/checks.h"

namespace lockstep::cpu {

inline void check_tensor(const char* op, const char* name, const Tensor& tensor, DType dtype,
                         const Shape& shape) {
  lockstep::check_tensor(op, name, tensor, dtype, shape, DeviceType::kCpu);
}

inline void check_table(const char* op, const char* name, const Tensor& tensor) {
  lockstep::check_table(op, name, tensor, DeviceType::kCpu);
}

inline void check_attention(const char* op, const Tensor& qkv, const AttentionShape& shape,
                            const KvLayer& cache, const BatchView& batch) {
  lockstep::check_attention(op, qkv, shape, cache, batch, DeviceType::kCpu);
}

}  // namespace lockstep::cpu
