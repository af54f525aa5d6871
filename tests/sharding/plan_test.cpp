#include "sharding/plan.h"

#include <gmock/gmock.h>

#include <map>
#include <set>

#include "lockstep/error.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

Config config_of(std::int64_t heads, std::int64_t kv_heads, std::int64_t intermediate_size = 64,
                 std::int64_t vocab_size = 256) {
  Config config;
  config.model_type = "llama";
  config.vocab_size = vocab_size;
  config.hidden_size = 10;
  config.intermediate_size = intermediate_size;
  config.num_hidden_layers = 2;
  config.num_attention_heads = heads;
  config.num_key_value_heads = kv_heads;
  config.head_dim = 4;
  config.max_position_embeddings = 32;
  config.sliding_window = {0, 5};
  return config;
}

// One of the four ranges of every rank.
std::vector<Range> ranges(const ShardPlan& plan, Range RankShard::*field) {
  std::vector<Range> all;
  for (const RankShard& shard : plan.ranks) all.push_back(shard.*field);
  return all;
}

std::vector<Range> head_ranges(std::int64_t heads, std::int64_t kv_heads, int ranks) {
  return ranges(infer_sharding(config_of(heads, kv_heads), ranks), &RankShard::heads);
}

std::vector<Range> kv_ranges(std::int64_t heads, std::int64_t kv_heads, int ranks) {
  return ranges(infer_sharding(config_of(heads, kv_heads), ranks), &RankShard::kv_heads);
}

TEST(InferSharding, EvenHeads) {
  EXPECT_THAT(head_ranges(32, 8, 1), ElementsAre(Range{0, 32}));
  EXPECT_THAT(kv_ranges(32, 8, 1), ElementsAre(Range{0, 8}));
  EXPECT_THAT(head_ranges(32, 8, 2), ElementsAre(Range{0, 16}, Range{16, 32}));
  EXPECT_THAT(kv_ranges(32, 8, 2), ElementsAre(Range{0, 4}, Range{4, 8}));
  EXPECT_THAT(head_ranges(32, 8, 4),
              ElementsAre(Range{0, 8}, Range{8, 16}, Range{16, 24}, Range{24, 32}));
  EXPECT_THAT(kv_ranges(32, 8, 4), ElementsAre(Range{0, 2}, Range{2, 4}, Range{4, 6}, Range{6, 8}));
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(head_ranges(32, 8, 8)[static_cast<std::size_t>(rank)],
              (Range{4 * rank, 4 * rank + 4}));
    EXPECT_EQ(kv_ranges(32, 8, 8)[static_cast<std::size_t>(rank)], (Range{rank, rank + 1}));
  }
}

TEST(InferSharding, UnevenHeads) {
  EXPECT_THAT(head_ranges(9, 3, 4),
              ElementsAre(Range{0, 3}, Range{3, 5}, Range{5, 7}, Range{7, 9}));
  EXPECT_THAT(kv_ranges(9, 3, 4), ElementsAre(Range{0, 1}, Range{1, 2}, Range{1, 3}, Range{2, 3}));
  EXPECT_THAT(head_ranges(14, 2, 4),
              ElementsAre(Range{0, 4}, Range{4, 8}, Range{8, 11}, Range{11, 14}));
  EXPECT_THAT(kv_ranges(14, 2, 4), ElementsAre(Range{0, 1}, Range{0, 2}, Range{1, 2}, Range{1, 2}));
}

// A KV head that several ranks need is on each of them.
TEST(InferSharding, FewerKvHeadsThanRanks) {
  EXPECT_THAT(kv_ranges(8, 1, 4), ElementsAre(Range{0, 1}, Range{0, 1}, Range{0, 1}, Range{0, 1}));
  EXPECT_THAT(kv_ranges(8, 2, 4), ElementsAre(Range{0, 1}, Range{0, 1}, Range{1, 2}, Range{1, 2}));
}

TEST(InferSharding, IntermediateRemaindersGoToTheFirstRanks) {
  const auto split = [](std::int64_t size, int ranks_count) {
    return ranges(infer_sharding(config_of(8, 8, size), ranks_count), &RankShard::intermediate);
  };
  EXPECT_THAT(split(64, 2), ElementsAre(Range{0, 32}, Range{32, 64}));
  EXPECT_THAT(split(101, 4),
              ElementsAre(Range{0, 26}, Range{26, 51}, Range{51, 76}, Range{76, 101}));
  EXPECT_THAT(split(2, 4), ElementsAre(Range{0, 1}, Range{1, 2}, Range{2, 2}, Range{2, 2}));
}

