// Sampling, against the CPU's, and over shards of the vocabulary.
#include <algorithm>
#include <cstring>
#include <functional>

#include "core/check.h"
#include "cuda/harness.h"
#include "ops/sampling_keys.h"

namespace lockstep::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The slots of a batch, in host memory; views of it there and on the GPU.
struct Slots {
  std::vector<std::int32_t> slots, positions, tokens, bias_ids;
  std::vector<float> bias_values;
  std::vector<std::uint8_t> parameters;
  std::int64_t count, max_length;
};

class Sampling : public OnGpu {
 protected:
  // One row a slot, in reversed order; row r's slot has the history of so many tokens.
  Slots make_slots(const std::vector<SlotSampling>& sampling, std::int64_t max_length,
                   std::int64_t vocab, std::uint32_t seed = 1) {
    Slots s;
    s.count = static_cast<std::int64_t>(sampling.size());
    s.max_length = max_length;
    std::mt19937 random(seed);
    s.tokens.resize(size(s.count * max_length));
    for (auto& token : s.tokens)  // of a few tokens, so that they repeat
      token = static_cast<std::int32_t>(random() % 3 == 0 ? random() % size(vocab)
                                                          : random() % 50 * 7 % size(vocab));
    s.bias_ids.resize(size(s.count * kMaxLogitBias));
    s.bias_values = noise(s.count * kMaxLogitBias, seed + 1, 5.0f);
    for (auto& id : s.bias_ids) id = static_cast<std::int32_t>(random() % size(vocab));
    s.parameters.resize(sampling.size() * sizeof(SlotSampling));
    std::memcpy(s.parameters.data(), sampling.data(), s.parameters.size());
    for (std::int64_t row = 0; row < s.count; ++row) {
      s.slots.push_back(static_cast<std::int32_t>(s.count - 1 - row));
      s.positions.push_back(static_cast<std::int32_t>(max_length - 1 - row % max_length));
    }
    return s;
  }

  static SamplingView cpu_view(Slots& s) {
    return {s.count,
            host(s.slots, {s.count}),
            host(s.positions, {s.count}),
            host(s.tokens, {s.count, s.max_length}),
            host(s.parameters, {s.count, static_cast<std::int64_t>(sizeof(SlotSampling))}),
            host(s.bias_ids, {s.count, kMaxLogitBias}),
            host(s.bias_values, {s.count, kMaxLogitBias})};
  }
  SamplingView gpu_view(const Slots& s) {
    return {s.count,
            put(s.slots, {s.count}),
            put(s.positions, {s.count}),
            put(s.tokens, {s.count, s.max_length}),
            put(s.parameters, {s.count, static_cast<std::int64_t>(sizeof(SlotSampling))}),
            put(s.bias_ids, {s.count, kMaxLogitBias}),
            put(s.bias_values, {s.count, kMaxLogitBias})};
  }

  std::vector<float> thresholds(const std::vector<SlotSampling>& sampling,
                                const std::vector<float>& logits, std::int64_t vocab) {
    Slots slots = make_slots(sampling, 4, vocab);
    std::reverse(slots.slots.begin(), slots.slots.end());  // row r has sampling[r]
    const Tensor out = poisoned(DType::kFloat32, {slots.count});
    gpu().filter_thresholds(out, put(logits, {slots.count, vocab}), gpu_view(slots));
    return floats(out);
  }
  std::vector<float> cpu_thresholds(const std::vector<SlotSampling>& sampling,
                                    std::vector<float> logits, std::int64_t vocab) {
    Slots slots = make_slots(sampling, 4, vocab);
    std::reverse(slots.slots.begin(), slots.slots.end());
    std::vector<float> out(sampling.size());
    cpu().filter_thresholds(host(out, {slots.count}), host(logits, {slots.count, vocab}),
                            cpu_view(slots));
    return out;
  }
};

TEST_F(Sampling, PenaltiesAreTheCpus) {
  for (std::int64_t vocab : {50, 1000, 20000}) {
    for (std::int64_t first_id : {std::int64_t{0}, vocab / 3}) {
      std::vector<SlotSampling> sampling(9);
      for (std::size_t i = 0; i < sampling.size(); ++i) {
        sampling[i].repetition_penalty = i % 3 == 0 ? 1.0f : 1.3f;
        sampling[i].presence_penalty = i % 4 == 0 ? 0.0f : 0.7f;
        sampling[i].frequency_penalty = i % 5 == 0 ? 0.0f : -0.3f;
        sampling[i].prompt_length = static_cast<std::int32_t>(100 * i);
        sampling[i].num_bias = i == 1 ? 1024 : static_cast<std::int32_t>(3 * i);
      }
      Slots slots = make_slots(sampling, 1000, vocab);
      const std::int64_t columns = vocab - first_id;
      std::vector<float> logits = noise(slots.count * columns, 3, 4.0f);
      const Tensor gpu_logits = put(logits, {slots.count, columns});
      gpu().penalize(gpu_logits, first_id, gpu_view(slots));
      cpu().penalize(host(logits, {slots.count, columns}), first_id, cpu_view(slots));
      EXPECT_TRUE(same_bits(logits, floats(gpu_logits))) << vocab << " from " << first_id;
    }
  }
}

