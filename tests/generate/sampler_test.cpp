// The sampler on 1 to 8 ranks against a naive one of one rank.
#include "generate/sampler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "generate/test_model.h"
#include "spmd/team.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// One sequence whose next token is chosen.
struct Row {
  std::vector<float> logits;         // [vocab_size]
  std::vector<std::int32_t> prompt;  // at least one token
  std::vector<std::int32_t> output;  // tokens that were generated already
  SlotSampling sampling;
  std::vector<std::pair<std::int32_t, float>> bias;
};

Row row_of(std::vector<float> logits, const SlotSampling& sampling = {}) {
  return {std::move(logits), {0}, {}, sampling, {}};
}

Row greedy_row(std::vector<float> logits) {
  SlotSampling sampling;
  sampling.temperature = 0;
  return row_of(std::move(logits), sampling);
}

struct Sampled {
  std::vector<std::int32_t> ids;           // by row
  std::vector<std::vector<float>> logits;  // by row: after penalties and bias, [vocab_size]
};

// What the model's part of a step would be: this rank's columns of the rows' logits.
Tensor local_logits(const std::vector<std::vector<float>>& rows, Range vocab,
                    std::vector<float>& storage) {
  storage.clear();
  for (const auto& row : rows)
    storage.insert(storage.end(), row.begin() + vocab.begin, row.begin() + vocab.end);
  return {storage.data(), DType::kFloat32, {std::ssize(rows), vocab.size()}, Device{}};
}

// Chooses one token a row, all rows in one step, after steps that choose the rows' outputs.
Sampled sample(int ranks, const std::vector<Row>& rows) {
  Config config;
  config.vocab_size = std::ssize(rows.front().logits);
  config.num_attention_heads = config.num_key_value_heads = config.head_dim = 64;
  config.intermediate_size = 64;
  const ShardPlan plan = infer_sharding(config, ranks);
  std::size_t num_outputs = 0, longest = 0;
  for (const Row& row : rows) {
    num_outputs = std::max(num_outputs, row.output.size());
    longest = std::max(longest, row.prompt.size() + row.output.size());
  }
  BatchLimits limits;
  limits.max_batch_size = limits.max_rows = limits.max_logit_rows = std::ssize(rows);
  limits.max_length = static_cast<std::int64_t>(longest) + 1;

  Sampled result;
  for (const Row& row : rows) result.logits.emplace_back(row.logits.size());
  Team team(cpu_mesh(ranks));
  team.run("sampling", [&](Rank& rank) {
    Batch batch(rank, limits);
    Sampler sampler(rank, plan, limits);
    const Range vocab = plan.ranks[static_cast<std::size_t>(rank.id())].vocab;
    std::vector<float> storage;
    StepInput admit;
    for (std::size_t i = 0; i < rows.size(); ++i)
      admit.admissions.push_back(
          {static_cast<std::int32_t>(i), rows[i].prompt, {}, rows[i].sampling, rows[i].bias});
    batch.upload(admit);

    for (std::size_t step = 0; step <= num_outputs; ++step) {
      StepInput input;
      input.any_penalty = input.any_filter = true;
      std::vector<std::vector<float>> logits;
      const bool last = step == num_outputs;
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const Row& row = rows[i];
        if (!last && step >= row.output.size()) continue;
        input.slots.push_back(static_cast<std::int32_t>(i));
        input.positions.push_back(
            static_cast<std::int32_t>(row.prompt.size() + std::min(step, row.output.size()) - 1));
        input.logit_rows.push_back(static_cast<std::int32_t>(logits.size()));
        logits.push_back(row.logits);
        if (last) continue;
        std::fill(logits.back().begin(), logits.back().end(), -kInfinity);
        logits.back()[static_cast<std::size_t>(row.output[step])] = 1;
      }
      batch.upload(input);
      const Tensor local = local_logits(logits, vocab, storage);
      sampler.sample(local, batch, input);
      if (!last) continue;
      // Every rank gets the same tokens, and has written its own columns.
      for (std::size_t i = 0; i < rows.size(); ++i)
        std::copy_n(storage.begin() + static_cast<std::int64_t>(i) * vocab.size(), vocab.size(),
                    result.logits[i].begin() + vocab.begin);
      const auto* ids = sampler.ids(std::ssize(rows)).as<const std::int32_t>();
      const std::vector<std::int32_t> mine(ids, ids + rows.size());
      if (rank.id() == 0) result.ids = mine;
      rank.comm().barrier();
      EXPECT_EQ(mine, result.ids) << "rank " << rank.id();
    }
  });
  return result;
}

