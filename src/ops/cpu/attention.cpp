// Attention over the paged cache. The queries of a tile (the query heads that share a KV head, of
// rows that follow each other in one sequence) go through the cache together, but each query's
// result is that of going alone:
//
// - score(p) = sum over d, in order, of q[d] / sqrt(head_dim) * key[p][d], fused;
// - weight(p) = exp(score(p) - max), added up in 16 lanes (p % 16) over the aligned blocks of 16
//   positions, then in a tree; positions out of sight add exact zeros;
// - out[d] = (sum over the visible p, in order, of weight(p) * value[p][d], fused) / sum of
// weights.
//
// Blocks are aligned to absolute positions, so nothing depends on chunks, on the batch, or on where
// in the cache a block is.
#include "ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "ops/cpu/cache.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/norm.h"
#include "ops/cpu/simd-inl.h"

#ifndef LOCKSTEP_OPS_CPU_ATTENTION_ONCE_
#define LOCKSTEP_OPS_CPU_ATTENTION_ONCE_
namespace lockstep::cpu {

// Positions of a block of the cache, and lanes of its vectors.
inline constexpr std::size_t kBlock = kKvBlockSize;
static_assert(kBlock == 16);
// Most queries of a tile: their sums are kept in registers.
inline constexpr std::size_t kMaxQueries = 12;

// Queries of one KV head whose visible positions lie in the same blocks.
struct AttentionTile {
  std::size_t queries = 0;                        // 1 to kMaxQueries
  std::array<const float*, kMaxQueries> query{};  // [head_dim]
  std::array<float*, kMaxQueries> out{};          // [head_dim]
  std::array<std::size_t, kMaxQueries> begin{};   // the positions that it sees
  std::array<std::size_t, kMaxQueries> end{};
  std::size_t head_dim = 0;
  const std::int32_t* blocks = nullptr;  // of the sequence, by position / kBlock
  // The KV head's part of block 0, and elements from one block's to the next one's.
  const void* keys = nullptr;
  const void* values = nullptr;
  std::size_t block_stride = 0;
  DType dtype = DType::kFloat32;
  float* scratch = nullptr;  // attention_scratch() floats
};

// Queries, sums, and the scores of so many blocks.
inline std::size_t attention_scratch(std::size_t blocks, std::size_t head_dim) {
  return kMaxQueries * (2 * head_dim + blocks * kBlock);
}

}  // namespace lockstep::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace lockstep::cpu::HWY_NAMESPACE {

// The cache of one KV head in its storage type.
template <typename T>
struct Cache {
  explicit Cache(const AttentionTile& tile)
      : keys(static_cast<const T*>(tile.keys)),
        values(static_cast<const T*>(tile.values)),
        blocks(tile.blocks),
        stride(tile.block_stride),
        head_dim(tile.head_dim),
        last_block((*std::max_element(tile.end.begin(), tile.end.begin() + tile.queries) - 1) /
                   kBlock) {}

  const T* key_block(std::size_t block) const {
    return keys + static_cast<std::size_t>(blocks[block]) * stride;
  }
  const T* value_block(std::size_t block) const {
    return values + static_cast<std::size_t>(blocks[block]) * stride;
  }

  const T* keys;
  const T* values;
  const std::int32_t* blocks;
  std::size_t stride;
  std::size_t head_dim;
  std::size_t last_block;
};

// Decoding reads the cache from memory, block by block from all over it: what comes next is asked
// for early. Large tiles come from prompts, whose cache has just been written.
template <std::size_t kQueries>
inline constexpr bool kPrefetch = kQueries < kMaxQueries;

// scores[block][query][position] of kBlocks blocks from `block` on. queries: [head_dim][kQueries].
template <typename T, std::size_t kQueries, std::size_t kBlocks>
HWY_NOINLINE void score_blocks(const Cache<T>& cache, std::size_t block,
                               const float* HWY_RESTRICT queries, float* HWY_RESTRICT scores) {
  const T* keys[kBlocks];
  const T* next[kBlocks];
  for (std::size_t i = 0; i < kBlocks; ++i) {
    keys[i] = cache.key_block(block + i);
    next[i] = cache.key_block(std::min(block + i + kBlocks, cache.last_block));
  }
  for (std::size_t lane = 0; lane < kBlock; lane += kLanes) {
    Vector sum[kBlocks][kQueries];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kBlocks; ++i)
#pragma GCC unroll 16
      for (std::size_t query = 0; query < kQueries; ++query) sum[i][query] = hn::Zero(Floats());
    for (std::size_t d = 0; d < cache.head_dim; ++d) {
      Vector key[kBlocks];
#pragma GCC unroll 16
      for (std::size_t i = 0; i < kBlocks; ++i) {
        key[i] = load(keys[i] + d * kBlock + lane);
        if (kPrefetch<kQueries> && lane == 0) __builtin_prefetch(next[i] + d * kBlock, 0, 2);
      }
#pragma GCC unroll 16
      for (std::size_t query = 0; query < kQueries; ++query) {
        const Vector factor = hn::Set(Floats(), queries[d * kQueries + query]);
#pragma GCC unroll 16
        for (std::size_t i = 0; i < kBlocks; ++i)
          sum[i][query] = fused_multiply_add(factor, key[i], sum[i][query]);
      }
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kBlocks; ++i)
#pragma GCC unroll 16
      for (std::size_t query = 0; query < kQueries; ++query)
        store(sum[i][query], scores + (i * kQueries + query) * kBlock + lane);
  }
}

