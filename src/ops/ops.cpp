#include "ops/ops.h"

namespace lockstep {

OwnedTensor allocate_tensor(Ops& ops, Device device, DType dtype, const Shape& shape) {
  OwnedTensor owned;
  owned.tensor = Tensor{nullptr, dtype, shape, device};
  owned.buffer = ops.allocate(owned.tensor.bytes());
  owned.tensor.data = owned.buffer.data();
  return owned;
}

}  // namespace lockstep
