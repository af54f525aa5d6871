// What a block of the split-key attention does with one split: scores, weights, and the weighted
// sum of values, each warp on the 16 positions of one block of the cache. In two layouts: on tensor
// cores (attention_tiles.h), and the one here, for float32 and for sizes that those do not take.
// For attention.cu alone.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/cuda/element.h"
#include "ops/ops.h"

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlock = static_cast<int>(kKvBlockSize);
constexpr int kSplit = kWarps * kBlock;

// The elements of type T in some words.
template <typename T, int kWords>
__device__ void unpack(const Pack<std::uint32_t, kWords>& words, float* elements) {
#pragma unroll
  for (int i = 0; i < kWords; ++i) {
    const std::uint32_t word = words.values[i];
    if constexpr (std::is_same_v<T, float>) {
      elements[i] = __uint_as_float(word);
    } else if constexpr (std::is_same_v<T, BFloat16>) {
      elements[2 * i] = __uint_as_float(word << 16);
      elements[2 * i + 1] = __uint_as_float(word & 0xffff0000u);
    } else {
      elements[2 * i] = to_float(__ushort_as_half(static_cast<unsigned short>(word)));
      elements[2 * i + 1] = to_float(__ushort_as_half(static_cast<unsigned short>(word >> 16)));
    }
  }
}

// A warp's part of the keys or values of a split: a block of the cache.
template <typename T>
struct CacheBlock {
  const T* data;
  int first;  // the visible ones of its positions; none if last < first
  int last;
  int newest;  // one that is not in the cache yet, or -1
  int head_dim;

  __device__ bool sees(int position) const { return position >= first && position <= last; }

  // A position's elements from d on, from the cache.
  __device__ const T* at(int position, int d) const { return data + (position * head_dim + d); }
  // Whether they are there, and in sight.
  __device__ bool has(int position, int d) const {
    return sees(position) && position != newest && d < head_dim;
  }
};

// A lane's loads of a CacheBlock, early or late: kPieces in each of kSteps steps. Place says from
// which of the block's positions each is, and from which element of the head on.
template <typename T, typename Place>
struct BlockReader {
  using Load = typename Place::Load;
  static constexpr int kSteps = Place::kSteps, kPieces = Place::kPieces;
  static constexpr bool kAtOnce = Place::kAtOnce;  // all early, else each when it is used

  CacheBlock<T> block;
  Load loads[kAtOnce ? kSteps : 1][kPieces];

  __device__ Load load(int step, int piece, int lane) const {
    const int position = Place::position(step, piece, lane), d = Place::element(step, piece, lane);
    return block.has(position, d) ? *reinterpret_cast<const Load*>(block.at(position, d)) : Load{};
  }

  __device__ void start(const CacheBlock<T>& from, int lane) {
    block = from;
    if constexpr (kAtOnce) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step)
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece) loads[step][piece] = load(step, piece, lane);
    }
  }

  // Puts in a position's key or value.
  __device__ void complete(int position, const T* head, int lane) {
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int piece = 0; piece < kPieces; ++piece)
        if (Place::position(step, piece, lane) == position)
          loads[step][piece] =
              *reinterpret_cast<const Load*>(head + Place::element(step, piece, lane));
  }

  __device__ Load get(int step, int piece, int lane) const {
    return kAtOnce ? loads[kAtOnce ? step : 0][piece] : load(step, piece, lane);
  }
};

// How a warp reads the 16 keys (or values) of a block of the cache: kLanes lanes hold one of them
// in kChunks loads of kWidth elements each.
template <typename T, int kWidth, int kLanes, int kChunks>
struct Layout {
  using Element = T;
  // Words, not elements: they are unpacked when they are used.
  static constexpr int kWords = kWidth * static_cast<int>(sizeof(T)) / 4;
  using Load = Pack<std::uint32_t, kWords>;
  static constexpr int kKeysAtOnce = kWarp / kLanes;
  static constexpr int kSteps = kBlock / kKeysAtOnce;
  static constexpr int kHeadDim = kWidth * kLanes * kChunks;  // padded
  static constexpr int kElements = kWidth * kChunks;          // of a head, in one lane
  static constexpr int kPieces = kChunks;
  static constexpr bool kAtOnce = kSteps * kChunks * kWords <= 32;
  static constexpr int kUnroll = kAtOnce ? kSteps : 4;  // of loops over steps

  // Which element of a head a lane's element e is.
  __device__ static int place(int e, int lane) {
    return (e / kWidth * kLanes + lane % kLanes) * kWidth + e % kWidth;
  }
  __device__ static int position(int step, int, int lane) {
    return step * kKeysAtOnce + lane / kLanes;
  }
  __device__ static int element(int, int chunk, int lane) { return place(chunk * kWidth, lane); }

  struct Reader : BlockReader<T, Layout> {
    __device__ void read(int step, int lane, float (&elements)[kElements]) const {
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk)
        unpack<T>(this->get(step, chunk, lane), elements + chunk * kWidth);
    }
  };
  using Keys = Reader;
  using Values = Reader;

  // A block's queries.
  template <int kQueries>
  struct Queries {
    alignas(16) float values[kQueries][kHeadDim];
    __device__ void store(int query, int d, float value) { values[query][d] = value; }
  };
};

