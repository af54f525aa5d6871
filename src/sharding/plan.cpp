#include "sharding/plan.h"

#include <algorithm>
#include <string_view>

#include "core/check.h"

namespace lockstep {
namespace {

// Part `index` of `size` things dealt out to `parts`, the first parts getting one of the remainder.
Range even_part(std::int64_t size, int parts, int index) {
  const std::int64_t quotient = size / parts;
  const std::int64_t remainder = size % parts;
  const std::int64_t begin = index * quotient + std::min<std::int64_t>(index, remainder);
  return {begin, begin + quotient + (index < remainder ? 1 : 0)};
}

// Leaves of one rank's share of an input dimension, given that its parts are equal when `even`.
int share_leaves(std::int64_t in_features, bool even, int world_size) {
  const bool whole_leaves = kLeaves % world_size == 0 && in_features % kLeaves == 0;
  return even && whole_leaves ? kLeaves / world_size : kLeaves;
}

bool contains(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

}  // namespace

ShardPlan infer_sharding(const Config& config, int world_size) {
  check(world_size >= 1, "world size {}: at least 1 rank is needed", world_size);
  check(world_size <= config.num_attention_heads,
        "{} ranks for a model with {} query heads: use at most {} ranks", world_size,
        config.num_attention_heads, config.num_attention_heads);

  const std::int64_t group = config.num_attention_heads / config.num_key_value_heads;
  const std::int64_t vocab_blocks = (config.vocab_size + kRowBlock - 1) / kRowBlock;
  ShardPlan plan;
  for (int rank = 0; rank < world_size; ++rank) {
    RankShard shard;
    shard.heads = even_part(config.num_attention_heads, world_size, rank);
    shard.kv_heads = {shard.heads.begin / group, (shard.heads.end + group - 1) / group};
    shard.intermediate = even_part(config.intermediate_size, world_size, rank);
    const Range blocks = even_part(vocab_blocks, world_size, rank);
    shard.vocab = {std::min(blocks.begin * kRowBlock, config.vocab_size),
                   std::min(blocks.end * kRowBlock, config.vocab_size)};
    plan.ranks.push_back(shard);
  }
  const std::int64_t attention_size = config.num_attention_heads * config.head_dim;
  plan.attention_leaves =
      share_leaves(attention_size, config.num_attention_heads % world_size == 0, world_size);
  plan.mlp_leaves = share_leaves(config.intermediate_size,
                                 config.intermediate_size % world_size == 0, world_size);
  plan.bitwise =
      plan.attention_leaves * world_size == kLeaves && plan.mlp_leaves * world_size == kLeaves;
  return plan;
}

AttentionShape attention_shape(const Config& config, const RankShard& shard, std::int64_t layer) {
  AttentionShape shape;
  shape.local_heads = shard.heads.size();
  shape.local_kv_heads = shard.kv_heads.size();
  shape.head_dim = config.head_dim;
  shape.group_size = config.num_attention_heads / config.num_key_value_heads;
  shape.group_offset = shard.heads.begin - shape.group_size * shard.kv_heads.begin;
  shape.window =
      config.sliding_window.empty() ? 0 : config.sliding_window[static_cast<std::size_t>(layer)];
  return shape;
}

std::vector<WeightSlice> rank_slices(const Config& config, const ShardPlan& plan, int rank) {
  const RankShard& shard = plan.ranks.at(static_cast<std::size_t>(rank));
  const auto heads = [&](Range range) {
    return Range{range.begin * config.head_dim, range.end * config.head_dim};
  };
  std::vector<WeightSlice> slices;
  for (const ExpectedTensor& tensor : expected_tensors(config)) {
    const bool matrix = tensor.shape.rank() == 2;
    WeightSlice slice{tensor.name,
                      tensor.shape,
                      WeightSlice::Split::kReplicated,
                      {0, tensor.shape[0]},
                      {0, matrix ? tensor.shape[1] : 1}};
    const auto split_rows = [&](Range rows) {
      slice.split = WeightSlice::Split::kRows;
      slice.rows = rows;
    };
    // A row-parallel bias is whole: it is added once, after the reduction.
    const auto split_columns = [&](Range columns) {
      if (!matrix) return;
      slice.split = WeightSlice::Split::kColumns;
      slice.columns = columns;
    };
    if (contains(tensor.name, ".q_proj.")) {
      split_rows(heads(shard.heads));
    } else if (contains(tensor.name, ".k_proj.") || contains(tensor.name, ".v_proj.")) {
      split_rows(heads(shard.kv_heads));
    } else if (contains(tensor.name, ".o_proj.")) {
      split_columns(heads(shard.heads));
    } else if (contains(tensor.name, ".gate_proj.") || contains(tensor.name, ".up_proj.")) {
      split_rows(shard.intermediate);
    } else if (contains(tensor.name, ".down_proj.")) {
      split_columns(shard.intermediate);
    } else if (tensor.name == "lm_head.weight") {
      split_rows(shard.vocab);
    }
    slices.push_back(std::move(slice));
  }
  return slices;
}

}  // namespace lockstep
