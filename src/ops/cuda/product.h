// What the kernels of linear() have in common: a product of few rows in the shape of the canonical
// sum, on tensor cores.
//
// The features are dealt out to sets of warps, as evenly as possible, once for the whole kernel; a
// set works through its share in groups of panels, each warp on its leaf.
//
// A lane's 16 bytes of a weight row are eight neighbouring columns; it uses them as its share of
// two tensor-core tiles, and reads the inputs at the same columns: which column meets which slot of
// the instruction is the same for both operands. The order of a leaf's sum is the instruction's,
// step after step.
#pragma once

#include <cstdint>

#include "comm/cuda/peer_exchange.h"
#include "ops/cuda/barrier.h"
#include "ops/cuda/element.h"
#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {

// What becomes of a row's product.
enum class Result {
  kStored,     // as float32
  kGated,      // the weight's first half are gates, the second what they are for: silu(gate) * up
  kExchanged,  // sent to all ranks, as one rank's share of a sum
};

namespace {

constexpr int kWarps = 8;  // of a CTA: one for each leaf, of one set of features or of several
constexpr int kThreads = kWarps * kWarp;
constexpr int kPanel = 16;    // weight rows of one tensor-core tile
constexpr int kTileRows = 8;  // input rows of one tensor-core tile
constexpr int kStep = 32;     // columns that a warp multiplies at a time: two tiles' worth

struct LinearArguments {
  void* out;              // [rows, features]; float32, or T where it is gated
  const void* x;          // [rows, in_features]
  const void* weight;     // [out_features, leading dimension]
  const float* bias;      // [out_features] or null
  std::int64_t features;  // with gates: half the weight's
  std::int64_t in_features;
  std::int64_t leading;  // elements between weight rows
  int rows;
  std::int64_t first_row;  // of the exchange
  int leaves;
  int leaf_size;  // columns
  // Sets of warps: the first `larger_sets` have one feature more.
  int set_features;
  int larger_sets;
};

// The canonical tree over `leaves` (a power of two) sums that lie `stride` floats apart.
__device__ inline float sum_leaves(const float* sums, int leaves, int stride) {
  float values[kWarps];
#pragma unroll
  for (int i = 0; i < kWarps; ++i) values[i] = i < leaves ? sums[i * stride] : 0.0f;
#pragma unroll
  for (int width = 1; width < kWarps; width *= 2)
#pragma unroll
    for (int i = 0; i + width < kWarps; i += 2 * width)
      if (i + width < leaves) values[i] += values[i + width];
  return values[0];
}

// One step: kStep columns of a panel times those of all tiles.
template <typename T, int kTiles>
__device__ void multiply_step(float (&d)[kTiles][4], const uint4& upper, const uint4& lower,
                              const uint4 (&inputs)[kTiles]) {
  const std::uint32_t first[4] = {upper.x, lower.x, upper.y, lower.y};
  const std::uint32_t second[4] = {upper.z, lower.z, upper.w, lower.w};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
    multiply_tile<T>(d[tile], first, inputs[tile].x, inputs[tile].y);
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile)
    multiply_tile<T>(d[tile], second, inputs[tile].z, inputs[tile].w);
}

// For the kThreads threads that multiply.
__device__ inline void sync_multipliers() { sync_threads<1, kThreads>(); }

// One warp's place in the work.
struct Share {
  int warp, lane;
  int sets;  // of the CTA
  std::int64_t first_set;
  std::int64_t begin;  // the set's first feature
  int features;        // of the set
  std::int64_t first_column;

  __device__ Share(const LinearArguments& a, int its_warp)
      : warp(its_warp),
        lane(static_cast<int>(threadIdx.x) % kWarp),
        sets(kWarps / a.leaves),
        first_set(std::int64_t{blockIdx.x} * sets),
        begin(begin_of(a, first_set + warp / a.leaves)),
        features(static_cast<int>(begin_of(a, first_set + warp / a.leaves + 1) - begin)),
        first_column(std::int64_t{warp % a.leaves} * a.leaf_size) {}

  static __device__ std::int64_t begin_of(const LinearArguments& a, std::int64_t set) {
    return set * a.set_features + min(set, std::int64_t{a.larger_sets});
  }
};

// With two bits exchanged, 0 and `bit`.
__device__ constexpr int swap_bits(int number, int bit) {
  const int differ = (number ^ number >> bit) & 1;
  return number ^ (differ | differ << bit);
}

// What a lane's sums are of, in each tensor-core tile: of a panel's rows `feature` and feature + 8,
// of a tile's rows `first` and `second`. Which row is where in a tile does not matter to its sums.
struct LaneSums {
  int feature;
  int first, second;
};