// Scores become weights, whose sum is returned; positions outside [begin, end) get the weight 0.
// The scores of block i are at scores + i * stride; `first` is the first block's position.
HWY_NOINLINE float soften(float* scores, std::size_t blocks, std::size_t stride, std::size_t first,
                          std::size_t begin, std::size_t end) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  for (std::size_t i = 0; i < blocks; ++i) {
    const std::size_t position = first + i * kBlock;
    if (position >= begin && position + kBlock <= end) continue;
    for (std::size_t lane = 0; lane < kBlock; ++lane)
      if (position + lane < begin || position + lane >= end) scores[i * stride + lane] = kHidden;
  }
  Vector largest_lanes = hn::Set(Floats(), kHidden);
  for (std::size_t i = 0; i < blocks; ++i)
    for (std::size_t lane = 0; lane < kBlock; lane += kLanes)
      largest_lanes = hn::Max(largest_lanes, load(scores + i * stride + lane));
  float lanes[kBlock];
  store(largest_lanes, lanes);
  const Vector largest = hn::Set(Floats(), *std::max_element(lanes, lanes + kLanes));
  for (std::size_t lane = 0; lane < kBlock; lane += kLanes) {
    Vector sum = hn::Zero(Floats());
    for (std::size_t i = 0; i < blocks; ++i) {
      const Vector weight = exp(hn::Sub(load(scores + i * stride + lane), largest));
      store(weight, scores + i * stride + lane);
      sum = hn::Add(sum, weight);
    }
    store(sum, lanes + lane);
  }
  return sum_lanes(lanes);
}

// Some queries' weights, as score_blocks() lays them out.
struct Weights {
  const float* block(std::size_t index) const { return data + (index - first_block) * stride; }

  const float* data;
  std::size_t stride;  // from one block to the next
  std::size_t first_block;
};

