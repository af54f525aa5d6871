// Argument checks that the operations of all backends share. All throw Error with a message that
// names the operation and the argument; `where` is the kind of memory that a tensor must be in.
#pragma once

#include "core/check.h"
#include "ops/ops.h"

namespace lockstep {

inline void check_tensor(const char* op, const char* name, const Tensor& tensor, DType dtype,
                         const Shape& shape, DeviceType where) {
  if (tensor.dtype != dtype || tensor.shape != shape) [[unlikely]]
    fail("{}: {} must be {} {}, found {} {}", op, name, name_of(dtype), to_string(shape),
         name_of(tensor.dtype), to_string(tensor.shape));
  if (tensor.device.type != where) [[unlikely]]
    fail("{}: {} must be in {} memory, found it on {}", op, name,
         where == DeviceType::kCpu ? "host" : "GPU", to_string(tensor.device));
  check(tensor.data != nullptr || shape.numel() == 0, "{}: {} has no memory", op, name);
}

// A tensor [rows, size] of any sizes and dtype.
inline void check_table(const char* op, const char* name, const Tensor& tensor, DeviceType where) {
  if (tensor.shape.rank() != 2) [[unlikely]]
    fail("{}: {} must have two axes, found {}", op, name, to_string(tensor.shape));
  check_tensor(op, name, tensor, tensor.dtype, tensor.shape, where);
}

// The shapes of an attention layer, its cache and its batch fit each other.
void check_attention(const char* op, const Tensor& qkv, const AttentionShape& shape,
                     const KvLayer& cache, const BatchView& batch, DeviceType where);

}  // namespace lockstep
