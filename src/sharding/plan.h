// ShardPlan: for each weight and each rank, which rows, columns or heads it holds.
// A pure function of Config and world size; the loader (loader.h) only carries it out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/config.h"
#include "ops/ops.h"

namespace lockstep {

// One rank's share of the model.
struct RankShard {
  Range heads;         // query heads: rows of q_proj, columns of o_proj (times head_dim)
  Range kv_heads;      // KV heads that those use: rows of k_proj and v_proj; ranks may overlap
  Range intermediate;  // rows of gate_proj and up_proj, columns of down_proj
  Range vocab;         // rows of lm_head; begins at a multiple of kRowBlock
};

struct ShardPlan {
  std::vector<RankShard> ranks;
  // Leaves of the canonical sum in a rank's share of o_proj's and down_proj's input. kLeaves /
  // world_size where the leaves can be dealt out evenly: then the sum has the same bits as on one
  // rank. Otherwise kLeaves: each rank cuts its own share.
  int attention_leaves = kLeaves;
  int mlp_leaves = kLeaves;
  // Whether logits have the same bits as on one rank.
  bool bitwise = true;

  int world_size() const { return static_cast<int>(ranks.size()); }
};

// Splits query heads, intermediate features and vocabulary into contiguous ranges that are as even
// as possible; the first ranks get the remainders. Throws Error when there are more ranks than
// query heads.
ShardPlan infer_sharding(const Config& config, int world_size);

// The attention of one rank in one layer.
AttentionShape attention_shape(const Config& config, const RankShard& shard, std::int64_t layer);

// What a rank holds of one checkpoint tensor.
struct WeightSlice {
  enum class Split : std::uint8_t { kReplicated, kRows, kColumns };
  std::string name;
  Shape shape;  // of the whole tensor
  Split split = Split::kReplicated;
  Range rows;     // of a vector: its elements
  Range columns;  // of a vector: [0, 1)
};

// Every checkpoint tensor's slice on one rank, in model order. Where embeddings are tied,
// lm_head.weight is absent: it is a view into the replicated embed_tokens.
std::vector<WeightSlice> rank_slices(const Config& config, const ShardPlan& plan, int rank);

}  // namespace lockstep