std::vector<float> random_logits(std::int64_t vocab_size, std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> logits;
  for (std::int64_t i = 0; i < vocab_size; ++i)
    logits.push_back(static_cast<float>(random() % 4096) / 512.0f - 4.0f);
  return logits;
}

// The definition of sampling.h, in as few words as possible.
std::vector<float> penalized(const Row& row) {
  std::vector<float> logits = row.logits;
  for (std::int32_t id = 0; id < std::ssize(logits); ++id) {
    const auto in_prompt = std::count(row.prompt.begin(), row.prompt.end(), id);
    const auto in_output = std::count(row.output.begin(), row.output.end(), id);
    float& logit = logits[static_cast<std::size_t>(id)];
    if (in_prompt + in_output > 0) {
      const float penalty = row.sampling.repetition_penalty;
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
    logit -= row.sampling.frequency_penalty * static_cast<float>(in_output);
    if (in_output > 0) logit -= row.sampling.presence_penalty;
    for (const auto& [biased, bias] : row.bias)
      if (biased == id) logit += bias;
  }
  return logits;
}

// Each token's probability.
std::vector<double> probabilities(const std::vector<float>& logits, const SlotSampling& sampling) {
  struct Token {
    std::size_t id;
    double probability;
  };
  std::vector<Token> tokens;
  double total = 0;
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (std::size_t id = 0; id < logits.size(); ++id) {
    tokens.push_back({id, std::exp((logits[id] - largest) / sampling.temperature)});
    total += tokens.back().probability;
  }
  std::stable_sort(tokens.begin(), tokens.end(),
                   [](const Token& a, const Token& b) { return a.probability > b.probability; });
  const auto keep = [&](const auto& condition) {  // equal ones stay together
    std::size_t count = 1;
    while (count < tokens.size() &&
           (condition(count) || tokens[count].probability == tokens[count - 1].probability))
      ++count;
    tokens.resize(count);
  };
  const double best = tokens.front().probability;
  keep([&](std::size_t i) { return tokens[i].probability >= sampling.min_p * best; });
  if (sampling.top_k > 0)
    keep([&](std::size_t i) { return i < static_cast<std::size_t>(sampling.top_k); });
  if (sampling.top_p < 1) {
    double left = 0, sum = best;
    for (const Token& token : tokens) left += token.probability;
    keep([&](std::size_t i) {
      const bool more = sum < static_cast<double>(sampling.top_p) * left;
      sum += tokens[i].probability;
      return more;
    });
  }
  std::vector<double> result(logits.size());
  double kept = 0;
  for (const Token& token : tokens) kept += token.probability;
  for (const Token& token : tokens) result[token.id] = token.probability / kept;
  return result;
}

// Pearson's statistic minus its mean, in standard deviations. About normal; beyond 5 is no chance.
// Cells that are expected to be nearly empty are taken together.
double chi_square_deviation(const std::vector<std::size_t>& counts,
                            const std::vector<double>& expected) {
  std::size_t draws = 0;
  for (std::size_t count : counts) draws += count;
  double statistic = 0, cells = 0, rare_count = 0, rare_mean = 0;
  const auto add_cell = [&](double count, double mean) {
    statistic += (count - mean) * (count - mean) / mean;
    ++cells;
  };
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double mean = expected[i] * static_cast<double>(draws);
    const auto count = static_cast<double>(counts[i]);
    if (mean == 0)
      EXPECT_EQ(count, 0) << "token " << i << " has no probability";
    else if (mean < 8)
      rare_count += count, rare_mean += mean;
    else
      add_cell(count, mean);
  }
  if (rare_mean > 2) add_cell(rare_count, rare_mean);
  return (statistic - (cells - 1)) / std::sqrt(2 * (cells - 1));
}

std::vector<std::size_t> draw_counts(int ranks, const Row& row, std::size_t draws) {
  std::vector<Row> rows(draws, row);
  for (std::size_t i = 0; i < draws; ++i) rows[i].sampling.seed = 1000 + i;
  std::vector<std::size_t> counts(row.logits.size());
  for (std::int32_t id : sample(ranks, rows).ids) ++counts[static_cast<std::size_t>(id)];
  return counts;
}

