// Attention over the paged cache, split by keys (flash decoding, Dao et al. 2023).
//
// A sequence's positions are cut into splits of kSplit, aligned to absolute positions. One block
// works on a split for the query heads of a row that share a KV head; each of its warps has the 16
// positions of one block of the cache. A split's result is (largest score, sum of weights, weighted
// sum of values), all relative to the split's own largest score; they are merged in their order.
// Where a row sees one split only, its block writes the result itself.
//
// In a step of one token for each of a few sequences the same kernel rotates the token's query and
// key, stores its key and value, and the last of a row's blocks merges. It reads the cache, which
// nobody else changes, before the kernels before it are done. What its blocks give each other
// carries the number of the launch in the same word, so that it is there as soon as it can be seen.
//
// Every sum has an order that follows from the head's size and the cache's dtype; all are written
// as fused or unfused on purpose, so that all variants of the kernel give the same bits.
#include "ops/cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/cuda/attention_split.h"
#include "ops/cuda/attention_tiles.h"
#include "ops/cuda/cache.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/numbered.h"
#include "ops/cuda/prompt_attention.h"
#include "ops/cuda/rotary.h"

namespace lockstep::cuda {
namespace {

constexpr int kMaxHeadDim = 256;
// Blocks that a multiprocessor has room for, if each may have kRegisters.
constexpr int kBlocksAtOnce = 2, kRegisters = 128;
// Where there is one row, latency is what counts: a block has one head, and registers for what it
// needs without going to memory, which is busy with weights. More would find no room beside those.
constexpr int kRegistersOfOneHead = 144;
// Rows up to which one kernel is quicker than three.
constexpr std::int64_t kMaxRowsOfOneKernel = 8;

struct AttentionArguments {
  const float* qkv;
  std::int64_t qkv_stride;  // from row to row
  const void* keys;
  const void* values;
  std::int64_t block_stride;  // elements, from one block of the cache to the next
  CacheRows rows;
  void* out;  // [rows, heads * head_dim]
  DType out_dtype;
  // Of the rows from first_row on, [row][head][split], splits counted from the row's first one.
  float2* partial_totals;  // largest score and sum of weights
  float* partial_sums;     // [head_dim]
  std::int64_t first_row;
  int max_splits;
  int heads;
  int head_dim;
  int group_size;
  int group_offset;
  int parts;  // blocks that share a group's heads
  std::int64_t window;
  float scale;  // 1 / sqrt(head_dim)
};

// What a row sees: positions [begin, end), in the splits [first_split, last_split].
struct Visible {
  int begin;
  int end;
  int first_split;
  int last_split;
};

__device__ Visible visible(const AttentionArguments& a, int position) {
  const bool limited = a.window > 0 && a.window <= position;
  const int begin = limited ? position - static_cast<int>(a.window) + 1 : 0;
  return {begin, position + 1, begin / kSplit, position / kSplit};
}

// A split's words: its largest score, its sum of weights, and [head_dim] weighted sums.
__device__ inline std::int64_t words_of_split(const AttentionArguments& a) {
  return a.head_dim + 2;
}
__device__ inline std::uint64_t* words_of(const AttentionArguments& a,
                                          const RotaryArguments& rotary, std::int64_t row,
                                          int head) {
  return rotary.words + (row * a.heads + head) * a.max_splits * words_of_split(a);
}

// Adds up the warps' results of `count` queries, heads from `head` on, and writes them: as the
// row's result if this split is all that it sees, else for the merge.
template <bool kRotary, typename L, int kQueries>
__device__ void write_split(const AttentionArguments& a, const RotaryArguments& rotary,
                            const Shared<L, kQueries>& shared, std::int64_t row, int head,
                            int count, const Visible& sight, int split) {
  const bool alone = sight.first_split == sight.last_split;
  const int place = split - sight.first_split;
  for (int i = static_cast<int>(threadIdx.x); i < count * L::kHeadDim; i += kThreads) {
    const int query = i / L::kHeadDim, d = i % L::kHeadDim;
    if (d >= a.head_dim) continue;
    float total = 0.0f, sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      total = __fadd_rn(total, shared.totals[warp][query]);
      sum = __fadd_rn(sum, shared.sums[warp][query][d]);
    }
    if (alone) {
      store(a.out, a.out_dtype, (row * a.heads + head + query) * a.head_dim + d, sum / total);
    } else if constexpr (kRotary) {
      std::uint64_t* words = words_of(a, rotary, row, head + query) + place * words_of_split(a);
      store_numbered(words + 2 + d, sum, shared.launch);
      if (d < 2)
        store_numbered(words + d, d == 0 ? largest_score(shared, query) : total, shared.launch);
    } else {
      const std::int64_t index =
          ((row - a.first_row) * a.heads + head + query) * a.max_splits + place;
      a.partial_sums[index * a.head_dim + d] = sum;
      if (d == 0) a.partial_totals[index] = make_float2(largest_score(shared, query), total);
    }
  }
}

// Splits in their order, each relative to the largest score of all.
struct Merged {
  float largest, total = 0.0f, sum = 0.0f;

