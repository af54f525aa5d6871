// The one order in which squares are summed and 16 lanes are folded into one number.
#pragma once

#include <cmath>
#include <cstddef>

namespace lockstep::cpu {

// ((0+8)+(4+12)) + ... : halves are added until one number is left.
inline float sum_lanes(float (&lanes)[16]) {
  for (std::size_t half = 8; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. Element i is squared into lane i % 16. x may
// be out. Plain C++: 16 lanes vectorise on any machine, and nothing in it is fused.
inline void normalize(float* out, const float* x, const float* weight, std::size_t size,
                      float eps) {
  float lanes[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= size; i += 16)
    for (std::size_t lane = 0; lane < 16; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  for (std::size_t lane = 0; i + lane < size; ++lane) lanes[lane] += x[i + lane] * x[i + lane];
  const float mean = sum_lanes(lanes) / static_cast<float>(size);
  const float scale = 1.0f / std::sqrt(mean + eps);
  for (i = 0; i < size; ++i) out[i] = x[i] * scale * weight[i];
}

}  // namespace lockstep::cpu
