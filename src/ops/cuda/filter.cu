// The threshold that top_k, top_p and min_p come to, exactly and without sorting: one block a row.
//
// Logits become integers that order as they do, and a radix select finds the largest one such that
// what is at least as large has together the mass that is asked for: 1 for each (top_k), or its
// probability in fixed point (top_p). Masses are integers, so their sums do not depend on the order
// in which threads add them.
#include <algorithm>
#include <cstdint>

#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/sampling.h"
#include "ops/sampling_keys.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / kWarp;
constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsPerWarp = kBins / kWarps;
static_assert(kBinsPerWarp == 2 * kWarp && kWarps == kWarp);
// The mass of the largest logit; 2^23 of these are still no overflow.
constexpr float kOne = 0x1p40f;

using Mass = unsigned long long;

struct Shared {
  // The bins' masses, in halves: shared memory adds 32 bits at once, but not 64.
  unsigned low[kBins];
  unsigned high[kBins];
  Mass warps[kWarps];
  std::uint32_t bin;
  Mass above;  // in bins above it
};

__device__ Mass mass_of_bin(const Shared& shared, int bin) {
  return Mass{shared.high[bin]} << 32 | shared.low[bin];
}

__device__ void add_to_bin(Shared& shared, std::uint32_t bin, Mass mass) {
  const auto low = static_cast<unsigned>(mass);
  auto high = static_cast<unsigned>(mass >> 32);
  const unsigned before = atomicAdd(&shared.low[bin], low);
  if (before + low < low) ++high;  // the sum went over: by exactly one of the threads
  if (high != 0) atomicAdd(&shared.high[bin], high);
}

__device__ std::uint32_t key_of(float value) {
  return sampling::ordered(__float_as_uint(__fadd_rn(value, 0.0f)));  // -0 + 0 is 0
}

__device__ Mass warp_sum_mass(Mass value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

__device__ Mass block_sum_mass(Shared& shared, Mass value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  value = warp_sum_mass(value);
  if (lane == 0) shared.warps[warp] = value;
  __syncthreads();
  value = warp_sum_mass(shared.warps[lane]);
  __syncthreads();
  return value;
}

__device__ float block_max(Shared& shared, float value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto warp_max = [](float x) {
    for (int offset = kWarp / 2; offset > 0; offset /= 2)
      x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, offset));
    return x;
  };
  value = warp_max(value);
  if (lane == 0) shared.warps[warp] = __float_as_uint(value);
  __syncthreads();
  value = warp_max(__uint_as_float(static_cast<unsigned>(shared.warps[lane])));
  __syncthreads();
  return value;
}

// Of one warp's lanes, each with the mass of a place, lane 31 the highest: the highest lane at
// which what lies above it, `above` included, comes to `target` together with itself; -1 if none
// does. `above` becomes what lies above that lane (or, if there is none, above and within all
// lanes).
__device__ int find_lane(Mass mass, Mass target, Mass& above, int lane) {
  Mass from = mass;  // of this lane and those above
  for (int offset = 1; offset < kWarp; offset *= 2) {
    const Mass other = __shfl_down_sync(kAllLanes, from, static_cast<unsigned>(offset));
    if (lane + offset < kWarp) from += other;
  }
  const unsigned reached = __ballot_sync(kAllLanes, above + from >= target);
  const int found = 31 - __clz(static_cast<int>(reached));  // -1 if reached is 0
  const Mass all = __shfl_sync(kAllLanes, from, 0);
  const Mass next = __shfl_sync(kAllLanes, from, (found + 1) % kWarp);
  above += found < 0 ? all : found == kWarp - 1 ? 0 : next;
  return found;
}

// Leaves in shared.bin the highest bin that, with all above it, comes to `target`, and in
// shared.above what is above it. There must be one.
__device__ void find_bin(Shared& shared, Mass target) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int own = warp * kBinsPerWarp + lane;
  const Mass sum = warp_sum_mass(mass_of_bin(shared, own) + mass_of_bin(shared, own + kWarp));
  if (lane == 0) shared.warps[warp] = sum;
  __syncthreads();
  if (warp == 0) {
    Mass above = 0;
    const int run = max(0, find_lane(shared.warps[lane], target, above, lane));
    int first = run * kBinsPerWarp + kWarp;  // the run's upper half, then its lower one
    int found = find_lane(mass_of_bin(shared, first + lane), target, above, lane);
    if (found < 0) {
      first -= kWarp;
      found = max(0, find_lane(mass_of_bin(shared, first + lane), target, above, lane));
    }
    if (lane == 0) {
      shared.bin = static_cast<std::uint32_t>(first + found);
      shared.above = above;
    }
  }
  __syncthreads();
}

