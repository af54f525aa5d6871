// Attention over the paged cache for many rows of the same sequences (FlashAttention-2, Dao 2023).
//
// A CTA has a tile of a step's rows and one query head. It goes through the tile's *runs*, rows of
// one sequence in ascending positions, one after the other, and through the keys that a run sees in
// tiles of kKeys at fixed absolute positions, in ascending order. Each warp keeps 16 or 32 rows in
// its registers: their scores with a tile's keys, their largest score, and their sums of weights
// and of weighted values, which are rescaled when a much larger score turns up.
//
// A row's bits depend on its own query and on the cache alone. A tile of which it sees nothing
// leaves its sums as they are: they are multiplied by one, and zeros are added. (Unless one of the
// hidden values is infinite, by which time the model has overflowed.) So it does not matter which
// rows share its tile, where a chunk of a prompt begins, or how many rows a warp has.
#include "ops/cuda/prompt_attention.h"

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "ops/cuda/cache.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/tensor_core.h"

namespace lockstep::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlock = static_cast<int>(kKvBlockSize);
// Positions of a tile of keys: each warp copies one block of the cache.
constexpr int kKeys = kWarps * kBlock;
constexpr int kStages = 2;     // tiles of keys: one is used while the next one is on its way
constexpr int kTileRows = 16;  // rows of one tensor-core tile
constexpr int kCtasPerMultiprocessor = 2;  // as many registers and as much memory as there are
// A row's largest score is replaced by larger ones from this much on, as a power of two: until then
// weights grow to no more than 2^8, and nothing has to be rescaled.
constexpr float kSlack = 8.0f;

struct PromptArguments {
  const float* qkv;
  std::int64_t qkv_stride;  // from row to row
  const void* keys;
  const void* values;
  std::int64_t block_stride;  // elements, from one block of the cache to the next
  CacheRows rows;
  int num_rows;
  void* out;  // [num_rows, heads * head_dim]
  DType out_dtype;
  int heads;
  int group_size;
  int group_offset;
  std::int64_t window;
  float scale;  // log2(e) / sqrt(head_dim): weights are powers of two
};

// Tiles of 16-bit elements in shared memory: rows of kHeadDim, in chunks of 16 bytes. Chunks change
// places within a row in such a way that those of eight rows at one place of the head are in
// different banks.
template <int kHeadDim>
struct Layout {
  static constexpr int kChunks = kHeadDim / 8;
  static constexpr int kRowBytes = kHeadDim * 2;
  static_assert(kChunks % 4 == 0);

  __device__ static int turn(int row) { return kChunks % 8 == 0 ? row % 8 : row / 2 % 4; }
  // Where a chunk is, in bytes.
  __device__ static int place(int row, int chunk) {
    return row * kRowBytes + (chunk ^ turn(row)) * 16;
  }

  // A lane's chunk, from which others are at distances that are known beforehand: `rows` and
  // `chunks` must be multiples of powers of two that `row` and `chunk` are less than.
  struct Lane {
    int start;
    int turned;

    __device__ Lane(int row, int chunk)
        : start(row * kRowBytes), turned((chunk ^ turn(row)) * 16) {}
    __device__ int offset(int rows, int chunks) const {
      return start + rows * kRowBytes + (turned ^ ((chunks ^ turn(rows)) * 16));
    }
  };
};

// What of a run's keys a warp's rows see: some see [some_begin, some_end), all see [all_begin,
// all_end).
struct alignas(16) Bounds {
  std::int32_t some_begin, some_end, all_begin, all_end;
};

template <typename T, int kHeadDim, int kTiles>
struct Shared {
  static constexpr int kRows = kWarps * kTiles * kTileRows;

  alignas(128) T queries[kRows * kHeadDim];
  alignas(128) T keys[kStages][kKeys * kHeadDim];
  alignas(128) T values[kStages][kKeys * kHeadDim];
  std::int32_t has_block[kStages][kWarps];  // whether the cache has this block of the tile
  std::int32_t positions[kRows];            // -1: the row has no place
  std::int32_t sequences[kRows];            // -1: the same
  std::uint32_t starts[kRows / kWarp];      // a bit a row: whether a run starts here
  // Of the run that is being worked on.
  std::int32_t seen[kRows];  // the last position that a row sees; -1: the row is of another run
  Bounds bounds[kWarps];

