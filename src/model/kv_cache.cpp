#include "model/kv_cache.h"

#include "core/check.h"

namespace lockstep {
namespace {

Shape layer_shape(const Config& config, const RankShard& shard, std::int64_t num_blocks) {
  return {num_blocks, shard.kv_heads.size(), kKvBlockSize, config.head_dim};
}

}  // namespace

KvCache::KvCache(Rank& rank, const Config& config, const RankShard& shard, std::int64_t num_blocks,
                 DType dtype) {
  const Shape shape = layer_shape(config, shard, num_blocks);
  const auto allocate = [&] {
    OwnedTensor owned = allocate_tensor(rank.ops(), rank.device(), dtype, shape);
    buffers_.push_back(std::move(owned.buffer));
    return owned.tensor;
  };
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const Tensor keys = allocate();
    layers_.push_back({keys, allocate()});
  }
}

std::size_t kv_cache_bytes(const Config& config, const RankShard& shard, std::int64_t num_blocks,
                           DType dtype) {
  const auto per_layer = static_cast<std::size_t>(layer_shape(config, shard, num_blocks).numel());
  return 2 * static_cast<std::size_t>(config.num_hidden_layers) * per_layer * size_of(dtype);
}

}  // namespace lockstep