TEST(Sampler, GreedyTakesTheLargestAndOfEqualOnesTheLowestId) {
  for (int ranks : {1, 2, 3, 4, 5, 7, 8}) {
    for (std::size_t vocab_size : {1, 15, 20, 131, 200}) {  // empty, short and uneven shards
      std::vector<float> equal(vocab_size, -2.5f), zeros(vocab_size, -0.0f),
          nothing(vocab_size, -kInfinity), last(vocab_size, 1.0f), two(vocab_size, -1.0f);
      zeros.back() = 0.0f;
      last.back() = 1.5f;
      two[vocab_size / 2] = two.back() = 7.0f;
      const Sampled sampled =
          sample(ranks, {greedy_row(equal), greedy_row(zeros), greedy_row(nothing),
                         greedy_row(last), greedy_row(two)});
      EXPECT_EQ(sampled.ids,
                (std::vector<std::int32_t>{0, 0, 0, static_cast<std::int32_t>(vocab_size - 1),
                                           static_cast<std::int32_t>(vocab_size / 2)}))
          << ranks << " ranks, " << vocab_size << " tokens";
    }
  }
}

TEST(Sampler, WhereEveryTokenIsBannedDrawingTakesTheFirstToo) {
  for (int ranks : {1, 3})
    EXPECT_EQ(sample(ranks, {row_of(std::vector<float>(40, -kInfinity))}).ids,
              std::vector<std::int32_t>{0});
}

TEST(Sampler, ALogitThatIsNoNumberIsAnErrorThatNamesTheToken) {
  for (int ranks : {1, 4}) {
    for (std::size_t id : {0, 70, 130}) {
      for (const float temperature : {0.0f, 0.7f}) {
        Row bad = row_of(random_logits(131, 1));
        bad.sampling.temperature = temperature;
        bad.logits[id] = std::numeric_limits<float>::quiet_NaN();
        EXPECT_THAT(error_of([&] {
                      sample(ranks, {row_of(random_logits(131, 2)), bad});
                    }),
                    HasSubstr("the logit of token " + std::to_string(id) + " is not a number"));
      }
    }
  }
}

TEST(Sampler, PenaltiesAndBiasAreTheirDefinition) {
  std::vector<Row> rows;
  for (int i = 0; i < 40; ++i) {
    Row row = row_of(random_logits(131, static_cast<std::uint32_t>(i)));
    row.prompt = some_ids(1 + i % 7, i);
    row.output = some_ids(i % 9, i + 3);
    if (i % 2) row.output.insert(row.output.end(), 3, row.prompt.front());
    row.sampling.repetition_penalty = i % 3 == 0 ? 1.0f : 0.5f + static_cast<float>(i) / 16;
    row.sampling.presence_penalty = i % 4 == 0 ? 0.0f : static_cast<float>(i) / 20 - 1;
    row.sampling.frequency_penalty = i % 5 == 0 ? 0.0f : 1 - static_cast<float>(i) / 20;
    for (std::int32_t id = 0; id < i; ++id)
      row.bias.emplace_back(id * 3, id % 5 ? static_cast<float>(id) / 8 - 2 : -kInfinity);
    rows.push_back(std::move(row));
  }
  for (int ranks : {1, 3, 8}) {
    const Sampled sampled = sample(ranks, rows);
    for (std::size_t i = 0; i < rows.size(); ++i)
      EXPECT_EQ(sampled.logits[i], penalized(rows[i])) << ranks << " ranks, row " << i;
  }
}

