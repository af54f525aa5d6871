#include "ops/ops.h"

namespace lockstep {

OwnedTensor allocate_tensor(Ops& ops, Device device, DType dtype, const Shape& shape) {
  OwnedTensor owned;
  owned.tensor = Tensor{nullptr, dtype, shape, device};
  owned.buffer = ops.allocate(owned.tensor.bytes());
  owned.tensor.data = owned.buffer.data();
  return owned;
}

void Ops::all_reduce_add_rms_norm(Comm& comm, const Tensor& out, const Tensor& stream,
                                  const Tensor& partial, const Tensor* bias, const Tensor& weight,
                                  float eps) {
  comm.all_reduce(partial);
  add_rms_norm(out, stream, partial, bias, weight, eps);
}

}  // namespace lockstep
