// KvCache: one rank's paged keys and values, for its own KV heads only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/config.h"
#include "core/buffer.h"
#include "lockstep/spmd.h"
#include "ops/ops.h"
#include "sharding/plan.h"

namespace lockstep {

// Which sequence owns which block is the scheduler's business, the same on every rank.
class KvCache {
 public:
  // num_blocks blocks of kKvBlockSize positions in every layer; dtype float32, bfloat16 or float16.
  KvCache(Rank& rank, const Config& config, const RankShard& shard, std::int64_t num_blocks,
          DType dtype);

  const KvLayer& layer(std::int64_t index) const {
    return layers_[static_cast<std::size_t>(index)];
  }

 private:
  std::vector<Buffer> buffers_;
  std::vector<KvLayer> layers_;
};

// Bytes that one rank's KvCache takes.
std::size_t kv_cache_bytes(const Config& config, const RankShard& shard, std::int64_t num_blocks,
                           DType dtype);

// Blocks that `length` positions take.
inline std::int64_t kv_blocks(std::int64_t length) {
  return (length + kKvBlockSize - 1) / kKvBlockSize;
}

}  // namespace lockstep
