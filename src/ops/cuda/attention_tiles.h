// The layout of the split-key attention for 16-bit caches, on tensor cores: a warp's block of the
// cache is one tile's worth of positions. Queries and weights, which are float32, become two 16-bit
// numbers each, of which the second is what the first one lacks; so 17 bits of them count (22 with
// float16).
//
// With g = lane / 4 and q = lane % 4, a lane holds of the keys positions g and g + 8, of each 32
// columns the eight from 8 q on, as linear() does of its weights; and of the values the positions
// from 4 q on, four of them, of each 64 columns the eight from 8 g on. Which column or position
// meets which slot of the instruction is free, as long as both operands agree.
#pragma once

#include <cstdint>

#include "ops/cuda/attention_split.h"
#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {
namespace {

// A pair of numbers as an operand holds it, and what those lack.
template <typename T>
struct TwoParts {
  std::uint32_t first, second;
  __device__ TwoParts(float a, float b) : first(pack_pair<T>(a, b)) {
    float rounded[2];
    unpack<T>(Pack<std::uint32_t, 1>{{first}}, rounded);
    second = pack_pair<T>(a - rounded[0], b - rounded[1]);
  }
};

template <typename T, int kItsHeadDim>
struct TileLayout {
  using Element = T;
  static constexpr int kHeadDim = kItsHeadDim;  // padded; a multiple of 64
  static constexpr bool kAtOnce = kHeadDim <= 128;

  struct KeyPlace {
    using Load = uint4;
    static constexpr int kSteps = kHeadDim / 32, kPieces = 2;
    static constexpr bool kAtOnce = TileLayout::kAtOnce;
    __device__ static int position(int, int half, int lane) { return lane / 4 + 8 * half; }
    __device__ static int element(int step, int, int lane) { return step * 32 + lane % 4 * 8; }
  };
  struct ValuePlace {
    using Load = uint4;
    static constexpr int kSteps = kHeadDim / 64, kPieces = 4;
    static constexpr bool kAtOnce = TileLayout::kAtOnce;
    __device__ static int position(int, int i, int lane) { return lane % 4 * kPieces + i; }
    __device__ static int element(int step, int, int lane) { return step * 64 + lane / 4 * 8; }
  };
  using Keys = BlockReader<T, KeyPlace>;
  using Values = BlockReader<T, ValuePlace>;

  // Both parts of each query, one after the other. Rows lie apart so that eight lanes that read at
  // the same time meet different banks.
  template <int kQueries>
  struct Queries {
    static constexpr int kColumns = 2 * kQueries;
    alignas(16) T parts[kColumns][kHeadDim + 32];
    __device__ void store(int query, int d, float value) {
      const T rounded = from_float<T>(value);
      parts[2 * query][d] = rounded;
      parts[2 * query + 1][d] = from_float<T>(value - to_float(rounded));
    }
  };
};

template <typename T, int kHeadDim, int kQueries>
__device__ void score(Shared<TileLayout<T, kHeadDim>, kQueries>& shared,
                      const typename TileLayout<T, kHeadDim>::Keys& keys, int warp, int lane) {
  const int g = lane / 4, q = lane % 4;
  float d[4] = {};  // positions g and g + 8, both parts of query q
#pragma unroll
  for (int step = 0; step < kHeadDim / 32; ++step) {
    const uint4 upper = keys.get(step, 0, lane), lower = keys.get(step, 1, lane);
    uint4 query{};
    if (g < 2 * kQueries)
      query = *reinterpret_cast<const uint4*>(&shared.queries.parts[g][step * 32 + q * 8]);
    multiply_tile<T>(d, {upper.x, lower.x, upper.y, lower.y}, query.x, query.y);
    multiply_tile<T>(d, {upper.z, lower.z, upper.w, lower.w}, query.z, query.w);
  }
  const float scores[2] = {keys.block.sees(g) ? __fadd_rn(d[0], d[1]) : -INFINITY,
                           keys.block.sees(g + 8) ? __fadd_rn(d[2], d[3]) : -INFINITY};
  float largest = fmaxf(scores[0], scores[1]);
#pragma unroll
  for (int bit = kWarp / 2; bit >= 4; bit /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, bit));
  if (q >= kQueries) return;
  shared.weights[warp][q][g] = scores[0];
  shared.weights[warp][q][g + 8] = scores[1];
  if (g == 0) shared.largest[warp][q] = largest;
}

template <typename T, int kHeadDim, int kQueries>
__device__ void add_values(Shared<TileLayout<T, kHeadDim>, kQueries>& shared,
                           const typename TileLayout<T, kHeadDim>::Values& values, int warp,
                           int lane) {
  const int g = lane / 4, q = lane % 4;
  float4 w{};  // of query g, positions 4 q to 4 q + 3
  if (g < kQueries) w = *reinterpret_cast<const float4*>(&shared.weights[warp][g][q * 4]);
  const TwoParts<T> xy(w.x, w.y), zw(w.z, w.w);
  const std::uint32_t weights[4] = {xy.first, xy.second, zw.first, zw.second};
#pragma unroll
  for (int step = 0; step < kHeadDim / 64; ++step) {
    const uint4 loads[4] = {values.get(step, 0, lane), values.get(step, 1, lane),
                            values.get(step, 2, lane), values.get(step, 3, lane)};
    float sums[2][8];  // columns 64 step + 16 q and + 8 on
#pragma unroll
    for (int column = 0; column < 8; ++column) {
      const auto word = [&](int i) {
        const uint4& load = loads[i];
        return column / 2 == 0   ? load.x
               : column / 2 == 1 ? load.y
               : column / 2 == 2 ? load.z
                                 : load.w;
      };
      const unsigned halves = column % 2 == 0 ? 0x5410 : 0x7632;
      float d[4] = {};
      multiply_tile<T>(d, weights, __byte_perm(word(0), word(1), halves),
                       __byte_perm(word(2), word(3), halves));
      sums[0][column] = __fadd_rn(d[0], d[2]);
      sums[1][column] = __fadd_rn(d[1], d[3]);
    }
    if (g >= kQueries) continue;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float* from = sums[i / 2] + i % 2 * 4;
      *reinterpret_cast<float4*>(&shared.sums[warp][g][step * 64 + q * 16 + i * 4]) = {
          from[0], from[1], from[2], from[3]};
    }
  }
}

}  // namespace
}  // namespace lockstep::cuda
