// The KV cache on the GPU: keys and values of a block of one KV head are both [16 positions]
// [head_dim], so a position's key is one run of memory. And where a step's rows stand in it.
#pragma once

#include <cstdint>

#include "ops/cuda/checks.h"
#include "ops/ops.h"

namespace lockstep::cuda {

// A step's rows, for kernels. What it holds is checked by whoever uses it: a row without a valid
// place (a negative position, say) is padding, for which nothing is stored and which attends to
// nothing.
struct CacheRows {
  const std::int32_t* positions;
  const std::int32_t* row_sequence;
  const std::int32_t* block_tables;
  std::int64_t sequences;
  std::int64_t max_blocks;
  std::int64_t num_blocks;  // of the cache
};

inline CacheRows cache_rows(const KvLayer& cache, const BatchView& batch) {
  return {batch.positions.as<const std::int32_t>(),
          batch.row_sequence.as<const std::int32_t>(),
          batch.block_tables.as<const std::int32_t>(),
          batch.block_tables.shape[0],
          batch.block_tables.shape[1],
          cache.keys.num_rows()};
}

struct RowPlace {
  std::int32_t position;       // negative: the row has no place
  const std::int32_t* blocks;  // [max_blocks]
};

__device__ inline RowPlace row_place(const CacheRows& rows, std::int64_t row) {
  const std::int32_t position = rows.positions[row];
  const std::int32_t sequence = rows.row_sequence[row];
  if (sequence < 0 || sequence >= rows.sequences || position < 0 ||
      position / kKvBlockSize >= rows.max_blocks)
    return {-1, nullptr};
  return {position, rows.block_tables + sequence * rows.max_blocks};
}

// Which block of the cache holds positions [16 index, 16 index + 16); -1 if it has no such block.
__device__ inline std::int64_t cache_block(const CacheRows& rows, const RowPlace& place,
                                           std::int64_t index) {
  const std::int32_t block = place.blocks[index];
  return block >= 0 && block < rows.num_blocks ? block : -1;
}

}  // namespace lockstep::cuda