  // The start of the run after the one that `row` is in.
  __device__ int next_start(int row) const {
    for (int next = row + 1; next < kRows; next = (next / kWarp + 1) * kWarp) {
      const std::uint32_t later = starts[next / kWarp] >> (next % kWarp);
      if (later != 0) return next + __ffs(static_cast<int>(later)) - 1;
    }
    return kRows;
  }
};

// The first position that is seen from this one.
__device__ inline int first_seen(const PromptArguments& a, int position) {
  return a.window > 0 && a.window <= position ? position - static_cast<int>(a.window) + 1 : 0;
}

// Finds the tile's rows and the runs among them. Ends with a barrier.
template <typename S>
__device__ void find_runs(S& shared, const PromptArguments& a, int first_row) {
  const int thread = static_cast<int>(threadIdx.x), row = first_row + thread;
  if (thread < S::kRows) {
    const RowPlace place = row < a.num_rows ? row_place(a.rows, row) : RowPlace{-1, nullptr};
    shared.positions[thread] = place.position;
    shared.sequences[thread] = place.position < 0 ? -1 : a.rows.row_sequence[row];
  }
  __syncthreads();
  if (thread < S::kRows) {
    const bool starts = thread == 0 || shared.sequences[thread] != shared.sequences[thread - 1] ||
                        shared.positions[thread] <= shared.positions[thread - 1];
    const std::uint32_t bits = __ballot_sync(kAllLanes, starts);
    if (thread % kWarp == 0) shared.starts[thread / kWarp] = bits;
  }
  __syncthreads();
}

// The queries, scaled and rounded.
template <typename T, int kHeadDim, int kTiles>
__device__ void load_queries(Shared<T, kHeadDim, kTiles>& shared, const PromptArguments& a,
                             int first_row, int head) {
  constexpr int kPacks = kHeadDim / 4;
  constexpr int kRows = Shared<T, kHeadDim, kTiles>::kRows;
#pragma unroll 16
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kPacks; i += kThreads) {
    const int row = i / kPacks, d = i % kPacks * 4;
    Pack<float, 4> query{};
    if (first_row + row < a.num_rows)
      query = load_pack<float, 4>(a.qkv + (first_row + row) * a.qkv_stride + head * kHeadDim + d);
    Pack<std::uint32_t, 2> rounded;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair)
      rounded.values[pair] = pack_pair<T>(__fmul_rn(query.values[2 * pair], a.scale),
                                          __fmul_rn(query.values[2 * pair + 1], a.scale));
    store_pack(reinterpret_cast<std::uint32_t*>(reinterpret_cast<char*>(shared.queries) +
                                                Layout<kHeadDim>::place(row, d / 8) + d % 8 * 2),
               rounded);
  }
}

// Starts the copies of the warp's block of a tile: of its positions in [first, last], and zeros for
// the others, which may hold anything.
template <typename T, int kHeadDim, int kTiles>
__device__ void copy_tile(Shared<T, kHeadDim, kTiles>& shared, const PromptArguments& a,
                          int kv_head, std::int32_t block, int tile, int first, int last) {
  constexpr int kChunks = Layout<kHeadDim>::kChunks;
  constexpr int kAcross = kChunks % 8 == 0 ? 8 : 4;  // lanes that share a row
  const int stage = tile % kStages;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = current_lane();
  const bool has_block = block >= 0 && block < a.rows.num_blocks;
  const std::int64_t from = (has_block ? block : 0) * a.block_stride +
                            std::int64_t{kv_head} * kBlock * kHeadDim +
                            (lane / kAcross * kChunks + lane % kAcross) * 8;
  const T* keys = static_cast<const T*>(a.keys) + from;
  const T* values = static_cast<const T*>(a.values) + from;
  const SharedAddress to_keys = shared_address(shared.keys[stage] + warp * kBlock * kHeadDim);
  const SharedAddress to_values = shared_address(shared.values[stage] + warp * kBlock * kHeadDim);
  const typename Layout<kHeadDim>::Lane lane_place(lane / kAcross, lane % kAcross);
#pragma unroll
  for (int rows = 0; rows < kBlock; rows += kWarp / kAcross) {
    const int position = tile * kKeys + warp * kBlock + lane / kAcross + rows;
    const bool zeros = !has_block || position < first || position > last;
#pragma unroll
    for (int chunks = 0; chunks < kChunks; chunks += kAcross) {
      const int place = lane_place.offset(rows, chunks);
      const int distance = (rows * kChunks + chunks) * 8;
      copy_async(to_keys + place, keys + distance, zeros);
      copy_async(to_values + place, values + distance, zeros);
    }
  }
  if (lane == 0) shared.has_block[stage][warp] = has_block;
}