  __device__ void add(float split_largest, float split_total, float split_sum) {
    const float factor = expf(split_largest - largest);
    total = fmaf(split_total, factor, total);
    sum = fmaf(split_sum, factor, sum);
  }
};

// A warp's elements [first, first + 32) of the row's `head`, from its splits, which other blocks
// may still be writing. A lane takes care of the weights of every 32nd split.
__device__ void merge_words(const AttentionArguments& a, const RotaryArguments& rotary,
                            std::int64_t row, int head, int first, int splits, unsigned launch,
                            int lane) {
  constexpr int kAtOnce = 8;  // splits whose sums are asked for together
  const std::uint64_t* const words = words_of(a, rotary, row, head);
  const std::int64_t stride = words_of_split(a);
  const int d = min(first + lane, a.head_dim - 1);
  // The lane's split's largest score and sum of weights, and the first splits' sums.
  float values[2 + kAtOnce];
  wait_for(values, 2 + min(splits, kAtOnce), launch, [&](int i) {
    return i < 2 ? words + min(lane, splits - 1) * stride + i : words + (i - 2) * stride + 2 + d;
  });
  Merged merged{values[0]};
  for (int split = lane + kWarp; split < splits; split += kWarp) {
    float largest[1];
    wait_for(largest, 1, launch, [&](int) { return words + split * stride; });
    merged.largest = fmaxf(merged.largest, largest[0]);
  }
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    merged.largest = fmaxf(merged.largest, __shfl_xor_sync(kAllLanes, merged.largest, offset));

  for (int begin = 0; begin < splits; begin += kAtOnce) {
    if (begin > 0 && begin % kWarp == 0) {
      float both[2];
      wait_for(both, 2, launch,
               [&](int i) { return words + min(begin + lane, splits - 1) * stride + i; });
      values[0] = both[0];
      values[1] = both[1];
    }
    float sums[kAtOnce];
    if (begin > 0) {
      wait_for(sums, splits - begin, launch,
               [&](int i) { return words + (begin + i) * stride + 2 + d; });
    } else {
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sums[i] = values[2 + i];
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i)
      if (begin + i < splits)
        merged.add(__shfl_sync(kAllLanes, values[0], (begin + i) % kWarp),
                   __shfl_sync(kAllLanes, values[1], (begin + i) % kWarp), sums[i]);
  }
  if (first + lane < a.head_dim)
    store(a.out, a.out_dtype, (row * a.heads + head) * a.head_dim + d, merged.sum / merged.total);
}

// Pairs of a lane.
template <typename L>
constexpr int kPairs = (L::kHeadDim / 2 + kWarp - 1) / kWarp;

// A warp's head of the row's query, as scores need it; zeros if the row has no such head.
template <typename L, int kQueries>
__device__ void rotate_query(const AttentionArguments& a, const RotaryArguments& rotary,
                             const RotaryAngles<kPairs<L>>& angles, Shared<L, kQueries>& shared,
                             const float* head, int query, int lane) {
  const int half = a.head_dim / 2;
  for (int i = (head == nullptr ? 0 : a.head_dim) + lane; i < L::kHeadDim; i += kWarp)
    shared.queries.store(query, i, 0.0f);
  if (head == nullptr) return;
  RotaryHead<kPairs<L>> x(head, lane, half);
  if (rotary.q_norm != nullptr) x.normalize(rotary.q_norm, lane, half, rotary.eps);
  x.rotate(angles);
  x.for_each(lane, half,
             [&](int i, float value) { shared.queries.store(query, i, value * a.scale); });
}

// The row's key or value, by a warp, into `kept` and, unless it is null, into the cache.
template <typename L>
__device__ void store_newest(const AttentionArguments& a, const RotaryHead<kPairs<L>>& x,
                             typename L::Element* kept, typename L::Element* cached, int lane) {
  for (int i = a.head_dim + lane; i < L::kHeadDim; i += kWarp)
    kept[i] = from_float<typename L::Element>(0.0f);
  x.for_each(lane, a.head_dim / 2, [&](int i, float value) {
    const auto element = from_float<typename L::Element>(value);
    kept[i] = element;
    if (cached != nullptr) cached[i] = element;
  });
}

// The number of a launch is one more than the last one's, which stays until all blocks have read
// it. One thread of each block calls these, in this order, with time in between for what memory
// answers.
struct LaunchCount {
  unsigned number = 0;
  unsigned blocks_before = 0;