TEST(InferSharding, VocabularyInBlocks) {
  static_assert(kRowBlock == 16);
  const auto split = [](std::int64_t size, int ranks_count) {
    return ranges(infer_sharding(config_of(8, 8, 64, size), ranks_count), &RankShard::vocab);
  };
  EXPECT_THAT(split(256, 2), ElementsAre(Range{0, 128}, Range{128, 256}));
  EXPECT_THAT(split(131, 4),
              ElementsAre(Range{0, 48}, Range{48, 80}, Range{80, 112}, Range{112, 131}));
  EXPECT_THAT(split(20, 4), ElementsAre(Range{0, 16}, Range{16, 20}, Range{20, 20}, Range{20, 20}));
  EXPECT_THAT(split(1, 2), ElementsAre(Range{0, 1}, Range{1, 1}));
}

// attention_size and intermediate_size have to be made of 8 leaves that the ranks share evenly.
TEST(InferSharding, LeavesAndBits) {
  struct Case {
    std::int64_t heads, kv_heads, intermediate_size;
    int ranks, attention_leaves, mlp_leaves;
    bool bitwise;
  };
  constexpr Case kCases[] = {
      {32, 8, 64, 1, 8, 8, true},
      {32, 8, 64, 2, 4, 4, true},
      {32, 8, 64, 4, 2, 2, true},
      {32, 8, 64, 8, 1, 1, true},
      {8, 1, 56, 8, 1, 1, true},
      {9, 3, 101, 1, 8, 8, true},
      {32, 8, 64, 3, 8, 8, false},
      {32, 8, 64, 16, 8, 8, false},
      {30, 6, 64, 6, 8, 8, false},
      // 14 heads do not divide by 4, but 64 features do; 100 features are no 8 equal leaves; 2
      // heads of 4 are 8 leaves of 1.
      {14, 2, 64, 4, 8, 2, false},
      {32, 8, 100, 4, 2, 8, false},
      {2, 2, 64, 2, 4, 4, true},
      {9, 3, 101, 4, 8, 8, false},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << c.heads << " heads, " << c.intermediate_size
                                    << " features on " << c.ranks << " ranks");
    const ShardPlan plan =
        infer_sharding(config_of(c.heads, c.kv_heads, c.intermediate_size), c.ranks);
    EXPECT_EQ(plan.world_size(), c.ranks);
    EXPECT_EQ(plan.attention_leaves, c.attention_leaves);
    EXPECT_EQ(plan.mlp_leaves, c.mlp_leaves);
    EXPECT_EQ(plan.bitwise, c.bitwise);
  }
}

