// ops/checks.h for tensors in a GPU's memory. What the tensors hold is not looked at: kernels skip
// indices that are out of range.
#pragma once

#include "ops/checks.h"

namespace lockstep::cuda {

inline void check_tensor(const char* op, const char* name, const Tensor& tensor, DType dtype,
                         const Shape& shape) {
  lockstep::check_tensor(op, name, tensor, dtype, shape, DeviceType::kCuda);
}

inline void check_table(const char* op, const char* name, const Tensor& tensor) {
  lockstep::check_table(op, name, tensor, DeviceType::kCuda);
}

inline void check_attention(const char* op, const Tensor& qkv, const AttentionShape& shape,
                            const KvLayer& cache, const BatchView& batch) {
  lockstep::check_attention(op, qkv, shape, cache, batch, DeviceType::kCuda);
}

// A tensor of this shape in one of the dtypes that linear() takes.
inline void check_activation(const char* op, const char* name, const Tensor& tensor,
                             const Shape& shape) {
  const DType dtype = tensor.dtype;
  if (dtype != DType::kFloat32 && dtype != DType::kBFloat16 && dtype != DType::kFloat16)
      [[unlikely]]
    fail("{}: {} must be float32, bfloat16 or float16, found {}", op, name, name_of(dtype));
  check_tensor(op, name, tensor, dtype, shape);
}

}  // namespace lockstep::cuda