  __device__ void begin(const RotaryArguments& rotary) {
    number = *static_cast<volatile unsigned*>(rotary.launches) + 1;
  }
  __device__ void count(const RotaryArguments& rotary) {
    blocks_before = atomicAdd(rotary.launches + 1, 1u);
  }
  __device__ void end(const RotaryArguments& rotary) const {
    if (blocks_before != gridDim.x * gridDim.y * gridDim.z - 1) return;
    rotary.launches[1] = 0;
    *static_cast<volatile unsigned*>(rotary.launches) = number;
  }
};

// For a block that has nothing to do.
__device__ inline void skip_launch(const RotaryArguments& rotary) {
  wait_for_previous_kernels();
  if (threadIdx.x != 0) return;
  LaunchCount launch;
  launch.begin(rotary);
  launch.count(rotary);
  launch.end(rotary);
}

// Grid: rows, KV heads in a.parts parts, splits (each block takes every gridDim.z-th of its row's).
template <typename L, int kQueries, bool kRotary>
__global__ void __maxnreg__(kRotary&& kQueries == 1 ? kRegistersOfOneHead : kRegisters)
    attention_kernel(const AttentionArguments a, const RotaryArguments rotary) {
  allow_next_kernel();
  if (!kRotary) wait_for_previous_kernels();
  __shared__ Shared<L, kQueries> shared;
  using T = typename L::Element;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = a.first_row + blockIdx.x;
  const int group = static_cast<int>(blockIdx.y) / a.parts;
  const int part = static_cast<int>(blockIdx.y) % a.parts;
  const int begin_head = max(0, group * a.group_size - a.group_offset) + part * kQueries;
  const int end_head = min(a.heads, (group + 1) * a.group_size - a.group_offset);
  const int next_heads = a.parts * kQueries;
  const RowPlace place = row_place(a.rows, row);
  if (place.position < 0) {
    if (kRotary) skip_launch(rotary);
    if (blockIdx.z != 0) return;
    for (int head = begin_head; head < end_head; head += next_heads)
      for (int i = static_cast<int>(threadIdx.x); i < min(kQueries, end_head - head) * a.head_dim;
           i += kThreads)
        store(a.out, a.out_dtype, (row * a.heads + head) * a.head_dim + i, 0.0f);
    return;
  }

  const Visible sight = visible(a, place.position);
  const int splits = sight.last_split - sight.first_split + 1;
  const int first_split = sight.first_split + static_cast<int>(blockIdx.z);
  if (first_split > sight.last_split || begin_head >= end_head) {
    if (kRotary) skip_launch(rotary);
    return;
  }
  const int half = a.head_dim / 2;
  std::int64_t newest_offset = -1;  // of the row's own key in the cache
  if constexpr (kRotary) {
    const std::int64_t block = cache_block(a.rows, place, place.position / kBlock);
    if (block >= 0)
      newest_offset =
          block * a.block_stride + (group * kBlock + place.position % kBlock) * a.head_dim;
  }
  const RotaryAngles<kPairs<L>> angles(kRotary ? place.position : 0, rotary.inverse_frequencies,
                                       lane, kRotary ? half : 0);
  const bool counts = threadIdx.x == kThreads - 1;
  LaunchCount launch;
  // The block of the cache that has the warp's positions of a split, or -1.
  const auto find = [&](int split) {
    const int index = split * kWarps + warp;  // of the warp's block in the sequence
    if (split > sight.last_split || index * kBlock >= sight.end ||
        (index + 1) * kBlock <= sight.begin)
      return std::int64_t{-1};
    return cache_block(a.rows, place, index);
  };
  const auto read = [&](auto& reader, const void* cache, int split, std::int64_t block) {
    const int begin = (split * kWarps + warp) * kBlock;
    const std::int64_t offset =
        max(block, std::int64_t{0}) * a.block_stride + std::int64_t{group} * kBlock * a.head_dim;
    // What is read when it is used is read after it was stored.
    const int newest = place.position - begin;
    const bool has_newest = L::kAtOnce && kRotary && block >= 0 && newest >= 0 && newest < kBlock;
    reader.start(
        {static_cast<const T*>(cache) + offset, max(sight.begin - begin, 0),
         block < 0 ? -1 : min(sight.end - begin, kBlock) - 1, has_newest ? newest : -1, a.head_dim},
        lane);
  };
  typename L::Keys keys;
  typename L::Values values;
  const std::int64_t first_block = find(first_split);
  read(keys, a.keys, first_split, first_block);
  read(values, a.values, first_split, first_block);
  for (int split = first_split; split <= sight.last_split; split += static_cast<int>(gridDim.z)) {
    const int next = split + static_cast<int>(gridDim.z);
    // With rotation a block has heads for one round only.
    for (int head = begin_head; head < end_head; head = kRotary ? end_head : head + next_heads) {
      const bool first_round = split == first_split && head == begin_head;
      const bool goes_on = (kRotary || head + next_heads >= end_head) && next <= sight.last_split;
      const int count = min(kQueries, end_head - head);
      if constexpr (kRotary) {
        if (first_round) {
          wait_for_previous_kernels();
          if (counts) {
            launch.begin(rotary);
            shared.launch = launch.number;
          }
        }
        const float* qkv = a.qkv + row * a.qkv_stride;
        const auto cached = [&](const void* cache) {
          return newest_offset < 0 ? nullptr
                                   : static_cast<T*>(const_cast<void*>(cache)) + newest_offset;
        };
        const bool stores = split == sight.last_split && head == begin_head;
        if (warp < kQueries) {
          rotate_query<L, kQueries>(a, rotary, angles, shared,
                                    warp < count ? qkv + (head + warp) * a.head_dim : nullptr, warp,
                                    lane);
        } else if (stores && warp == kQueries) {
          RotaryHead<kPairs<L>> key(qkv + (a.heads + group) * a.head_dim, lane, half);
          if (rotary.k_norm != nullptr) key.normalize(rotary.k_norm, lane, half, rotary.eps);
          key.rotate(angles);
          store_newest<L>(a, key, shared.key, cached(a.keys), lane);
        } else if (stores && warp == kQueries + 1) {
          const RotaryHead<kPairs<L>> value(qkv + (a.heads + rotary.kv_heads + group) * a.head_dim,
                                            lane, half);
          store_newest<L>(a, value, shared.value, cached(a.values), lane);
        }
      } else {
        for (int i = static_cast<int>(threadIdx.x); i < kQueries * L::kHeadDim; i += kThreads) {
          const int query = i / L::kHeadDim, d = i % L::kHeadDim;
          float value = 0.0f;
          if (query < count && d < a.head_dim)
            value = a.qkv[row * a.qkv_stride + (head + query) * a.head_dim + d] * a.scale;
          shared.queries.store(query, d, value);
        }
      }
      __syncthreads();
      if (kRotary && counts && first_round) launch.count(rotary);
      if (L::kAtOnce && keys.block.newest >= 0) {
        values.complete(keys.block.newest, shared.value, lane);
        keys.complete(keys.block.newest, shared.key, lane);
      }
      score(shared, keys, warp, lane);
      __syncthreads();
      // The next split's come while this one is computed.
      if (goes_on) read(keys, a.keys, next, find(next));
      soften(shared, warp, lane);
      add_values(shared, values, warp, lane);
      __syncthreads();
      if (goes_on) read(values, a.values, next, find(next));
      // Nothing that is read here is written again before the next round's first barrier.
      write_split<kRotary>(a, rotary, shared, row, head, count, sight, split);
    }
  }

  if constexpr (kRotary) {
    if (counts) launch.end(rotary);
    // The last block merges: all others have begun before it, so that it waits for running ones.
    const int last = min(static_cast<int>(gridDim.z), splits) - 1;
    if (splits == 1 || static_cast<int>(blockIdx.z) != last) return;
    const int pieces = (a.head_dim + kWarp - 1) / kWarp;  // of a head
    for (int head = begin_head; head < end_head; head += next_heads)
      for (int i = warp; i < min(kQueries, end_head - head) * pieces; i += kWarps)
        merge_words(a, rotary, row, head + i / pieces, i % pieces * kWarp, splits, shared.launch,
                    lane);
  }
}

// Grid: rows, heads; one thread an element of a head. Merges the splits of rows that see several.
__global__ void __launch_bounds__(kMaxHeadDim) merge_kernel(const AttentionArguments a) {
  begin_kernel();
  const std::int64_t row = a.first_row + blockIdx.x;
  const int head = static_cast<int>(blockIdx.y), d = static_cast<int>(threadIdx.x);
  const RowPlace place = row_place(a.rows, row);
  if (place.position < 0) return;
  const Visible sight = visible(a, place.position);
  const int splits = sight.last_split - sight.first_split + 1;
  if (splits == 1 || d >= a.head_dim) return;
  const std::int64_t first =
      (std::int64_t{blockIdx.x} * a.heads + head) * std::int64_t{a.max_splits};
  const float2* totals = a.partial_totals + first;
  const float* sums = a.partial_sums + first * a.head_dim + d;
  Merged merged{totals[0].x};
  for (int split = 1; split < splits; ++split)
    merged.largest = fmaxf(merged.largest, totals[split].x);
#pragma unroll 4
  for (int split = 0; split < splits; ++split)
    merged.add(totals[split].x, totals[split].y, sums[std::int64_t{split} * a.head_dim]);
  store(a.out, a.out_dtype, (row * a.heads + head) * a.head_dim + d, merged.sum / merged.total);
}

using AttentionKernel = void (*)(AttentionArguments, RotaryArguments);

// The kernel for one query head at a time, or for several.
template <typename L, bool kRotary>
AttentionKernel kernel_of(std::int64_t queries) {
  if constexpr (kRotary)
    if (queries == 1) return attention_kernel<L, 1, true>;
  return attention_kernel<L, 4, kRotary>;
}

// The kernel for heads of this size: 16 bytes a load wherever keys are a multiple of that.
template <typename T, bool kRotary>
AttentionKernel kernel_of(std::int64_t head_dim, std::int64_t queries) {
  if (head_dim * sizeof(T) % 16 != 0) return kernel_of<Layout<T, 2, kWarp, 4>, kRotary>(queries);
  if constexpr (sizeof(T) == 2) {
    if (head_dim <= 64) return kernel_of<TileLayout<T, 64>, kRotary>(queries);
    if (head_dim <= 128) return kernel_of<TileLayout<T, 128>, kRotary>(queries);
    return kernel_of<TileLayout<T, kMaxHeadDim>, kRotary>(queries);
  } else {
    if (head_dim <= 64) return kernel_of<Layout<T, 4, 16, 1>, kRotary>(queries);
    if (head_dim <= 128) return kernel_of<Layout<T, 4, kWarp, 1>, kRotary>(queries);
    return kernel_of<Layout<T, 4, kWarp, 2>, kRotary>(queries);
  }
}

// Splits of one row at most.
std::int64_t max_splits(const AttentionShape& shape, const BatchView& batch) {
  std::int64_t positions = batch.block_tables.shape[1] * kBlock;
  if (batch.longest > 0) positions = std::min(positions, batch.longest);
  const std::int64_t splits = std::max<std::int64_t>(1, divide_up(positions, kSplit));
  return shape.window > 0 ? std::min(splits, divide_up(shape.window, kSplit) + 1) : splits;
}

// Bytes of scratch memory that a row's partial results take.
std::int64_t partial_bytes(const AttentionShape& shape, const BatchView& batch) {
  const auto bytes_of_split = static_cast<std::int64_t>(sizeof(float2)) +
                              shape.head_dim * static_cast<std::int64_t>(sizeof(float));
  return shape.local_heads * max_splits(shape, batch) * bytes_of_split;
}

// The same for a launch that merges itself.
std::int64_t word_bytes(const AttentionShape& shape, const BatchView& batch) {
  return shape.local_heads * max_splits(shape, batch) * (shape.head_dim + 2) *
         static_cast<std::int64_t>(sizeof(std::uint64_t));
}

// KV heads that some local query head uses.
std::int64_t num_groups(const AttentionShape& shape) {
  return (shape.local_heads - 1 + shape.group_offset) / shape.group_size + 1;
}

}  // namespace

