// The KV cache on the CPU. Within a block of one KV head, keys are [head_dim][16 positions], so
// that 16 scores come out of one vector; values are [16 positions][head_dim]. And the checks that
// every use of the cache needs.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/cpu/checks.h"
#include "ops/ops.h"

namespace lockstep::cpu {

// The position of a row, and the row of block_tables that holds it. Throws Error unless both exist.
struct RowPlace {
  std::int32_t position;
  std::int32_t sequence;
  const std::int32_t* blocks;  // [max_blocks]
};
RowPlace row_place(const char* op, const BatchView& batch, std::int64_t row);

// The block that holds block_tables' entry `index`. Throws Error unless the cache has it.
inline std::int64_t checked_block(const char* op, const RowPlace& place, std::int64_t index,
                                  std::int64_t num_blocks) {
  const std::int32_t block = place.blocks[index];
  if (block < 0 || block >= num_blocks) [[unlikely]]
    fail("{}: block {} of sequence {} is in place {}, which is not within [0, {})", op, index,
         place.sequence, block, num_blocks);
  return block;
}

}  // namespace lockstep::cpu