// What a warp keeps of its rows. Of tensor-core tile t, a lane has rows lane / 4 and lane / 4 + 8,
// the halves of the tile.
template <typename T, int kHeadDim, int kTiles>
struct Rows {
  float sums[kTiles][kHeadDim / 8][4];  // of weighted values
  float largest[kTiles][2];             // that weights are relative to
  float totals[kTiles][2];              // of this lane's weights
};

using Scores = float[kKeys / 8][4];

// The warp's scores with a tile of keys.
template <typename T, int kHeadDim, int kTiles>
__device__ __forceinline__ void score(Scores (&scores)[kTiles], SharedAddress queries,
                                      SharedAddress keys) {
  const int lane = current_lane();
  using L = typename Layout<kHeadDim>::Lane;
  const L query_lane(lane % 16, lane / 16), key_lane(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < kHeadDim / 16; ++k) {
    std::uint32_t query[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
      load_matrices(query[t], queries + query_lane.offset(t * kTileRows, 2 * k));
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      std::uint32_t key[4];
      load_matrices(key, keys + key_lane.offset(n * 16, 2 * k));
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        multiply_tile<T>(scores[t][2 * n], query[t], key[0], key[1]);
        multiply_tile<T>(scores[t][2 * n + 1], query[t], key[2], key[3]);
      }
    }
  }
}

// Scores become weights relative to the rows' largest score so far, up to kSlack.
template <typename T, int kHeadDim, int kTiles>
__device__ __forceinline__ void soften(Rows<T, kHeadDim, kTiles>& rows, Scores (&scores)[kTiles]) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = -INFINITY;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n)
        largest = fmaxf(largest, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
#pragma unroll
      for (int offset = 2; offset > 0; offset /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(kAllLanes, largest, offset));
      const float before = rows.largest[t][half];
      const bool larger = largest > before + kSlack;
      factor[half] = larger ? fast_exp2(before - largest) : 1.0f;
      if (larger) rows.largest[t][half] = largest;
    }
    if (__any_sync(kAllLanes, factor[0] != 1.0f || factor[1] != 1.0f)) {
#pragma unroll
      for (int half = 0; half < 2; ++half)
        rows.totals[t][half] = __fmul_rn(rows.totals[t][half], factor[half]);
#pragma unroll
      for (int d = 0; d < kHeadDim / 8; ++d)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          rows.sums[t][d][i] = __fmul_rn(rows.sums[t][d][i], factor[i / 2]);
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      // A row that has seen nothing yet has nothing but scores of -infinity.
      const float base = rows.largest[t][half] == -INFINITY ? 0.0f : rows.largest[t][half];
      float total = 0.0f;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[t][n][i] = fast_exp2(__fsub_rn(scores[t][n][i], base));
          total = __fadd_rn(total, scores[t][n][i]);
        }
      }
      rows.totals[t][half] = __fadd_rn(rows.totals[t][half], total);
    }
  }
}

// Adds a tile's values, weighted.
template <typename T, int kHeadDim, int kTiles>
__device__ __forceinline__ void add_values(Rows<T, kHeadDim, kTiles>& rows,
                                           const Scores (&weights)[kTiles], SharedAddress values) {
  const int lane = current_lane();
  const typename Layout<kHeadDim>::Lane value_lane(lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    // Where a lane has D of two tiles' scores is where it needs A.
    std::uint32_t weight[kTiles][4];
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        weight[t][i] = pack_pair<T>(weights[t][2 * k + i / 2][i % 2 * 2],
                                    weights[t][2 * k + i / 2][i % 2 * 2 + 1]);
#pragma unroll
    for (int d = 0; d < kHeadDim / 16; ++d) {
      std::uint32_t value[4];
      load_transposed(value, values + value_lane.offset(k * 16, 2 * d));
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        multiply_tile<T>(rows.sums[t][2 * d], weight[t], value[0], value[1]);
        multiply_tile<T>(rows.sums[t][2 * d + 1], weight[t], value[2], value[3]);
      }
    }
  }
}

