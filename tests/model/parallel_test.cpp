// What comes out does not depend on the number of ranks: bit for bit where the canonical sum's
// leaves can be dealt out evenly, to rounding elsewhere.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <random>
#include <tuple>

#include "checkpoint/test_files.h"
#include "lockstep/error.h"
#include "model/model_harness.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;

constexpr int kEvenRanks[] = {2, 4, 8};

std::vector<std::int32_t> input_ids(const std::string& name) {
  return read_tensor<std::int32_t>(golden_path(name) / "expected.safetensors", "input_ids");
}

std::unique_ptr<Checkpoint> dummy_checkpoint(int hidden_size, int intermediate_size, int heads,
                                             int kv_heads, int vocab_size) {
  const nlohmann::json config = {{"model_type", "llama"},
                                 {"vocab_size", vocab_size},
                                 {"hidden_size", hidden_size},
                                 {"intermediate_size", intermediate_size},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", heads},
                                 {"num_key_value_heads", kv_heads},
                                 {"max_position_embeddings", 64},
                                 {"rms_norm_eps", 1e-5},
                                 {"torch_dtype", "bfloat16"}};
  const TempDir directory;
  return open_dummy_checkpoint(directory.write("config.json", config.dump()), 3);
}

// A part of the model, which takes the hidden state from the residual and owes it its result.
using Part = std::function<void(Session::RankState&, const BatchView&)>;

// Runs `part` on a random hidden state [rows, hidden_size]. Returns the hidden state afterwards and
// its norm, which every rank has to agree on.
std::vector<float> run_part(const LoadedModel& model, std::int64_t rows, const Part& part) {
  const std::int64_t hidden_size = model.config.hidden_size;
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> hidden(static_cast<std::size_t>(rows * hidden_size));
  for (float& value : hidden) value = normal(random);

  Session session(model, {1, rows, rows, rows}, kv_blocks(rows));
  StepInput step;
  step.admissions.push_back(admission(0, std::vector<std::int32_t>(static_cast<std::size_t>(rows)),
                                      blocks_from(0, kv_blocks(rows))));
  add_rows(step, 0, 0, rows);

  std::vector<std::vector<float>> results(model.weights.size());
  session.run([&](Session::RankState& state) {
    state.batch.upload(step);
    Residual& residual = state.transformer.residual();
    const Tensor stream = residual.start(rows);
    std::copy(hidden.begin(), hidden.end(), stream.as<float>());
    part(state, state.batch.view());

    std::vector<float>& result = results[static_cast<std::size_t>(state.rank.id())];
    result.resize(2 * hidden.size());
    Tensor normed = stream;
    normed.data = result.data() + hidden.size();
    residual.norm(normed, model.weights.front().norm.tensor, model.config.rms_norm_eps);
    std::copy_n(stream.as<const float>(), hidden.size(), result.begin());
  });
  for (const auto& result : results) EXPECT_SAME_BITS(result, results.front());
  EXPECT_FALSE(std::equal(hidden.begin(), hidden.end(), results.front().begin()));
  return results.front();
}

class SameBits : public testing::TestWithParam<std::tuple<std::string, DType>> {
 protected:
  // Compares what `run` returns on several ranks with what it returns on one.
  template <typename Run>
  void compare(const Run& run) {
    const auto& [name, dtype] = GetParam();
    const std::vector<float> expected = run(load(golden_path(name), 1, dtype));
    for (int ranks : kEvenRanks) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks");
      const LoadedModel model = load(golden_path(name), ranks, dtype);
      ASSERT_TRUE(model.plan.bitwise);
      EXPECT_SAME_BITS(run(model), expected);
    }
  }

  // In every layer: they differ in their windows and weights.
  void compare_part(const std::function<void(Session::RankState&, const BatchView&, int)>& part) {
    compare([&](const LoadedModel& model) {
      std::vector<float> all;
      for (int layer = 0; layer < model.config.num_hidden_layers; ++layer) {
        const auto run = [&](Session::RankState& state, const BatchView& view) {
          part(state, view, layer);
        };
        const std::vector<float> result = run_part(model, 21, run);
        all.insert(all.end(), result.begin(), result.end());
      }
      return all;
    });
  }
};
INSTANTIATE_TEST_SUITE_P(, SameBits,
                         testing::Combine(testing::ValuesIn(even_golden_names()),
                                          testing::Values(DType::kFloat32, DType::kBFloat16,
                                                          DType::kFloat16)),
                         [](const auto& info) {
                           return std::get<0>(info.param) + "_" +
                                  std::string(name_of(std::get<1>(info.param)));
                         });