// The largest value such that the values that are at least as large, and at least `lowest`, have
// together a mass of `target`, which is at least 1 and at most what all of them have.
template <typename MassOf>
__device__ float select(Shared& shared, const float* values, std::int64_t size, float lowest,
                        Mass target, MassOf mass_of) {
  std::uint32_t prefix = 0;  // the digits that are known
  int known = 0;             // their bits
  while (known < 32) {
    const int bits = min(kDigitBits, 32 - known);
    const int shift = 32 - known - bits;
    for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads)
      shared.low[i] = shared.high[i] = 0;
    __syncthreads();
    for (std::int64_t i = threadIdx.x; i < size; i += kThreads) {
      const float value = values[i];
      if (!(value >= lowest)) continue;
      const std::uint32_t key = key_of(value) >> shift;
      if (key >> bits != prefix) continue;
      add_to_bin(shared, key & ((1u << bits) - 1), mass_of(value));
    }
    __syncthreads();
    find_bin(shared, target);
    prefix = (prefix << bits) | shared.bin;
    target -= min(target, shared.above);
    known += bits;
  }
  return __uint_as_float(sampling::unordered(prefix));
}

__global__ void __launch_bounds__(kThreads)
    filter_thresholds_kernel(float* thresholds, const float* logits, std::int64_t size,
                             SamplingRows view) {
  begin_kernel();
  __shared__ Shared shared;
  const std::int64_t row = blockIdx.x;
  const float* values = logits + row * size;
  const std::int32_t slot = slot_of(view, row);
  const SlotSampling sampling = slot >= 0 ? view.parameters[slot] : SlotSampling{};
  float threshold = -INFINITY;
  const bool top_k = sampling.top_k > 0 && sampling.top_k < size;
  if (sampling.temperature > 0 && (top_k || sampling.top_p < 1 || sampling.min_p > 0)) {
    float largest = -INFINITY;
    for (std::int64_t i = threadIdx.x; i < size; i += kThreads) largest = fmaxf(largest, values[i]);
    largest = block_max(shared, largest);
    if (largest > -INFINITY) {
      if (sampling.min_p > 0)
        threshold = __fadd_rn(largest, __fmul_rn(sampling.temperature, logf(sampling.min_p)));
      if (top_k) {
        Mass kept = 0;
        for (std::int64_t i = threadIdx.x; i < size; i += kThreads) kept += values[i] >= threshold;
        kept = block_sum_mass(shared, kept);
        const auto wanted = static_cast<Mass>(sampling.top_k);
        if (wanted < kept)
          threshold =
              select(shared, values, size, threshold, wanted, [](float) { return Mass{1}; });
      }
      if (sampling.top_p < 1) {
        const auto mass_of = [&](float value) {
          const float weight =
              value == largest ? 1.0f
                               : expf(__fdiv_rn(__fsub_rn(value, largest), sampling.temperature));
          return static_cast<Mass>(__float2ull_rn(weight * kOne));
        };
        Mass total = 0;
        for (std::int64_t i = threadIdx.x; i < size; i += kThreads)
          if (values[i] >= threshold) total += mass_of(values[i]);
        total = block_sum_mass(shared, total);
        const double wanted = static_cast<double>(sampling.top_p) * __ull2double_rn(total);
        const Mass target = min(max(Mass{1}, static_cast<Mass>(ceil(wanted))), total);
        threshold = select(shared, values, size, threshold, target, mass_of);
      }
    }
  }
  if (threadIdx.x == 0) thresholds[row] = threshold;
}

}  // namespace

void CudaOps::filter_thresholds(const Tensor& thresholds, const Tensor& logits,
                                const SamplingView& view) {
  const char* op = "filter_thresholds";
  const SamplingRows rows = sampling_rows(op, view);
  check_table(op, "logits", logits);
  check_tensor(op, "logits", logits, DType::kFloat32, {view.rows, logits.shape[1]});
  check_tensor(op, "thresholds", thresholds, DType::kFloat32, {view.rows});
  check(logits.shape[1] <= std::int64_t{1} << 23, "{}: a vocabulary of {} is too large", op,
        logits.shape[1]);
  launch(stream_, filter_thresholds_kernel, view.rows, 1, 1, kThreads, thresholds.as<float>(),
         logits.as<const float>(), logits.shape[1], rows);
}

}  // namespace lockstep::cuda
