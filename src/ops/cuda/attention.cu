// Attention over the paged cache, split by keys (flash decoding, Dao et al. 2023).
//
// A sequence's positions are cut into splits of kSplit, aligned to absolute positions. One block
// works on a split for the query heads of a row that share a KV head; each of its warps has the 16
// positions of one block of the cache. A split's result is (largest score, sum of weights, weighted
// sum of values), all relative to the split's own largest score; a second kernel merges a row's
// splits in their order. Where a row sees one split only, the first kernel writes the result
// itself.
//
// Every sum has an order that follows from the head's size and the cache's dtype; all are written
// as fused or unfused on purpose, so that all variants of the kernel give the same bits.
#include "ops/cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/cuda/cache.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlock = static_cast<int>(kKvBlockSize);
constexpr int kSplit = kWarps * kBlock;
constexpr int kMaxHeadDim = 256;
// Blocks that a launch should have at least, if there are as many splits.
constexpr std::int64_t kEnoughBlocks = 2048;

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
  // Whether all that a warp reads is asked for at once, or each piece when it is used.
  static constexpr bool kAtOnce = kSteps * kChunks * kWords <= 32;
  static constexpr int kUnroll = kAtOnce ? kSteps : 4;  // of loops over steps

  // Which element of a head a lane's element e is.
  __device__ static int place(int e, int lane) {
    return (e / kWidth * kLanes + lane % kLanes) * kWidth + e % kWidth;
  }

  // The warp's part of the keys or values.
  struct Block {
    const T* data;  // null: no such block
    int first;      // the visible ones of its positions
    int last;
    int head_dim;

    __device__ bool sees(int position) const { return position >= first && position <= last; }

    __device__ Load load(int step, int chunk, int lane) const {
      const int position = step * kKeysAtOnce + lane / kLanes;
      const int d = place(chunk * kWidth, lane);
      if (sees(position) && d < head_dim)
        return *reinterpret_cast<const Load*>(data + position * head_dim + d);
      return Load{};
    }
  };

  // A block's loads, early or late.
  struct Reader {
    Block block;
    Load loads[kAtOnce ? kSteps : 1][kChunks];

    __device__ Reader(const Block& from, int lane) : block(from) {
      if constexpr (kAtOnce) {
#pragma unroll
        for (int step = 0; step < kSteps; ++step)
#pragma unroll
          for (int chunk = 0; chunk < kChunks; ++chunk)
            loads[step][chunk] = block.load(step, chunk, lane);
      }
    }

    __device__ void read(int step, int lane, float (&elements)[kElements]) const {
#pragma unroll
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        Load load;
        if constexpr (kAtOnce)
          load = loads[step][chunk];
        else
          load = block.load(step, chunk, lane);
        unpack<T>(load, elements + chunk * kWidth);
      }
    }
  };
};