// `rotary` null: queries are rotated and the cache is complete.
void CudaOps::launch_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                               const KvLayer& cache, const BatchView& batch,
                               const RotaryArguments* rotary) {
  const char* op = "attention";
  check_attention(op, qkv, shape, cache, batch);
  const std::int64_t rows = batch.rows, heads = shape.local_heads, head_dim = shape.head_dim;
  check_activation(op, "out", out, {rows, heads * head_dim});
  check(head_dim <= kMaxHeadDim, "{}: heads of {} are too large for the GPU, at most {}", op,
        head_dim, kMaxHeadDim);
  check(aligned({cache.keys.data, cache.values.data}, 16), "{}: the cache must be aligned to 16",
        op);
  if (heads == 0 || rows == 0) return;
  // Steps of fewer rows never take it: its bits differ.
  if (rows > kMaxDecodeRows && !batch.one_row_a_sequence && !deterministic_ &&
      prompt_attention(out, qkv, shape, cache, batch, num_multiprocessors_, stream_))
    return;

  const std::int64_t splits = max_splits(shape, batch);
  const std::int64_t row_bytes = partial_bytes(shape, batch);
  const auto scratch_bytes = static_cast<std::int64_t>(attention_scratch_.bytes());
  check(splits == 1 || row_bytes <= scratch_bytes,
        "{}: {} heads with a context of {} blocks take {} bytes of scratch memory, more than {}",
        op, heads, batch.block_tables.shape[1], row_bytes, scratch_bytes);
  const std::int64_t rows_at_once = splits == 1 ? rows : std::min(rows, scratch_bytes / row_bytes);
  const std::int64_t group_size = std::min(shape.group_size, heads);
  const std::int64_t groups = num_groups(shape);

  AttentionArguments arguments{};
  arguments.qkv = qkv.as<const float>();
  arguments.qkv_stride = qkv.shape[1];
  arguments.keys = cache.keys.data;
  arguments.values = cache.values.data;
  arguments.block_stride = shape.local_kv_heads * kKvBlockSize * head_dim;
  arguments.rows = cache_rows(cache, batch);
  arguments.out = out.data;
  arguments.out_dtype = out.dtype;
  arguments.partial_totals = static_cast<float2*>(attention_scratch_.data());
  arguments.partial_sums =
      reinterpret_cast<float*>(arguments.partial_totals + rows_at_once * heads * splits);
  arguments.max_splits = static_cast<int>(splits);
  arguments.heads = static_cast<int>(heads);
  arguments.head_dim = static_cast<int>(head_dim);
  arguments.group_size = static_cast<int>(shape.group_size);
  arguments.group_offset = static_cast<int>(shape.group_offset);
  arguments.window = shape.window;
  arguments.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));

  const bool one_row = rotary != nullptr && rows == 1;
  const bool one_head = one_row && groups * splits * group_size <= num_multiprocessors_;
  const std::int64_t queries = one_head ? 1 : 4;
  arguments.parts = rotary != nullptr ? static_cast<int>(divide_up(group_size, queries)) : 1;
  AttentionKernel kernel = nullptr;
  with_element_type(cache.keys.dtype, [&]<typename T>(T) {
    kernel = rotary != nullptr ? kernel_of<T, true>(head_dim, queries)
                               : kernel_of<T, false>(head_dim, queries);
  });
  for (std::int64_t first = 0; first < rows; first += rows_at_once) {
    const std::int64_t count = std::min(rows_at_once, rows - first);
    // All blocks should be there at once; of one row, beside the kernels that read weights.
    const int at_once = one_row ? 1 : kBlocksAtOnce;
    const std::int64_t pairs = count * groups * arguments.parts;  // of rows and heads
    arguments.first_row = first;
    launch(stream_, kernel, count, groups * arguments.parts,
           std::clamp<std::int64_t>(at_once * num_multiprocessors_ / pairs, 1, splits), kThreads,
           arguments, rotary != nullptr ? *rotary : RotaryArguments{});
    if (splits > 1 && rotary == nullptr)
      launch(stream_, merge_kernel, count, heads, 1,
             static_cast<int>(divide_up(head_dim, kWarp) * kWarp), arguments);
  }
}

