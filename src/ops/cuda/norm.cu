// RMS norm, with or without completing the residual stream first: one block a row. Element i
// belongs to thread (i / 4) % kThreads, which adds its squares in order; the threads' sums are
// added by block_sum(). So the order depends on nothing but the size.
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

template <bool kWide, typename T>
__device__ void store_step(T* row, std::int64_t i, std::int64_t size, const Pack<T, kStep>& pack) {
  if constexpr (kWide) {
    store_pack(row + i, pack);
  } else {
#pragma unroll
    for (int j = 0; j < kStep; ++j)
      if (i + j < size) row[i + j] = pack.values[j];
  }
}

struct NormArguments {
  float* stream;         // [rows, size]
  const float* partial;  // [rows, size] to be added to the stream first, or null
  const float* bias;     // [size] to be added as well, or null
  const float* weight;   // [size]
  void* out;             // [rows, size]
  std::int64_t size;
  float eps;
};

// The largest rows keep their elements in registers between the two passes.
constexpr int kMaxSteps = 4;

template <typename T, bool kWide>
__global__ void __launch_bounds__(kThreads) norm_kernel(const NormArguments arguments) {
  begin_kernel();
  const std::int64_t size = arguments.size, row = blockIdx.x * size;
  float* x = arguments.stream + row;
  T* out = static_cast<T*>(arguments.out) + row;
  const std::int64_t first = std::int64_t{threadIdx.x} * kStep;
  constexpr std::int64_t kStride = kThreads * kStep;
  Pack<float, kStep> kept[kMaxSteps];
  float sum = 0.0f;
  for (std::int64_t i = first, n = 0; i < size; i += kStride, ++n) {
    auto step = load_step<kWide>(x, i, size);
    if (arguments.partial) {
      const auto partial = load_step<kWide>(arguments.partial + row, i, size);
      const auto bias =
          arguments.bias ? load_step<kWide>(arguments.bias, i, size) : Pack<float, kStep>{};
#pragma unroll
      for (int j = 0; j < kStep; ++j)
        step.values[j] = __fadd_rn(step.values[j], __fadd_rn(partial.values[j], bias.values[j]));
      store_step<kWide>(x, i, size, step);
    }
#pragma unroll
    for (int j = 0; j < kStep; ++j) sum = fmaf(step.values[j], step.values[j], sum);
#pragma unroll
    for (int k = 0; k < kMaxSteps; ++k)
      if (k == n) kept[k] = step;
  }
  sum = block_sum<kThreads>(sum);
  const float scale = 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(size), arguments.eps));
  for (std::int64_t i = first, n = 0; i < size; i += kStride, ++n) {
    Pack<float, kStep> step;
    if (n < kMaxSteps) {
#pragma unroll
      for (int k = 0; k < kMaxSteps; ++k)
        if (k == n) step = kept[k];
    } else {
      step = load_step<kWide>(x, i, size);
    }
    const auto factor = load_step<kWide>(arguments.weight, i, size);
    Pack<T, kStep> result;
#pragma unroll
    for (int j = 0; j < kStep; ++j)
      result.values[j] = from_float<T>(step.values[j] * scale * factor.values[j]);
    store_step<kWide>(out, i, size, result);
  }
}

}  // namespace

// rms_norm and add_rms_norm; partial and bias may be null.
void CudaOps::norm(const char* op, const Tensor& out, const Tensor& stream, const Tensor* partial,
                   const Tensor* bias, const Tensor& weight, float eps) {
  check_table(op, "x", stream);
  const std::int64_t rows = stream.shape[0], size = stream.shape[1];
  check_tensor(op, "x", stream, DType::kFloat32, stream.shape);
  check_activation(op, "out", out, stream.shape);
  check_tensor(op, "weight", weight, DType::kFloat32, {size});
  if (partial) check_tensor(op, "partial", *partial, DType::kFloat32, stream.shape);
  if (bias) check_tensor(op, "bias", *bias, DType::kFloat32, {size});
  NormArguments arguments{};
  arguments.stream = stream.as<float>();
  arguments.partial = partial ? partial->as<const float>() : nullptr;
  arguments.bias = bias ? bias->as<const float>() : nullptr;
  arguments.weight = weight.as<const float>();
  arguments.out = out.data;
  arguments.size = size;
  arguments.eps = eps;
  const bool wide =
      size % kStep == 0 &&
      aligned({out.data, stream.data, arguments.partial, arguments.bias, weight.data}, 16);
  with_element_type(out.dtype, [&](auto element) {
    using T = decltype(element);
    launch(stream_, wide ? norm_kernel<T, true> : norm_kernel<T, false>, rows, 1, 1, kThreads,
           arguments);
  });
}

void CudaOps::rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) {
  norm("rms_norm", out, x, nullptr, nullptr, weight, eps);
}

void CudaOps::add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                           const Tensor* bias, const Tensor& weight, float eps) {
  norm("add_rms_norm", out, stream, &partial, bias, weight, eps);
}

}  // namespace lockstep::cuda