// A block's shared memory: up to kQueries queries at a time.
template <typename L, int kQueries>
struct Shared {
  alignas(16) float queries[kQueries][L::kHeadDim];
  alignas(16) float sums[kWarps][kQueries][L::kHeadDim];  // of weighted values
  float weights[kWarps][kQueries][kBlock];                // first the scores
  float largest[kWarps][kQueries];
  float totals[kWarps][kQueries];  // of weights
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
template <typename L, int kQueries>
__device__ void score(Shared<L, kQueries>& shared, const typename L::Reader& keys, int warp,
                      int lane) {
  constexpr int kElements = L::kElements, kLanes = kWarp / L::kKeysAtOnce;
  float queries[kQueries][kElements];
#pragma unroll
  for (int query = 0; query < kQueries; ++query)
#pragma unroll
    for (int e = 0; e < kElements; ++e)
      queries[query][e] = shared.queries[query][L::place(e, lane)];
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
template <typename L, int kQueries>
__device__ void add_values(Shared<L, kQueries>& shared, const typename L::Reader& values, int warp,
                           int lane) {
  constexpr int kElements = L::kElements, kLanes = kWarp / L::kKeysAtOnce;
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

// Adds up the warps' results of `count` queries, heads from `head` on, and writes them: as the
// row's result if this split is all that it sees, else for the merge.
template <typename L, int kQueries>
__device__ void write_split(const AttentionArguments& a, const Shared<L, kQueries>& shared,
                            std::int64_t row, int head, int count, const Visible& sight,
                            int split) {
  const bool alone = sight.first_split == sight.last_split;
  for (int i = static_cast<int>(threadIdx.x); i < count * a.head_dim; i += kThreads) {
    const int query = i / a.head_dim, d = i % a.head_dim;
    float total = 0.0f, sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp) {
      total = __fadd_rn(total, shared.totals[warp][query]);
      sum = __fadd_rn(sum, shared.sums[warp][query][d]);
    }
    if (alone) {
      store(a.out, a.out_dtype, (row * a.heads + head + query) * a.head_dim + d, sum / total);
    } else {
      const std::int64_t place = ((row - a.first_row) * a.heads + head + query) * a.max_splits +
                                 (split - sight.first_split);
      a.partial_sums[place * a.head_dim + d] = sum;
      if (d == 0) a.partial_totals[place] = make_float2(largest_score(shared, query), total);
    }
  }
}

// Grid: rows, KV heads, splits (each block takes every gridDim.z-th of its row's).
template <typename L, int kQueries>
__global__ void __launch_bounds__(kThreads, 2) attention_kernel(AttentionArguments a) {
  begin_kernel();
  __shared__ Shared<L, kQueries> shared;
  using T = typename L::Element;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const std::int64_t row = a.first_row + blockIdx.x;
  const int group = static_cast<int>(blockIdx.y);
  const int begin_head = max(0, group * a.group_size - a.group_offset);
  const int end_head = min(a.heads, (group + 1) * a.group_size - a.group_offset);
  const RowPlace place = row_place(a.rows, row);
  if (place.position < 0) {
    if (blockIdx.z != 0) return;
    const std::int64_t first = (row * a.heads + begin_head) * a.head_dim;
    for (int i = static_cast<int>(threadIdx.x); i < (end_head - begin_head) * a.head_dim;
         i += kThreads)
      store(a.out, a.out_dtype, first + i, 0.0f);
    return;
  }

  const Visible sight = visible(a, place.position);
  for (int split = sight.first_split + static_cast<int>(blockIdx.z); split <= sight.last_split;
       split += static_cast<int>(gridDim.z)) {
    const int index = split * kWarps + warp;  // of the warp's block in the sequence
    const int first = max(sight.begin - index * kBlock, 0);
    const int last = min(sight.end - index * kBlock, kBlock) - 1;
    std::int64_t block = -1;
    if (first <= last) block = cache_block(a.rows, place, index);
    const std::int64_t offset =
        max(block, std::int64_t{0}) * a.block_stride + std::int64_t{group} * kBlock * a.head_dim;
    const int seen = block < 0 ? -1 : last;
    const typename L::Block key_block{static_cast<const T*>(a.keys) + offset, first, seen,
                                      a.head_dim};
    const typename L::Block value_block{static_cast<const T*>(a.values) + offset, first, seen,
                                        a.head_dim};
    for (int head = begin_head; head < end_head; head += kQueries) {
      const typename L::Reader keys(key_block, lane), values(value_block, lane);
      const int count = min(kQueries, end_head - head);
      for (int i = static_cast<int>(threadIdx.x); i < kQueries * L::kHeadDim; i += kThreads) {
        const int query = i / L::kHeadDim, d = i % L::kHeadDim;
        float value = 0.0f;
        if (query < count && d < a.head_dim)
          value = a.qkv[row * a.qkv_stride + (head + query) * a.head_dim + d] * a.scale;
        shared.queries[query][d] = value;
      }
      __syncthreads();
      score(shared, keys, warp, lane);
      __syncthreads();
      soften(shared, warp, lane);
      add_values(shared, values, warp, lane);
      __syncthreads();
      // Nothing that is read here is written again before the next round's first barrier.
      write_split(a, shared, row, head, count, sight, split);
    }
  }
}

// Grid: rows, heads; one thread an element of a head. Merges the splits of rows that see several.
__global__ void __launch_bounds__(kMaxHeadDim) merge_kernel(AttentionArguments a) {
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
  float largest = totals[0].x;
  for (int split = 1; split < splits; ++split) largest = fmaxf(largest, totals[split].x);
  float total = 0.0f, sum = 0.0f;
#pragma unroll 4
  for (int split = 0; split < splits; ++split) {
    const float factor = expf(totals[split].x - largest);
    total = fmaf(totals[split].y, factor, total);
    sum = fmaf(sums[std::int64_t{split} * a.head_dim], factor, sum);
  }
  store(a.out, a.out_dtype, (row * a.heads + head) * a.head_dim + d, sum / total);
}

using AttentionKernel = void (*)(AttentionArguments);

// The kernel for one query head per KV head, or for several.
template <typename L>
AttentionKernel kernel_of(std::int64_t group_size) {
  return group_size == 1 ? attention_kernel<L, 1> : attention_kernel<L, 4>;
}

// The kernel for heads of this size: 16 bytes a load wherever keys are a multiple of that.
template <typename T>
AttentionKernel kernel_of(std::int64_t head_dim, std::int64_t group_size) {
  constexpr int kWidth = 16 / sizeof(T);
  if (head_dim % kWidth != 0) return kernel_of<Layout<T, 2, kWarp, 4>>(group_size);
  if (head_dim <= 64) return kernel_of<Layout<T, kWidth, 64 / kWidth, 1>>(group_size);
  if (head_dim <= 128) return kernel_of<Layout<T, kWidth, 128 / kWidth, 1>>(group_size);
  return kernel_of<Layout<T, kWidth, kWarp, kMaxHeadDim / kWidth / kWarp>>(group_size);
}

}  // namespace

void CudaOps::attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                        const KvLayer& cache, const BatchView& batch) {
  const char* op = "attention";
  check_attention(op, qkv, shape, cache, batch);
  const std::int64_t rows = batch.rows, heads = shape.local_heads, head_dim = shape.head_dim;
  check_activation(op, "out", out, {rows, heads * head_dim});
  check(head_dim <= kMaxHeadDim, "{}: heads of {} are too large for the GPU, at most {}", op,
        head_dim, kMaxHeadDim);
  check(aligned({cache.keys.data, cache.values.data}, 16), "{}: the cache must be aligned to 16",
        op);
  if (heads == 0 || rows == 0) return;

  // Splits of one row at most, and rows whose partial results have room.
  std::int64_t splits = std::max<std::int64_t>(1, divide_up(batch.block_tables.shape[1], kWarps));
  if (shape.window > 0) splits = std::min(splits, divide_up(shape.window, kSplit) + 1);
  const std::int64_t row_partials = heads * splits;
  const std::int64_t partial_bytes = static_cast<std::int64_t>(sizeof(float2)) +
                                     head_dim * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t row_bytes = row_partials * partial_bytes;
  const auto scratch_bytes = static_cast<std::int64_t>(attention_scratch_.bytes());
  check(splits == 1 || row_bytes <= scratch_bytes,
        "{}: {} heads with a context of {} blocks take {} bytes of scratch memory, more than {}",
        op, heads, batch.block_tables.shape[1], row_bytes, scratch_bytes);
  const std::int64_t rows_at_once = splits == 1 ? rows : std::min(rows, scratch_bytes / row_bytes);
  const std::int64_t group_size = std::min(shape.group_size, heads);
  const std::int64_t groups = (heads - 1 + shape.group_offset) / shape.group_size + 1;

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
      reinterpret_cast<float*>(arguments.partial_totals + rows_at_once * row_partials);
  arguments.max_splits = static_cast<int>(splits);
  arguments.heads = static_cast<int>(heads);
  arguments.head_dim = static_cast<int>(head_dim);
  arguments.group_size = static_cast<int>(shape.group_size);
  arguments.group_offset = static_cast<int>(shape.group_offset);
  arguments.window = shape.window;
  arguments.scale = 1.0f / std::sqrt(static_cast<float>(head_dim));

  AttentionKernel kernel = nullptr;
  with_element_type(cache.keys.dtype, [&](auto element) {
    kernel = kernel_of<decltype(element)>(head_dim, group_size);
  });
  for (std::int64_t first = 0; first < rows; first += rows_at_once) {
    const std::int64_t count = std::min(rows_at_once, rows - first);
    arguments.first_row = first;
    launch(stream_, kernel, count, groups,
           std::clamp<std::int64_t>(divide_up(kEnoughBlocks, count * groups), 1, splits), kThreads,
           arguments);
    if (splits > 1)
      launch(stream_, merge_kernel, count, heads, 1,
             static_cast<unsigned>(divide_up(head_dim, kWarp) * kWarp), arguments);
  }
}

}  // namespace lockstep::cuda
