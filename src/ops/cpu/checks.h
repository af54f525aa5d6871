// Argument checks that the operations share.
#pragma once

#include "core/check.h"
#include "ops/ops.h"

namespace lockstep::cpu {

// `op` and `name` say in the message which argument of which operation it is.
inline void check_tensor(const char* op, const char* name, const Tensor& tensor, DType dtype,
                         const Shape& shape) {
  if (tensor.dtype != dtype || tensor.shape != shape) [[unlikely]]
    fail("{}: {} must be {} {}, found {} {}", op, name, name_of(dtype), to_string(shape),
         name_of(tensor.dtype), to_string(tensor.shape));
  check(tensor.device.type == DeviceType::kCpu, "{}: {} must be in host memory, found it on {}", op,
        name, to_string(tensor.device));
  check(tensor.data != nullptr || shape.numel() == 0, "{}: {} has no memory", op, name);
}

// A tensor [rows, size] of any sizes; returns nothing, throws unless it is one.
inline void check_table(const char* op, const char* name, const Tensor& tensor) {
  if (tensor.shape.rank() != 2) [[unlikely]]
    fail("{}: {} must have two axes, found {}", op, name, to_string(tensor.shape));
  check_tensor(op, name, tensor, tensor.dtype, tensor.shape);
}

}  // namespace lockstep::cpu
