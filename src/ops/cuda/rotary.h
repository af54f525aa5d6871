// Rotary position embedding of one head by one warp, for the kernels that need it: they have the
// same bits.
#pragma once

#include "ops/cuda/checks.h"
#include "ops/cuda/element.h"

namespace lockstep::cuda {

inline constexpr int kMaxRotaryDim = 256;

inline void check_rotary(const char* op, const AttentionShape& shape,
                         const Tensor& inverse_frequencies, const Tensor* q_norm,
                         const Tensor* k_norm) {
  check(shape.head_dim <= kMaxRotaryDim, "{}: heads of {} are too large for the GPU, at most {}",
        op, shape.head_dim, kMaxRotaryDim);
  check_tensor(op, "inverse_frequencies", inverse_frequencies, DType::kFloat32,
               {shape.head_dim / 2});
  if (q_norm != nullptr) check_tensor(op, "q_norm", *q_norm, DType::kFloat32, {shape.head_dim});
  if (k_norm != nullptr) check_tensor(op, "k_norm", *k_norm, DType::kFloat32, {shape.head_dim});
}

// By how much a position turns a lane's kPairs pairs.
template <int kPairs>
struct RotaryAngles {
  float sine[kPairs], cosine[kPairs];

  __device__ RotaryAngles(int position, const float* inverse_frequencies, int lane, int half) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + j * kWarp;
      if (i >= half) break;
      // The angle is a float32 product, as on the CPU.
      sincosf(__fmul_rn(static_cast<float>(position), inverse_frequencies[i]), &sine[j],
              &cosine[j]);
    }
  }
};

// A head of 2 * half elements: a lane's j-th pair is (i, i + half), i = lane + 32 j.
template <int kPairs>
struct RotaryHead {
  float a[kPairs], b[kPairs];

  __device__ RotaryHead(const float* data, int lane, int half) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + j * kWarp;
      a[j] = i < half ? data[i] : 0.0f;
      b[j] = i < half ? data[i + half] : 0.0f;
    }
  }

  // x / sqrt(mean(x^2) + eps) * weight. A lane adds its squares in order, pairs' first elements
  // first; then lanes are added.
  __device__ void normalize(const float* weight, int lane, int half, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) sum = fmaf(b[j], b[j], fmaf(a[j], a[j], sum));
    sum = warp_sum(sum);
    const float scale = 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(2 * half), eps));
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + j * kWarp;
      if (i >= half) break;
      a[j] = a[j] * scale * weight[i];
      b[j] = b[j] * scale * weight[i + half];
    }
  }

  __device__ void rotate(const RotaryAngles<kPairs>& by) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const float x = a[j], y = b[j];
      a[j] = __fsub_rn(__fmul_rn(x, by.cosine[j]), __fmul_rn(y, by.sine[j]));
      b[j] = __fadd_rn(__fmul_rn(y, by.cosine[j]), __fmul_rn(x, by.sine[j]));
    }
  }

  // Calls f(i, element i) for every element of the lane.
  template <typename Function>
  __device__ void for_each(int lane, int half, Function&& f) const {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int i = lane + j * kWarp;
      if (i >= half) break;
      f(i, a[j]);
      f(i + half, b[j]);
    }
  }
};

}  // namespace lockstep::cuda