TEST_F(Sampling, TopKIsExact) {
  const std::int64_t vocab = 5003;
  std::vector<SlotSampling> sampling;
  for (std::int32_t k : {0, 1, 2, 40, 1000, 5002, 5003, 6000}) {
    sampling.emplace_back();
    sampling.back().top_k = k;
  }
  std::vector<float> logits = noise(vocab * 8, 4, 3.0f);
  for (std::size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // ties
  EXPECT_TRUE(
      same_bits(cpu_thresholds(sampling, logits, vocab), thresholds(sampling, logits, vocab)));
}

TEST_F(Sampling, TopKOfAwkwardNumbers) {
  std::vector<SlotSampling> sampling(6);
  for (std::size_t i = 0; i < 6; ++i) sampling[i].top_k = static_cast<std::int32_t>(i + 1);
  const std::vector<float> row = {-kInfinity, 0.0f, -0.0f, 1e-42f, -1e-42f, 3e38f, -3e38f};
  std::vector<float> logits;
  for (int i = 0; i < 6; ++i) logits.insert(logits.end(), row.begin(), row.end());
  const std::vector<float> expected = cpu_thresholds(sampling, logits, 7);
  const std::vector<float> found = thresholds(sampling, logits, 7);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(expected[i], found[i]) << i;  // -0 is 0
}

TEST_F(Sampling, MinPMatchesTheCpu) {
  std::vector<SlotSampling> sampling(3);
  sampling[0].min_p = 0.05f;
  sampling[1].min_p = 1.0f;
  sampling[2].min_p = 0.2f;
  sampling[2].temperature = 0.3f;
  const std::vector<float> logits = noise(3 * 3000, 5, 3.0f);
  const std::vector<float> expected = cpu_thresholds(sampling, logits, 3000);
  const std::vector<float> found = thresholds(sampling, logits, 3000);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(expected[i], found[i], 1e-5) << i;
}

// The kept tokens come to top_p, and without the least of them they would not.
TEST_F(Sampling, TopPKeepsWhatItMust) {
  const std::int64_t vocab = 32000, rows = 8;
  std::vector<SlotSampling> sampling(size(rows));
  const float top_p[] = {0.9f, 0.5f, 0.999f, 0.01f, 0.95f, 0.7f, 1e-6f, 0.8f};
  for (std::size_t i = 0; i < size(rows); ++i) {
    sampling[i].top_p = top_p[i];
    sampling[i].temperature = i % 2 == 0 ? 1.0f : 0.6f;
    if (i >= 4) sampling[i].top_k = 500;
    if (i == 7) sampling[i].min_p = 0.01f;
  }
  std::vector<float> logits = noise(rows * vocab, 6, 2.5f);
  std::fill(logits.begin(), logits.begin() + 1000, -kInfinity);
  const std::vector<float> found = thresholds(sampling, logits, vocab);
  for (std::int64_t row = 0; row < rows; ++row) {
    const SlotSampling& s = sampling[size(row)];
    std::vector<float> kept(logits.begin() + row * vocab, logits.begin() + (row + 1) * vocab);
    std::sort(kept.begin(), kept.end(), std::greater<>());
    if (s.min_p > 0)
      std::erase_if(kept, [least = kept[0] + s.temperature * std::log(s.min_p)](float value) {
        return value < least;
      });
    if (s.top_k > 0 && kept.size() > size(s.top_k)) kept.resize(size(s.top_k));
    double total = 0, at_least = 0, above = 0;
    for (float value : kept) {
      const double weight = std::exp((static_cast<double>(value) - kept[0]) / s.temperature);
      total += weight;
      if (value >= found[size(row)]) at_least += weight;
      if (value > found[size(row)]) above += weight;
    }
    EXPECT_NE(std::find(kept.begin(), kept.end(), found[size(row)]), kept.end()) << row;
    EXPECT_GE(at_least, (s.top_p - 1e-6) * total) << row;
    EXPECT_LT(above, (s.top_p + 1e-6) * total) << row;
  }
  EXPECT_TRUE(same_bits(found, thresholds(sampling, logits, vocab)));  // whoever comes first
}

TEST_F(Sampling, NoFilterAndGreedyHaveNoThreshold) {
  std::vector<SlotSampling> sampling(2);
  sampling[1].temperature = 0;
  sampling[1].top_k = 3;
  EXPECT_EQ(thresholds(sampling, noise(200, 7), 100), (std::vector<float>{-kInfinity, -kInfinity}));
}

// Draws of the whole vocabulary and of its shards.
TEST_F(Sampling, DrawsAreTheCpusOnAnyShards) {
  const std::int64_t vocab = 10007;
  for (std::int64_t rows : kRowCounts) {
    std::vector<SlotSampling> sampling(size(rows));
    for (std::size_t i = 0; i < sampling.size(); ++i) {
      sampling[i].temperature = i % 3 == 0 ? 0.0f : 0.5f * static_cast<float>(i % 3);
      sampling[i].seed = 1234567 * i + 89;
    }
    Slots slots = make_slots(sampling, 50, vocab);
    std::vector<float> logits = noise(rows * vocab, static_cast<unsigned>(rows), 3.0f);
    for (std::int64_t i = 0; i < rows; ++i) logits[size(i * vocab + 3)] = -kInfinity;
    std::vector<float> least(size(rows));
    for (std::size_t i = 0; i < least.size(); ++i) least[i] = i % 2 == 0 ? -kInfinity : 2.0f;
    const SamplingView view = gpu_view(slots);
    const Tensor keys = make(DType::kInt64, {rows}), limits = put(least, {rows});
    gpu().draw(keys, put(logits, {rows, vocab}), 0, &limits, view);
    const std::vector<std::int64_t> whole = get<std::int64_t>(keys);

    std::vector<std::int64_t> expected(size(rows));
    const Tensor cpu_limits = host(least, {rows});
    cpu().draw(host(expected, {rows}), host(logits, {rows, vocab}), 0, &cpu_limits,
               cpu_view(slots));
    for (std::size_t i = 0; i < size(rows); ++i) {
      EXPECT_EQ(sampling::candidate_id(expected[i]), sampling::candidate_id(whole[i])) << i;
      // The GPU's logarithm may differ in its last bits.
      EXPECT_LE(std::abs((expected[i] >> 32) - (whole[i] >> 32)), 4) << i;
      if (sampling[size(rows) - 1 - i].temperature == 0) {
        EXPECT_EQ(expected[i], whole[i]) << i;
      }
    }

    std::vector<std::int64_t> best(size(rows), std::numeric_limits<std::int64_t>::min());
    for (std::int64_t begin = 0; begin < vocab; begin += 3333) {
      const std::int64_t columns = std::min<std::int64_t>(3333, vocab - begin);
      std::vector<float> shard;
      for (std::int64_t row = 0; row < rows; ++row) {
        const auto first = logits.begin() + row * vocab + begin;
        shard.insert(shard.end(), first, first + columns);
      }
      gpu().draw(keys, put(shard, {rows, columns}), begin, &limits, view);
      const std::vector<std::int64_t> local = get<std::int64_t>(keys);
      for (std::size_t i = 0; i < local.size(); ++i) best[i] = std::max(best[i], local[i]);
    }
    EXPECT_EQ(best, whole);
  }
}

TEST_F(Sampling, GreedyTakesTheFirstOfEqualLogits) {
  std::vector<SlotSampling> sampling(2);
  for (SlotSampling& s : sampling) s.temperature = 0;
  Slots slots = make_slots(sampling, 4, 3000);
  std::vector<float> logits(6000, -1.0f);
  logits[2900] = logits[700] = 5.0f;
  std::fill(logits.begin() + 3000, logits.end(), -0.0f);
  logits[3000 + 1500] = 0.0f;
  const Tensor keys = make(DType::kInt64, {2});
  gpu().draw(keys, put(logits, {2, 3000}), 0, nullptr, gpu_view(slots));
  const std::vector<std::int64_t> found = get<std::int64_t>(keys);
  EXPECT_EQ(sampling::candidate_id(found[0]), 700);
  EXPECT_EQ(sampling::candidate_id(found[1]), 0);
}

TEST_F(Sampling, TokensAreAppendedAndFailuresHaveNegativeIds) {
  std::vector<SlotSampling> sampling(4);
  for (SlotSampling& s : sampling) s.temperature = 1.0f;
  sampling[0].temperature = 0;
  Slots slots = make_slots(sampling, 10, 2000);
  slots.positions = {3, 9, 5, 6};
  slots.slots = {2, 3, 1, 0};
  std::vector<float> logits = noise(4 * 2000, 9);
  logits[5] = 100.0f;
  logits[2000 + 7] = 100.0f;
  std::fill(logits.begin() + 4000, logits.begin() + 6000, -kInfinity);  // no candidate
  logits[6000 + 1234] = kNaN;
  const SamplingView view = gpu_view(slots);
  const Tensor keys = make(DType::kInt64, {4}), ids = make(DType::kInt32, {4});
  gpu().draw(keys, put(logits, {4, 2000}), 0, nullptr, view);
  gpu().append_tokens(ids, keys, view);
  EXPECT_EQ(get<std::int32_t>(ids),
            (std::vector<std::int32_t>{5, 7, sampling::kNoCandidateId, sampling::kNotANumberId}));
  std::vector<std::int32_t> expected = slots.tokens;
  expected[2 * 10 + 4] = 5;  // the second row's sequence is full
  expected[1 * 10 + 6] = 0;
  expected[0 * 10 + 7] = 0;
  EXPECT_EQ(get<std::int32_t>(view.tokens), expected);
}

}  // namespace
}  // namespace lockstep::test