void CudaOps::attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                        const KvLayer& cache, const BatchView& batch) {
  launch_attention(out, qkv, shape, cache, batch, nullptr);
}

void CudaOps::rotary_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                               const Tensor& inverse_frequencies, const Tensor* q_norm,
                               const Tensor* k_norm, float eps, const KvLayer& cache,
                               const BatchView& batch) {
  const bool one_kernel =
      batch.one_row_a_sequence && batch.rows > 0 && batch.rows <= kMaxRowsOfOneKernel &&
      shape.local_heads > 0 && num_groups(shape) == shape.local_kv_heads &&
      batch.rows * word_bytes(shape, batch) <= static_cast<std::int64_t>(kAttentionScratchBytes);
  if (!one_kernel)
    return Ops::rotary_attention(out, qkv, shape, inverse_frequencies, q_norm, k_norm, eps, cache,
                                 batch);
  check_rotary("rotary_attention", shape, inverse_frequencies, q_norm, k_norm);
  const RotaryArguments rotary{inverse_frequencies.as<const float>(),
                               q_norm != nullptr ? q_norm->as<const float>() : nullptr,
                               k_norm != nullptr ? k_norm->as<const float>() : nullptr,
                               eps,
                               static_cast<int>(shape.local_kv_heads),
                               static_cast<std::uint64_t*>(attention_words_.data()),
                               static_cast<unsigned*>(attention_launches_.data())};
  launch_attention(out, qkv, shape, cache, batch, &rotary);
}

}  // namespace lockstep::cuda
