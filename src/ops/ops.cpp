#include "ops/ops.h"

namespace lockstep {

OwnedTensor allocate_tensor(Ops& ops, Device device, DType dtype, const Shape& shape) {
  OwnedTensor owned;
  owned.tensor = Tensor{nullptr, dtype, shape, device};
  owned.buffer = ops.allocate(owned.tensor.bytes());
  owned.tensor.data = owned.buffer.data();
  return owned;
}

void Ops::gated_linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias,
                       const Tensor& gate_up) {
  linear(gate_up, x, weight, bias);
  silu_multiply(out, gate_up);
}

void Ops::rotary_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                           const Tensor& inverse_frequencies, const Tensor* q_norm,
                           const Tensor* k_norm, float eps, const KvLayer& cache,
                           const BatchView& batch) {
  rope_and_cache(qkv, shape, inverse_frequencies, q_norm, k_norm, eps, cache, batch);
  attention(out, qkv, shape, cache, batch);
}

void Ops::partial_linear(Comm&, const Tensor& partial, const Tensor& x, const Matrix& weight) {
  linear(partial, x, weight);
}

void Ops::all_reduce_add_rms_norm(Comm& comm, const Tensor& out, const Tensor& stream,
                                  const Tensor& partial, const Tensor* bias, const Tensor& weight,
                                  float eps) {
  comm.all_reduce(partial);
  add_rms_norm(out, stream, partial, bias, weight, eps);
}

}  // namespace lockstep
