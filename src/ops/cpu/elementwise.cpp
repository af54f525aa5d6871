// The operations in which every element stands for itself.
#include "ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "ops/cpu/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::cpu::HWY_NAMESPACE {

HWY_INLINE Vector silu_multiply(Vector gate, Vector up) {
  const Vector one = hn::Set(Floats(), 1.0f);
  return hn::Mul(hn::Div(gate, hn::Add(one, exp(hn::Neg(gate)))), up);
}

void silu_multiply_row(const float* gate, const float* up, float* out, std::size_t size) {
  std::size_t i = 0;
  for (; i + kLanes <= size; i += kLanes)
    store(silu_multiply(load(gate + i), load(up + i)), out + i);
  if (i == size) return;
  float g[kLanes] = {}, u[kLanes] = {};
  std::copy(gate + i, gate + size, g);
  std::copy(up + i, up + size, u);
  store(silu_multiply(load(g), load(u)), g);
  std::copy(g, g + (size - i), out + i);
}

}  // namespace lockstep::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::cpu {
HWY_EXPORT(silu_multiply_row);

void CpuOps::silu_multiply(const Tensor& out, const Tensor& gate_up) {
  check_table("silu_multiply", "out", out);
  const std::int64_t rows = out.shape[0], size = out.shape[1];
  check_tensor("silu_multiply", "out", out, DType::kFloat32, out.shape);
  check_tensor("silu_multiply", "gate_up", gate_up, DType::kFloat32, {rows, 2 * size});
  const auto run = HWY_DYNAMIC_DISPATCH(silu_multiply_row);
  for (std::int64_t row = 0; row < rows; ++row) {
    const float* gate = gate_up.as<const float>() + row * 2 * size;
    run(gate, gate + size, out.as<float>() + row * size, static_cast<std::size_t>(size));
  }
}

void CpuOps::add(const Tensor& x, const Tensor& y) {
  check_table("add", "x", x);
  check_tensor("add", "x", x, DType::kFloat32, x.shape);
  const std::int64_t rows = x.shape[0], size = x.shape[1];
  const bool broadcast = y.shape.rank() == 1;
  check_tensor("add", "y", y, DType::kFloat32, broadcast ? Shape{size} : x.shape);
  for (std::int64_t row = 0; row < rows; ++row) {
    float* to = x.as<float>() + row * size;
    const float* from = y.as<const float>() + (broadcast ? 0 : row * size);
    for (std::int64_t i = 0; i < size; ++i) to[i] += from[i];
  }
}

}  // namespace lockstep::cpu
#endif  // HWY_ONCE
