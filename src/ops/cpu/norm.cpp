#include "ops/cpu/norm.h"

#include "ops/cpu/checks.h"
#include "ops/cpu/cpu_ops.h"

namespace lockstep::cpu {

void CpuOps::add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                          const Tensor* bias, const Tensor& weight, float eps) {
  if (bias) add(partial, *bias);
  add(stream, partial);
  rms_norm(out, stream, weight, eps);
}

void CpuOps::rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) {
  check_table("rms_norm", "x", x);
  const std::int64_t rows = x.shape[0], size = x.shape[1];
  check_tensor("rms_norm", "x", x, DType::kFloat32, x.shape);
  check_tensor("rms_norm", "out", out, DType::kFloat32, x.shape);
  check_tensor("rms_norm", "weight", weight, DType::kFloat32, {size});
  for (std::int64_t row = 0; row < rows; ++row)
    normalize(out.as<float>() + row * size, x.as<const float>() + row * size,
              weight.as<const float>(), static_cast<std::size_t>(size), eps);
}

}  // namespace lockstep::cpu