// sums[query][d] += weight * value over the positions [begin, end), in order, for kVectors vectors
// of d. `sums` and the values start at the first of them.
template <typename T, std::size_t kQueries, std::size_t kVectors>
HWY_NOINLINE void add_values(const Cache<T>& cache, const Weights& weights, std::size_t begin,
                             std::size_t end, std::size_t d, float* HWY_RESTRICT sums) {
  constexpr std::size_t kAhead = 3;  // blocks
  Vector sum[kQueries][kVectors];
#pragma GCC unroll 16
  for (std::size_t query = 0; query < kQueries; ++query)
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v)
      sum[query][v] = load(sums + query * cache.head_dim + d + v * kLanes);
  for (std::size_t position = begin; position < end;) {
    const std::size_t block = position / kBlock;
    const std::size_t stop = std::min(end, (block + 1) * kBlock);
    const float* weight = weights.block(block) + position % kBlock;
    const T* value = cache.value_block(block) + position % kBlock * cache.head_dim + d;
    const T* next = cache.value_block(std::min(block + kAhead, cache.last_block)) +
                    position % kBlock * cache.head_dim + d;
    for (; position < stop; ++position, ++weight, value += cache.head_dim, next += cache.head_dim) {
      if constexpr (kPrefetch<kQueries>) {
#pragma GCC unroll 16
        for (std::size_t at = 0; at < kVectors * kLanes * sizeof(T); at += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(next) + at, 0, 2);
      }
      Vector values[kVectors];
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v) values[v] = load(value + v * kLanes);
#pragma GCC unroll 16
      for (std::size_t query = 0; query < kQueries; ++query) {
        const Vector factor = hn::Set(Floats(), weight[query * kBlock]);
#pragma GCC unroll 16
        for (std::size_t v = 0; v < kVectors; ++v)
          sum[query][v] = fused_multiply_add(factor, values[v], sum[query][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (std::size_t query = 0; query < kQueries; ++query)
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v)
      store(sum[query][v], sums + query * cache.head_dim + d + v * kLanes);
}

// The same for all d: as many vectors at once as registers allow, and the last elements one by one.
template <typename T, std::size_t kQueries>
HWY_NOINLINE void add_all_values(const Cache<T>& cache, const Weights& weights, std::size_t begin,
                                 std::size_t end, float* sums) {
  if (begin >= end) return;
  constexpr std::size_t kMost = kRegisters * 3 / 4 / kQueries;
  std::size_t d = 0;
  if constexpr (kMost >= 4)
    for (; d + 4 * kLanes <= cache.head_dim; d += 4 * kLanes)
      add_values<T, kQueries, 4>(cache, weights, begin, end, d, sums);
  if constexpr (kMost >= 2)
    for (; d + 2 * kLanes <= cache.head_dim; d += 2 * kLanes)
      add_values<T, kQueries, 2>(cache, weights, begin, end, d, sums);
  for (; d + kLanes <= cache.head_dim; d += kLanes)
    add_values<T, kQueries, 1>(cache, weights, begin, end, d, sums);
  for (; d < cache.head_dim; ++d) {
    for (std::size_t query = 0; query < kQueries; ++query) {
      float& sum = sums[query * cache.head_dim + d];
      for (std::size_t position = begin; position < end; ++position) {
        const std::size_t block = position / kBlock, place = position % kBlock;
        sum = std::fma(weights.block(block)[query * kBlock + place],
                       to_float(cache.value_block(block)[place * cache.head_dim + d]), sum);
      }
    }
  }
}

template <typename T, std::size_t kQueries>
void attend_tile(const AttentionTile& tile) {
  const Cache<T> cache(tile);
  const std::size_t head_dim = tile.head_dim;
  float* queries = tile.scratch;
  float* sums = queries + kQueries * head_dim;
  float* scores = sums + kQueries * head_dim;
  const float scale = 1.0f / std::sqrt(static_cast<float>(head_dim));
  for (std::size_t query = 0; query < kQueries; ++query)
    for (std::size_t d = 0; d < head_dim; ++d)
      queries[d * kQueries + query] = tile.query[query][d] * scale;

  // What any query sees, in blocks, and what all see, in positions.
  const auto* begin = tile.begin.data();
  const auto* end = tile.end.data();
  const std::size_t first_block = *std::min_element(begin, begin + kQueries) / kBlock;
  const std::size_t blocks =
      (*std::max_element(end, end + kQueries) + kBlock - 1) / kBlock - first_block;
  const std::size_t shared_begin = *std::max_element(begin, begin + kQueries);
  const std::size_t shared_end = std::max(shared_begin, *std::min_element(end, end + kQueries));

  constexpr std::size_t kFit = kRegisters * 3 / 4 / kQueries;
  constexpr std::size_t kAtOnce = kFit >= 4 ? 4 : kFit >= 2 ? 2 : 1;
  std::size_t block = 0;
  for (; block + kAtOnce <= blocks; block += kAtOnce)
    score_blocks<T, kQueries, kAtOnce>(cache, first_block + block, queries,
                                       scores + block * kQueries * kBlock);
  for (; block < blocks; ++block)
    score_blocks<T, kQueries, 1>(cache, first_block + block, queries,
                                 scores + block * kQueries * kBlock);

  float total[kQueries];
  for (std::size_t query = 0; query < kQueries; ++query)
    total[query] = soften(scores + query * kBlock, blocks, kQueries * kBlock, first_block * kBlock,
                          begin[query], end[query]);

  std::fill_n(sums, kQueries * head_dim, 0.0f);
  const auto weights = [&](std::size_t query) {
    return Weights{scores + query * kBlock, kQueries * kBlock, first_block};
  };
  for (std::size_t query = 0; query < kQueries; ++query)
    add_all_values<T, 1>(cache, weights(query), begin[query], std::min(shared_begin, end[query]),
                         sums + query * head_dim);
  add_all_values<T, kQueries>(cache, weights(0), shared_begin, shared_end, sums);
  for (std::size_t query = 0; query < kQueries; ++query) {
    add_all_values<T, 1>(cache, weights(query), std::max(shared_end, begin[query]), end[query],
                         sums + query * head_dim);
    for (std::size_t d = 0; d < head_dim; ++d)
      tile.out[query][d] = sums[query * head_dim + d] / total[query];
  }
}

using AttendTile = void (*)(const AttentionTile&);

template <typename T, std::size_t... kQueries>
constexpr std::array<AttendTile, sizeof...(kQueries)> tile_kernels(
    std::index_sequence<kQueries...>) {
  return {&attend_tile<T, kQueries + 1>...};
}

template <typename T>
void attend(const AttentionTile& tile) {
  static constexpr auto kKernels = tile_kernels<T>(std::make_index_sequence<kMaxQueries>());
  kKernels[tile.queries - 1](tile);
}

void attend_tile_of_any_dtype(const AttentionTile& tile) {
  switch (tile.dtype) {
    case DType::kFloat32:
      return attend<float>(tile);
    case DType::kBFloat16:
      return attend<BFloat16>(tile);
    default:
      return attend<Float16>(tile);
  }
}

}  // namespace lockstep::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::cpu {
HWY_EXPORT(attend_tile_of_any_dtype);

void CpuOps::attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                       const KvLayer& cache, const BatchView& batch) {
  const char* op = "attention";
  check_attention(op, qkv, shape, cache, batch);
  check_tensor(op, "out", out, DType::kFloat32, {batch.rows, shape.local_heads * shape.head_dim});
  if (shape.local_heads == 0) return;
  const auto attend = HWY_DYNAMIC_DISPATCH(attend_tile_of_any_dtype);
  const auto head_dim = static_cast<std::size_t>(shape.head_dim);
  const std::int64_t num_blocks = cache.keys.num_rows();
  const std::int64_t last_group = (shape.local_heads - 1 + shape.group_offset) / shape.group_size;
  // Rows of a tile: with full groups of heads, as many as make kMaxQueries.
  const std::int64_t heads_at_once =
      std::min({shape.group_size, shape.local_heads, std::int64_t{kMaxQueries}});
  const std::int64_t rows_at_once = std::int64_t{kMaxQueries} / heads_at_once;
  const auto visible_from = [&](std::int64_t position) {
    return shape.window == 0 ? 0 : std::max<std::int64_t>(0, position - shape.window + 1);
  };

  for (std::int64_t row = 0; row < batch.rows;) {
    // Rows that follow each other in one sequence.
    const RowPlace first = row_place(op, batch, row);
    std::int64_t rows = 1;
    for (; rows < rows_at_once && row + rows < batch.rows; ++rows) {
      const RowPlace next = row_place(op, batch, row + rows);
      if (next.sequence != first.sequence || next.position != first.position + rows) break;
    }
    const std::int64_t begin_block = visible_from(first.position) / kKvBlockSize;
    const std::int64_t end_block = (first.position + rows - 1) / kKvBlockSize + 1;
    for (std::int64_t block = begin_block; block < end_block; ++block)
      checked_block(op, first, block, num_blocks);

    AttentionTile tile;
    tile.head_dim = head_dim;
    tile.blocks = first.blocks;
    tile.block_stride = static_cast<std::size_t>(shape.local_kv_heads) * kBlock * head_dim;
    tile.dtype = cache.keys.dtype;
    tile.scratch = scratch_.floats(
        attention_scratch(static_cast<std::size_t>(end_block - begin_block), head_dim));
    for (std::int64_t group = 0; group <= last_group; ++group) {
      const std::size_t offset =
          static_cast<std::size_t>(group) * kBlock * head_dim * size_of(tile.dtype);
      tile.keys = cache.keys.as<const char>() + offset;
      tile.values = cache.values.as<const char>() + offset;
      const std::int64_t begin_head =
          std::max<std::int64_t>(0, group * shape.group_size - shape.group_offset);
      const std::int64_t end_head =
          std::min(shape.local_heads, (group + 1) * shape.group_size - shape.group_offset);
      for (std::int64_t head = begin_head; head < end_head; head += heads_at_once) {
        tile.queries = 0;
        for (std::int64_t r = row; r < row + rows; ++r) {
          const std::int64_t position = first.position + (r - row);
          for (std::int64_t h = head; h < std::min(end_head, head + heads_at_once); ++h) {
            const std::size_t query = tile.queries++;
            tile.query[query] = qkv.as<const float>() + r * qkv.shape[1] + h * shape.head_dim;
            tile.out[query] = out.as<float>() + r * out.shape[1] + h * shape.head_dim;
            tile.begin[query] = static_cast<std::size_t>(visible_from(position));
            tile.end[query] = static_cast<std::size_t>(position) + 1;
          }
        }
        attend(tile);
      }
    }
    row += rows;
  }
}

}  // namespace lockstep::cpu
#endif  // HWY_ONCE