TEST_P(SameBits, AttentionLayer) {
  compare_part([](Session::RankState& state, const BatchView& view, int layer) {
    state.transformer.attention(layer, view, state.cache.layer(layer));
  });
}

TEST_P(SameBits, FeedForwardLayer) {
  compare_part(
      [](Session::RankState& state, const BatchView&, int layer) { state.transformer.mlp(layer); });
}

TEST_P(SameBits, Block) {
  compare_part([](Session::RankState& state, const BatchView& view, int layer) {
    state.transformer.attention(layer, view, state.cache.layer(layer));
    state.transformer.mlp(layer);
  });
}

TEST_P(SameBits, Forward) {
  compare([&](const LoadedModel& model) {
    return logits_of(model, input_ids(std::get<0>(GetParam())));
  });
}

// Seeded weights in sizes that are closer to a real model's: sums of 72 and 192 products a leaf.
TEST(Dummy, SameBits) {
  const auto checkpoint = dummy_checkpoint(576, 1536, 8, 2, 500);
  const std::vector<std::int32_t> ids = {5, 1, 300, 7, 7, 299, 0, 499, 12, 400, 2};
  const std::vector<float> expected = logits_of(LoadedModel(*checkpoint, 1, DType::kBFloat16), ids);
  for (int ranks : kEvenRanks)
    EXPECT_SAME_BITS(logits_of(LoadedModel(*checkpoint, ranks, DType::kBFloat16), ids), expected);
}

class Uneven : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, Uneven, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

TEST_P(Uneven, EqualsOneRankToRounding) {
  const bool odd = GetParam() == "llama_odd";
  const std::vector<std::int32_t> ids = input_ids(GetParam());
  const std::vector<float> expected = logits_of(load(golden_path(GetParam()), 1), ids);
  for (int ranks : odd ? std::vector{2, 3, 4, 5, 6, 7, 8, 9} : std::vector{3, 5, 6, 7}) {
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    const LoadedModel model = load(golden_path(GetParam()), ranks);
    EXPECT_FALSE(model.plan.bitwise);
    EXPECT_LT(relative_error(logits_of(model, ids), expected), 1e-5);
  }
}

TEST_P(Uneven, MoreRanksThanHeadsIsAnError) {
  const auto checkpoint = open_checkpoint(golden_path(GetParam()));
  const auto ranks = static_cast<int>(checkpoint->config().num_attention_heads) + 1;
  try {
    const LoadedModel model(*checkpoint, ranks, DType::kFloat32);
    FAIL() << ranks << " ranks loaded";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(ranks) + " ranks"));
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(ranks - 1) + " query heads"));
  }
}

// Fewer intermediate features and vocabulary blocks than ranks: some ranks hold none of either.
TEST(Dummy, RanksWithoutFeaturesOrVocabulary) {
  const auto checkpoint = dummy_checkpoint(16, 3, 8, 4, 20);
  const std::vector<std::int32_t> ids = {3, 1, 19, 0, 7};
  const std::vector<float> expected = logits_of(LoadedModel(*checkpoint, 1, DType::kFloat32), ids);
  for (int ranks : {2, 3, 5, 8}) {
    SCOPED_TRACE(testing::Message() << ranks << " ranks");
    const LoadedModel model(*checkpoint, ranks, DType::kFloat32);
    EXPECT_LT(relative_error(logits_of(model, ids), expected), 1e-5);
  }
}

}  // namespace
}  // namespace lockstep::test