// Takes a run's rows, rows [run_begin, run_end) of the CTA's tile, through all of its tiles of
// keys. The warps copy keys together, and each works on the rows that it has; rows of other runs
// stay as they are.
template <typename T, int kHeadDim, int kTiles>
__device__ __forceinline__ void attend_run(Rows<T, kHeadDim, kTiles>& rows,
                                           Shared<T, kHeadDim, kTiles>& shared,
                                           const PromptArguments& a, int kv_head, int run_begin,
                                           int run_end) {
  constexpr int kWarpRows = kTiles * kTileRows;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();  // nobody uses the run before this one any more
  if (thread < kWarps * kWarpRows)
    shared.seen[thread] = thread >= run_begin && thread < run_end ? shared.positions[thread] : -1;
  if (thread % kWarp == 0) {
    const int begin = max(run_begin, warp * kWarpRows), end = min(run_end, (warp + 1) * kWarpRows);
    Bounds bounds{};
    if (begin < end) {
      bounds.some_begin = first_seen(a, shared.positions[begin]);
      bounds.some_end = shared.positions[end - 1] + 1;
    }
    if (end - begin == kWarpRows) {
      bounds.all_begin = first_seen(a, shared.positions[end - 1]);
      bounds.all_end = shared.positions[begin] + 1;
    }
    shared.bounds[warp] = bounds;
  }

  // What can be read again is not kept in registers: there are none left.
  const auto first = [&] { return first_seen(a, shared.positions[run_begin]); };
  const auto last = [&] { return shared.positions[run_end - 1]; };
  const auto block_of = [&](int tile) {
    const int index = tile * kWarps + warp;
    if (index * kBlock > last()) return -1;
    return a.rows.block_tables[shared.sequences[run_begin] * a.rows.max_blocks + index];
  };
  int tile = first() / kKeys;
  copy_tile(shared, a, kv_head, block_of(tile), tile, first(), last());
  std::int32_t next_block = block_of(tile + 1);
  for (; tile * kKeys <= last(); ++tile) {
    wait_for_copies();
    __syncthreads();  // the tile is there, and nobody uses the one before it any more
    if ((tile + 1) * kKeys <= last()) {
      copy_tile(shared, a, kv_head, next_block, tile + 1, first(), last());
      next_block = block_of(tile + 2);
    }
    const int key_begin = tile * kKeys, key_end = key_begin + kKeys;
    const int stage = tile % kStages;
    const Bounds bounds = shared.bounds[warp];
    if (key_begin >= bounds.some_end || key_end <= bounds.some_begin) continue;

    Scores scores[kTiles] = {};
    score<T, kHeadDim>(scores,
                       shared_address(shared.queries) +
                           static_cast<SharedAddress>(warp * kWarpRows * kHeadDim * sizeof(T)),
                       shared_address(shared.keys[stage]));
    const std::int32_t(&has_block)[kWarps] = shared.has_block[stage];
    const bool whole = has_block[0] && has_block[1] && has_block[2] && has_block[3];
    if (!whole || key_begin < bounds.all_begin || key_end > bounds.all_end) {
      const int lane = current_lane();
#pragma unroll
      for (int t = 0; t < kTiles; ++t)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = warp * kWarpRows + t * kTileRows + half * 8 + lane / 4;
          const int position = shared.seen[row], from = first_seen(a, position);
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
            for (int i = 0; i < 2; ++i) {
              const int key = key_begin + n * 8 + lane % 4 * 2 + i;
              if (key < from || key > position || !has_block[n / 2])
                scores[t][n][2 * half + i] = -INFINITY;
            }
        }
    }
    soften(rows, scores);
    add_values(rows, scores, shared_address(shared.values[stage]));
  }
}

// Writes the warp's rows: their weighted sums of values over their sums of weights, or zeros if
// they saw nothing.
template <typename Out, typename T, int kHeadDim, int kTiles>
__device__ void write_rows(const PromptArguments& a, const Rows<T, kHeadDim, kTiles>& rows,
                           int first_row, int head, int lane) {
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = warp_sum<4>(rows.totals[t][half]);
      const float inverse = total == 0.0f ? 0.0f : 1.0f / total;
      const int row = first_row + t * kTileRows + half * 8 + lane / 4;
      if (row >= a.num_rows) continue;
      Out* out =
          static_cast<Out*>(a.out) + (std::int64_t{row} * a.heads + head) * kHeadDim + lane % 4 * 2;
#pragma unroll
      for (int d = 0; d < kHeadDim / 8; ++d) {
        Pack<Out, 2> pair;
#pragma unroll
        for (int i = 0; i < 2; ++i)
          // No negative zeros: hidden tiles may or may not have turned them into positive ones.
          pair.values[i] =
              from_float<Out>(__fadd_rn(__fmul_rn(rows.sums[t][d][2 * half + i], inverse), 0.0f));
        store_pack(out + d * 8, pair);
      }
    }
}