TEST(InferSharding, WorldSizesThatCannotBe) {
  const auto error_of = [](int world_size) -> std::string {
    try {
      infer_sharding(config_of(9, 3), world_size);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of(9), "");
  EXPECT_THAT(error_of(10), HasSubstr("10 ranks for a model with 9 query heads: use at most 9"));
  EXPECT_THAT(error_of(0), HasSubstr("world size 0"));
  EXPECT_THAT(error_of(-1), HasSubstr("world size -1"));
}

TEST(AttentionShape, MapsEveryQueryHeadToItsKvHead) {
  for (const auto& [heads, kv_heads] :
       {std::pair{9, 3}, {32, 8}, {14, 2}, {8, 8}, {24, 8}, {7, 1}}) {
    const Config config = config_of(heads, kv_heads);
    for (int ranks = 1; ranks <= heads; ++ranks) {
      for (const RankShard& shard : infer_sharding(config, ranks).ranks) {
        const AttentionShape shape = attention_shape(config, shard, 0);
        EXPECT_EQ(shape.local_heads, shard.heads.size());
        EXPECT_EQ(shape.local_kv_heads, shard.kv_heads.size());
        EXPECT_EQ(shape.head_dim, 4);
        std::set<std::int64_t> used;
        for (std::int64_t h = 0; h < shape.local_heads; ++h) {
          const std::int64_t local = (h + shape.group_offset) / shape.group_size;
          used.insert(local);
          EXPECT_EQ(shard.kv_heads.begin + local, (shard.heads.begin + h) / (heads / kv_heads));
        }
        // No KV head is there in vain.
        EXPECT_EQ(static_cast<std::int64_t>(used.size()), shape.local_kv_heads);
      }
    }
  }
}

TEST(AttentionShape, WindowOfTheLayer) {
  Config config = config_of(8, 8);
  const RankShard shard = infer_sharding(config, 1).ranks.front();
  EXPECT_EQ(attention_shape(config, shard, 0).window, 0);
  EXPECT_EQ(attention_shape(config, shard, 1).window, 5);
}

Config config_with_everything(bool tied) {
  Config config = config_of(9, 3, 23, 70);
  config.tie_word_embeddings = tied;
  config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
  return config;
}

using Split = WeightSlice::Split;

// The design's table, and the ranges of rank 2 of 4: heads 5 and 6, KV heads 1 and 2.
TEST(RankSlices, EveryKindOfTensor) {
  const Config config = config_with_everything(false);
  const ShardPlan plan = infer_sharding(config, 4);
  std::map<std::string, WeightSlice> slices;
  for (const WeightSlice& slice : rank_slices(config, plan, 2)) slices.emplace(slice.name, slice);
  ASSERT_EQ(slices.size(), expected_tensors(config).size());

  const auto expect = [&](const std::string& name, Split split, Range rows, Range columns) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(slices.contains(name));
    EXPECT_EQ(slices.at(name).split, split);
    EXPECT_EQ(slices.at(name).rows, rows);
    EXPECT_EQ(slices.at(name).columns, columns);
    slices.erase(name);
  };
  const Range all{0, 10}, one{0, 1}, features{12, 18};
  expect("model.embed_tokens.weight", Split::kReplicated, {0, 70}, all);
  expect("model.norm.weight", Split::kReplicated, all, one);
  expect("lm_head.weight", Split::kRows, {48, 64}, all);
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    expect(layer + "input_layernorm.weight", Split::kReplicated, all, one);
    expect(layer + "post_attention_layernorm.weight", Split::kReplicated, all, one);
    expect(layer + "self_attn.q_proj.weight", Split::kRows, {20, 28}, all);
    expect(layer + "self_attn.q_proj.bias", Split::kRows, {20, 28}, one);
    for (const std::string kv : {"k_proj", "v_proj"}) {
      expect(layer + "self_attn." + kv + ".weight", Split::kRows, {4, 12}, all);
      expect(layer + "self_attn." + kv + ".bias", Split::kRows, {4, 12}, one);
    }
    expect(layer + "self_attn.q_norm.weight", Split::kReplicated, {0, 4}, one);
    expect(layer + "self_attn.k_norm.weight", Split::kReplicated, {0, 4}, one);
    expect(layer + "self_attn.o_proj.weight", Split::kColumns, all, {20, 28});
    expect(layer + "self_attn.o_proj.bias", Split::kReplicated, all, one);
    for (const std::string up : {"gate_proj", "up_proj"}) {
      expect(layer + "mlp." + up + ".weight", Split::kRows, features, all);
      expect(layer + "mlp." + up + ".bias", Split::kRows, features, one);
    }
    expect(layer + "mlp.down_proj.weight", Split::kColumns, all, features);
    expect(layer + "mlp.down_proj.bias", Split::kReplicated, all, one);
  }
  EXPECT_TRUE(slices.empty());
}

// How many ranks hold each element of each tensor.
TEST(RankSlices, CoverEveryElement) {
  for (bool tied : {false, true}) {
    const Config config = config_with_everything(tied);
    for (int ranks = 1; ranks <= 9; ++ranks) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks");
      const ShardPlan plan = infer_sharding(config, ranks);
      std::map<std::string, std::vector<int>> holders;
      std::map<std::string, Split> splits;
      for (int rank = 0; rank < ranks; ++rank) {
        for (const WeightSlice& slice : rank_slices(config, plan, rank)) {
          const std::int64_t columns = slice.shape.rank() == 2 ? slice.shape[1] : 1;
          auto& counts = holders[slice.name];
          counts.resize(static_cast<std::size_t>(slice.shape.numel()));
          splits[slice.name] = slice.split;
          for (std::int64_t row = slice.rows.begin; row < slice.rows.end; ++row)
            for (std::int64_t column = slice.columns.begin; column < slice.columns.end; ++column)
              ++counts.at(static_cast<std::size_t>(row * columns + column));
        }
      }
      EXPECT_EQ(holders.size(), expected_tensors(config).size());
      EXPECT_EQ(holders.contains("lm_head.weight"), !tied);
      for (const auto& [name, counts] : holders) {
        SCOPED_TRACE(name);
        if (name.find("k_proj") != std::string::npos || name.find("v_proj") != std::string::npos)
          EXPECT_THAT(counts, testing::Each(testing::Ge(1)));
        else
          EXPECT_THAT(counts, testing::Each(splits[name] == Split::kReplicated ? ranks : 1));
      }
    }
  }
}

}  // namespace
}  // namespace lockstep