// A group of kPanels panels, for up to kRows rows.
template <int kMaxRows, int kNumPanels, Result kItsResult>
struct Group {
  static constexpr Result kResult = kItsResult;
  static constexpr int kRows = kMaxRows;  // 1 or a multiple of kTileRows
  static constexpr int kPanels = kNumPanels;
  static constexpr int kTiles = (kRows + kTileRows - 1) / kTileRows;
  // With gates, a panel has eight of them and what they are for.
  static constexpr int kPanelFeatures = kResult == Result::kGated ? kPanel / 2 : kPanel;
  static constexpr int kFeatures = kPanels * kPanelFeatures;
  static constexpr int kSumStride = kRows == 1 ? 1 : kRows + 1;
  // Panels that are finished together: there is no room for many at once.
  static constexpr int kSumPanels = kRows <= kTileRows ? (kPanels < 2 ? kPanels : 2) : 1;
  static constexpr int kWarpSums = kSumPanels * kPanel * kSumStride;
  // Small ones are kept for two groups, which saves a barrier.
  static constexpr int kSumBuffers = kRows == 1 ? 2 : 1;
  static constexpr std::size_t kSumBytes =
      std::size_t{kSumBuffers} * kWarps * kWarpSums * sizeof(float);

  static __device__ int count(const LinearArguments& a) {
    return (a.set_features + (a.larger_sets > 0) + kFeatures - 1) / kFeatures;
  }

  // Panels of the group, of the larger sets.
  static __device__ int panels(const LinearArguments& a, int group) {
    if (kPanels == 1) return 1;  // no group is empty
    const int features = a.set_features + (a.larger_sets > 0) - group * kFeatures;
    return min(kPanels, (features + kPanelFeatures - 1) / kPanelFeatures);
  }

  // Adds up the leaves of the CTA's `group`-th groups and brings the sums where they belong. A
  // thread's d[panel][tile] is its share of a tensor-core tile.
  template <typename T>
  static __device__ void finish(const LinearArguments& a, const Share& share,
                                const ResidualExchange& exchange, std::uint32_t number, int group,
                                const LaneSums& of_lane, const float (&d)[kPanels][kTiles][4],
                                float* sums) {
    sums += group % kSumBuffers * (kWarps * kWarpSums);
    const int num_panels = panels(a, group);
#pragma unroll
    for (int first_panel = 0; first_panel < kPanels; first_panel += kSumPanels) {
      if (first_panel >= num_panels) break;
      // The last ones were read.
      if (kSumBuffers == 1 && (group > 0 || first_panel > 0)) sync_multipliers();
#pragma unroll
      for (int panel = 0; panel < kSumPanels; ++panel)
#pragma unroll
        for (int tile = 0; tile < kTiles; ++tile) {
          float* to = sums + share.warp * kWarpSums +
                      (panel * kPanel + of_lane.feature) * kSumStride + tile * kTileRows;
          const float(&sum)[4] = d[first_panel + panel][tile];
          if (kRows > 1) {
            to[of_lane.first] = sum[0];
            to[of_lane.second] = sum[1];
            to[8 * kSumStride + of_lane.first] = sum[2];
            to[8 * kSumStride + of_lane.second] = sum[3];
          } else if (of_lane.first == 0) {
            to[0] = sum[0];
            to[8 * kSumStride] = sum[2];
          }
        }
      sync_multipliers();
      add_leaves<T>(a, share, exchange, number, group * kFeatures + first_panel * kPanelFeatures,
                    group, sums);
    }
  }

 private:
  // The same for kSumPanels panels of each set, from its `first_feature` on.
  template <typename T>
  static __device__ void add_leaves(const LinearArguments& a, const Share& share,
                                    const ResidualExchange& exchange, std::uint32_t number,
                                    int first_feature, int group, const float* sums) {
    constexpr int kSetFeatures = kSumPanels * kPanelFeatures;
    const int features = share.sets * kSetFeatures;
    // Warps take turns, so that one row does not hold up the same one always.
    const int first = (static_cast<int>(threadIdx.x) + group * kWarp) % kThreads;
    for (int i = first; i < features * a.rows; i += kThreads) {
      const int row = kRows == 1 ? 0 : i / features, of_row = i - row * features;
      const int set = of_row / kSetFeatures, in_set = of_row % kSetFeatures;
      const std::int64_t feature =
          Share::begin_of(a, share.first_set + set) + first_feature + in_set;
      if (feature >= Share::begin_of(a, share.first_set + set + 1)) continue;
      const int panel = in_set / kPanelFeatures, in_panel = in_set % kPanelFeatures;
      const float* leaves =
          sums + set * a.leaves * kWarpSums + (panel * kPanel + in_panel) * kSumStride + row;
      float sum = sum_leaves(leaves, a.leaves, kWarpSums);
      if (a.bias) sum += a.bias[feature];
      if constexpr (kResult == Result::kGated) {
        float up = sum_leaves(leaves + kPanelFeatures * kSumStride, a.leaves, kWarpSums);
        if (a.bias) up += a.bias[a.features + feature];
        static_cast<T*>(a.out)[row * a.features + feature] = from_float<T>(silu_multiply(sum, up));
      } else if constexpr (kResult == Result::kExchanged) {
        send_partial(exchange, (a.first_row + row) * a.features + feature, sum, number);
      } else {
        static_cast<float*>(a.out)[row * a.features + feature] = sum;
      }
    }
  }
};

// The number of the exchange that this kernel's results are for.
template <Result kResult>
__device__ std::uint32_t begin_exchange(const ResidualExchange& exchange) {
  if constexpr (kResult != Result::kExchanged) return 0;
  return next_exchange<kThreads>(exchange);
}

}  // namespace
}  // namespace lockstep::cuda