// A block's shared memory: up to kQueries queries at a time.
template <typename L, int kQueries>
struct Shared {
  typename L::template Queries<kQueries> queries;
  alignas(16) float sums[kWarps][kQueries][L::kHeadDim];  // of weighted values
  alignas(16) float weights[kWarps][kQueries][kBlock];    // first the scores
  float largest[kWarps][kQueries];
  float totals[kWarps][kQueries];  // of weights
  // The row's own, with zeros behind its end.
  alignas(16) typename L::Element key[L::kHeadDim];
  alignas(16) typename L::Element value[L::kHeadDim];
  unsigned launch;  // its number
};

template <typename L, int kQueries>
__device__ float largest_score(const Shared<L, kQueries>& shared, int query) {
  float largest = shared.largest[0][query];
#pragma unroll
  for (int warp = 1; warp < kWarps; ++warp) largest = fmaxf(largest, shared.largest[warp][query]);
  return largest;
}

// The scores of the warp's positions, -infinity for those out of sight, and the largest of each
// query.
template <typename T, int kWidth, int kLanes, int kChunks, int kQueries>
__device__ void score(Shared<Layout<T, kWidth, kLanes, kChunks>, kQueries>& shared,
                      const typename Layout<T, kWidth, kLanes, kChunks>::Keys& keys, int warp,
                      int lane) {
  using L = Layout<T, kWidth, kLanes, kChunks>;
  constexpr int kElements = L::kElements;
  float queries[kQueries][kElements];
#pragma unroll
  for (int query = 0; query < kQueries; ++query)
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      queries[query][e] = shared.queries.values[query][L::place(e, lane)];
  float largest[kQueries];
#pragma unroll
  for (int query = 0; query < kQueries; ++query) largest[query] = -INFINITY;
#pragma unroll(L::kUnroll)
  for (int step = 0; step < L::kSteps; ++step) {
    float key[kElements];
    keys.read(step, lane, key);
    const int position = step * L::kKeysAtOnce + lane / kLanes;
    const bool sees = keys.block.sees(position);
#pragma unroll
    for (int query = 0; query < kQueries; ++query) {
      float dot = 0.0f;
#pragma unroll
      for (int e = 0; e < kElements; ++e) dot = fmaf(queries[query][e], key[e], dot);
      dot = warp_sum<kLanes>(dot);
      const float value = sees ? dot : -INFINITY;
      largest[query] = fmaxf(largest[query], value);
      if (lane % kLanes == 0) shared.weights[warp][query][position] = value;
    }
  }
#pragma unroll
  for (int query = 0; query < kQueries; ++query) {
#pragma unroll
    for (int offset = kWarp / 2; offset >= kLanes; offset /= 2)
      largest[query] = fmaxf(largest[query], __shfl_xor_sync(kAllLanes, largest[query], offset));
    if (lane == 0) shared.largest[warp][query] = largest[query];
  }
}

// The warp's scores become weights, exp(score - the split's largest), and their totals.
template <typename L, int kQueries>
__device__ void soften(Shared<L, kQueries>& shared, int warp, int lane) {
#pragma unroll
  for (int first = 0; first < kQueries * kBlock; first += kWarp) {
    const int query = (first + lane) / kBlock, position = (first + lane) % kBlock;
    float weight = 0.0f;
    if (query < kQueries) {
      float& value = shared.weights[warp][query][position];
      if (value != -INFINITY) weight = expf(value - largest_score(shared, query));
      value = weight;
    }
    weight = warp_sum<kBlock>(weight);
    if (query < kQueries && position == 0) shared.totals[warp][query] = weight;
  }
  __syncwarp();
}

// The warp's weighted sum of values.
template <typename T, int kWidth, int kLanes, int kChunks, int kQueries>
__device__ void add_values(Shared<Layout<T, kWidth, kLanes, kChunks>, kQueries>& shared,
                           const typename Layout<T, kWidth, kLanes, kChunks>::Values& values,
                           int warp, int lane) {
  using L = Layout<T, kWidth, kLanes, kChunks>;
  constexpr int kElements = L::kElements;
  float sums[kQueries][kElements] = {};
#pragma unroll(L::kUnroll)
  for (int step = 0; step < L::kSteps; ++step) {
    float value[kElements];
    values.read(step, lane, value);
    const int position = step * L::kKeysAtOnce + lane / kLanes;
#pragma unroll
    for (int query = 0; query < kQueries; ++query) {
      const float weight = shared.weights[warp][query][position];
#pragma unroll
      for (int e = 0; e < kElements; ++e) sums[query][e] = fmaf(weight, value[e], sums[query][e]);
    }
  }
#pragma unroll
  for (int query = 0; query < kQueries; ++query)
#pragma unroll
    for (int e = 0; e < kElements; ++e) {
      float& sum = sums[query][e];
#pragma unroll
      for (int offset = kWarp / 2; offset >= kLanes; offset /= 2)
        sum = __fadd_rn(sum, __shfl_xor_sync(kAllLanes, sum, offset));
      if (lane < kLanes) shared.sums[warp][query][L::place(e, lane)] = sum;
    }
}

}  // namespace
}  // namespace lockstep::cuda