// Which tokens stay in the race, exactly.
TEST(Sampler, ThresholdsKeepWhatTopKTopPAndMinPKeep) {
  std::mt19937 random(5);
  const auto any_of = [&](const auto& values) { return values[random() % values.size()]; };
  for (int i = 0; i < 300; ++i) {
    Row row = row_of(random_logits(131, static_cast<std::uint32_t>(i)));
    if (i % 3 == 0)  // many equal ones
      for (float& logit : row.logits) logit = std::round(logit);
    row.sampling.temperature = any_of(std::vector<float>{0.1f, 0.5f, 1.0f, 3.0f});
    row.sampling.top_k = any_of(std::vector<int>{0, 1, 2, 10, 130, 131, 500});
    row.sampling.top_p = any_of(std::vector<float>{1.0f, 0.99f, 0.8f, 0.3f, 1e-6f});
    row.sampling.min_p = any_of(std::vector<float>{0.0f, 0.01f, 0.3f, 1.0f});
    const std::vector<double> expected = probabilities(row.logits, row.sampling);

    Team team(cpu_mesh(1));
    team.run("thresholds", [&](Rank& rank) {
      BatchLimits limits{1, 2, 1, 1};
      Batch batch(rank, limits);
      StepInput input;
      input.admissions.push_back({0, {0}, {}, row.sampling, {}});
      input.slots = input.positions = input.logit_rows = {0};
      batch.upload(input);
      float threshold = 0;
      std::vector<float> storage;
      rank.ops().filter_thresholds({&threshold, DType::kFloat32, {1}, Device{}},
                                   local_logits({row.logits}, {0, 131}, storage), batch.sampling());
      for (std::size_t id = 0; id < expected.size(); ++id)
        EXPECT_EQ(row.logits[id] >= threshold, expected[id] > 0)
            << "case " << i << ", token " << id << ": logit " << row.logits[id] << ", threshold "
            << threshold;
    });
  }
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  constexpr std::size_t kDraws = 8192;
  std::vector<Row> rows;
  for (const float temperature : {0.5f, 1.0f, 2.0f}) {
    rows.push_back(row_of(random_logits(20, 7)));
    rows.back().sampling.temperature = temperature;
  }
  rows.push_back(row_of(random_logits(60, 8)));
  rows.back().sampling.top_k = 12;
  rows.push_back(row_of(random_logits(60, 9)));
  rows.back().sampling.top_p = 0.7f;
  rows.push_back(row_of(random_logits(60, 10)));
  rows.back().sampling.min_p = 0.2f;
  rows.push_back(row_of(random_logits(20, 11)));
  rows.back().bias = {{3, 4.0f}, {4, -kInfinity}};
  rows.back().sampling.repetition_penalty = 2;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    const std::vector<std::size_t> counts = draw_counts(i % 2 ? 3 : 1, row, kDraws);
    EXPECT_LT(chi_square_deviation(counts, probabilities(penalized(row), row.sampling)), 5)
        << "case " << i;
    // The test would see a temperature that is a little off.
    SlotSampling warmer = row.sampling;
    warmer.temperature *= 1.2f;
    if (row.sampling.top_p == 1 && row.sampling.min_p == 0) {
      EXPECT_GT(chi_square_deviation(counts, probabilities(penalized(row), warmer)), 5)
          << "case " << i;
    }
  }
}

// One seed's draws at successive positions are as good as those of many seeds, also in pairs.
TEST(Sampler, DrawsOfOneSeedAreIndependent) {
  constexpr std::size_t kDraws = 8192;
  std::vector<Row> rows;
  for (std::size_t i = 0; i < kDraws; ++i) {
    rows.push_back(row_of({0.0f, 0.5f, 1.0f, -1.0f}));
    rows.back().prompt.assign(1 + i % 512, 0);
    rows.back().sampling.seed = i / 512;  // successive seeds and positions
  }
  const std::vector<std::int32_t> ids = sample(1, rows).ids;
  const std::vector<double> single = probabilities(rows[0].logits, rows[0].sampling);
  std::vector<std::size_t> counts(16);
  std::vector<double> expected;
  for (std::size_t i = 0; i < kDraws; i += 2)
    ++counts[static_cast<std::size_t>(ids[i] * 4 + ids[i + 1])];
  for (double first : single)
    for (double second : single) expected.push_back(first * second);
  EXPECT_LT(chi_square_deviation(counts, expected), 5);
}

TEST(Sampler, TheSameSeedDrawsTheSameOnAnyNumberOfRanksAndInAnyCompany) {
  std::vector<Row> rows;
  for (std::uint32_t i = 0; i < 60; ++i) {
    Row row = row_of(random_logits(131, i));
    row.prompt = some_ids(1 + static_cast<int>(i) % 5);
    row.output = some_ids(static_cast<int>(i) % 4, 2);
    row.sampling.seed = i * 77;
    row.sampling.temperature = i % 6 ? 0.3f * static_cast<float>(i % 6) : 0.0f;
    if (i % 3 == 1) row.sampling.top_p = 0.9f;
    if (i % 4 == 1) row.sampling.top_k = 30;
    if (i % 5 == 1) row.sampling.min_p = 0.02f;
    if (i % 7 == 1) row.sampling.repetition_penalty = 1.3f;
    rows.push_back(std::move(row));
  }
  const Sampled one = sample(1, rows);
  EXPECT_GT(std::set(one.ids.begin(), one.ids.end()).size(), 20u);
  for (int ranks : {2, 3, 4, 5, 8, 16}) {  // 131 tokens are 9 blocks: 16 ranks leave 7 empty
    const Sampled several = sample(ranks, rows);
    EXPECT_EQ(several.ids, one.ids) << ranks << " ranks";
    EXPECT_EQ(several.logits, one.logits) << ranks << " ranks";
  }
  for (std::size_t i = 0; i < rows.size(); i += 7) {
    const std::vector<std::int32_t> alone = sample(2, {rows[i]}).ids;
    EXPECT_EQ(alone, std::vector<std::int32_t>{one.ids[i]}) << "row " << i;
  }
}

}  // namespace
}  // namespace lockstep::test