// Grid: heads, tiles of rows; the last rows, which see most, come first.
template <typename T, int kHeadDim, int kTiles>
__global__ void __launch_bounds__(kThreads, kCtasPerMultiprocessor)
    prompt_attention_kernel(const PromptArguments a) {
  begin_kernel();
  using S = Shared<T, kHeadDim, kTiles>;
  S& shared = *static_cast<S*>(launched_shared_memory());
  const int head = static_cast<int>(blockIdx.x);
  const int kv_head = (head + a.group_offset) / a.group_size;
  const int first_row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * S::kRows;
  load_queries(shared, a, first_row, head);
  find_runs(shared, a, first_row);

  Rows<T, kHeadDim, kTiles> rows{};
#pragma unroll
  for (int t = 0; t < kTiles; ++t) rows.largest[t][0] = rows.largest[t][1] = -INFINITY;
  for (int begin = 0, end; begin < S::kRows; begin = end) {
    end = shared.next_start(begin);
    if (shared.sequences[begin] >= 0) attend_run(rows, shared, a, kv_head, begin, end);
  }

  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = first_row + warp * kTiles * kTileRows;
  if (a.out_dtype == DType::kBFloat16)
    write_rows<BFloat16>(a, rows, first, head, lane);
  else if (a.out_dtype == DType::kFloat16)
    write_rows<Float16>(a, rows, first, head, lane);
  else
    write_rows<float>(a, rows, first, head, lane);
}

template <typename T, int kHeadDim, int kTiles>
void launch_tiles(const PromptArguments& arguments, cudaStream_t stream) {
  using S = Shared<T, kHeadDim, kTiles>;
  launch(stream, prompt_attention_kernel<T, kHeadDim, kTiles>, arguments.heads,
         divide_up(arguments.num_rows, S::kRows), 1, Block{kThreads, sizeof(S)}, arguments);
}

// Tiles of 128 rows need fewer loads, tiles of 64 keep more multiprocessors busy.
template <typename T, int kHeadDim>
void launch_kernel(const PromptArguments& arguments, int num_multiprocessors, cudaStream_t stream) {
  const std::int64_t large = divide_up(arguments.num_rows, Shared<T, kHeadDim, 2>::kRows);
  if (large * arguments.heads >= kCtasPerMultiprocessor * num_multiprocessors)
    launch_tiles<T, kHeadDim, 2>(arguments, stream);
  else
    launch_tiles<T, kHeadDim, 1>(arguments, stream);
}

}  // namespace

bool prompt_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                      const KvLayer& cache, const BatchView& batch, int num_multiprocessors,
                      cudaStream_t stream) {
  const std::int64_t head_dim = shape.head_dim;
  if (head_dim != 64 && head_dim != 96 && head_dim != 128) return false;
  if (cache.keys.dtype == DType::kFloat32) return false;
  if (!aligned({out.data, qkv.data, cache.keys.data, cache.values.data}, 16)) return false;

  PromptArguments arguments{};
  arguments.qkv = qkv.as<const float>();
  arguments.qkv_stride = qkv.shape[1];
  arguments.keys = cache.keys.data;
  arguments.values = cache.values.data;
  arguments.block_stride = shape.local_kv_heads * kKvBlockSize * head_dim;
  arguments.rows = cache_rows(cache, batch);
  arguments.num_rows = static_cast<int>(batch.rows);
  arguments.out = out.data;
  arguments.out_dtype = out.dtype;
  arguments.heads = static_cast<int>(shape.local_heads);
  arguments.group_size = static_cast<int>(shape.group_size);
  arguments.group_offset = static_cast<int>(shape.group_offset);
  arguments.window = shape.window;
  arguments.scale =
      static_cast<float>(1.4426950408889634 / std::sqrt(static_cast<double>(head_dim)));
  with_element_type(cache.keys.dtype, [&]<typename T>(T) {
    if constexpr (!std::is_same_v<T, float>) {
      if (head_dim == 64)
        launch_kernel<T, 64>(arguments, num_multiprocessors, stream);
      else if (head_dim == 96)
        launch_kernel<T, 96>(arguments, num_multiprocessors, stream);
      else
        launch_kernel<T, 128>(arguments, num_multiprocessors, stream);
    }
  });
  return true;
}

}  // namespace lockstep::cuda
