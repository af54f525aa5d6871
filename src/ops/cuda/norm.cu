// RMS norm: one block a row. Element i belongs to thread (i / 4) % kThreads, which adds its squares
// in order; the threads' sums are added by block_sum(). So the order depends on nothing but the
// size.
#include "ops/cuda/checks.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kStep = 4;

// Elements [i, i+4) of a row, zeros behind its end; kWide: the row has them and they are aligned.
template <bool kWide>
__device__ Pack<float, kStep> load_step(const float* row, std::int64_t i, std::int64_t size) {
  if constexpr (kWide) {
    return load_pack<float, kStep>(row + i);
  } else {
    Pack<float, kStep> pack;
#pragma unroll
    for (int j = 0; j < kStep; ++j) pack.values[j] = i + j < size ? row[i + j] : 0.0f;
    return pack;
  }
}

template <typename T, bool kWide>
__global__ void __launch_bounds__(kThreads)
    rms_norm_kernel(T* out, const float* x, const float* weight, std::int64_t size, float eps) {
  begin_kernel();
  x += blockIdx.x * size;
  out += blockIdx.x * size;
  const std::int64_t first = std::int64_t{threadIdx.x} * kStep;
  float sum = 0.0f;
  for (std::int64_t i = first; i < size; i += kThreads * kStep) {
    const auto step = load_step<kWide>(x, i, size);
#pragma unroll
    for (int j = 0; j < kStep; ++j) sum = fmaf(step.values[j], step.values[j], sum);
  }
  sum = block_sum<kThreads>(sum);
  const float scale = 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(size), eps));
  for (std::int64_t i = first; i < size; i += kThreads * kStep) {
    const auto step = load_step<kWide>(x, i, size);
    const auto factor = load_step<kWide>(weight, i, size);
    Pack<T, kStep> result;
#pragma unroll
    for (int j = 0; j < kStep; ++j)
      result.values[j] = from_float<T>(step.values[j] * scale * factor.values[j]);
    if constexpr (kWide) {
      store_pack(out + i, result);
    } else {
#pragma unroll
      for (int j = 0; j < kStep; ++j)
        if (i + j < size) out[i + j] = result.values[j];
    }
  }
}

}  // namespace

void CudaOps::rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) {
  check_table("rms_norm", "x", x);
  const std::int64_t rows = x.shape[0], size = x.shape[1];
  check_tensor("rms_norm", "x", x, DType::kFloat32, x.shape);
  check_activation("rms_norm", "out", out, x.shape);
  check_tensor("rms_norm", "weight", weight, DType::kFloat32, {size});
  const bool wide = size % kStep == 0 && aligned({out.data, x.data, weight.data}, 16);
  with_element_type(out.dtype, [&](auto element) {
    using T = decltype(element);
    launch(stream_, wide ? rms_norm_kernel<T, true> : rms_norm_kernel<T, false>, rows, 1, 1,
           kThreads, out.as<T>(), x.as<const float>(), weight.as<const float>(), size, eps);
  });
}

}  // namespace lockstep::cuda
