// A sequence's logits are the same bits whatever it runs with: alone or among others, in chunks of
// any size, token by token, in any slot and any blocks of the cache.
#include <gmock/gmock.h>

#include <algorithm>
#include <map>
#include <random>

#include "lockstep/error.h"
#include "model/model_harness.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;

std::vector<std::int32_t> input_ids(const std::string& name) {
  return read_tensor<std::int32_t>(golden_path(name) / "expected.safetensors", "input_ids");
}

// On one rank in float32, on four with a 16-bit cache: the paths that differ.
struct Kind {
  int ranks;
  DType dtype;
};
constexpr Kind kKinds[] = {{1, DType::kFloat32}, {4, DType::kBFloat16}};

class Batching : public testing::TestWithParam<std::string> {
 protected:
  template <typename Function>
  void for_each_kind(const Function& function) {
    for (const Kind& kind : kKinds) {
      SCOPED_TRACE(testing::Message() << kind.ranks << " ranks");
      function(load(golden_path(GetParam()), kind.ranks, kind.dtype));
    }
  }
};
INSTANTIATE_TEST_SUITE_P(, Batching, testing::ValuesIn(golden_names()),
                         [](const auto& info) { return info.param; });

// A chunk of 1 is what decoding does.
TEST_P(Batching, ChunksDoNotShow) {
  const std::vector<std::int32_t> ids = input_ids(GetParam());
  const auto length = static_cast<std::int64_t>(ids.size());
  for_each_kind([&](const LoadedModel& model) {
    const std::vector<float> expected = logits_of(model, ids);
    for (std::int64_t chunk : {1, 3, 16, 17, 33}) {
      SCOPED_TRACE(testing::Message() << "chunks of " << chunk);
      Session session(model, {1, length, chunk, chunk}, kv_blocks(length));
      std::vector<float> logits;
      for (std::int64_t begin = 0; begin < length; begin += chunk) {
        StepInput step;
        if (begin == 0)
          step.admissions.push_back(admission(0, ids, blocks_from(0, kv_blocks(length))));
        add_rows(step, 0, begin, std::min(begin + chunk, length));
        const std::vector<float> more = session.forward(step);
        logits.insert(logits.end(), more.begin(), more.end());
      }
      EXPECT_SAME_BITS(logits, expected);
    }
  });
}

// Whether other rows' logits are asked for does not matter either.
TEST_P(Batching, SomeLogitRows) {
  const std::vector<std::int32_t> ids = input_ids(GetParam());
  const auto length = static_cast<std::int64_t>(ids.size());
  for_each_kind([&](const LoadedModel& model) {
    const std::vector<float> all = logits_of(model, ids);
    Session session(model, {1, length, length, 3}, kv_blocks(length));
    StepInput step;
    step.admissions.push_back(admission(0, ids, blocks_from(0, kv_blocks(length))));
    add_rows(step, 0, 0, length);
    step.logit_rows = {0, 18, static_cast<std::int32_t>(length - 1)};
    std::vector<float> expected;
    for (std::int32_t row : step.logit_rows) {
      const auto first = all.begin() + row * model.config.vocab_size;
      expected.insert(expected.end(), first, first + model.config.vocab_size);
    }
    EXPECT_SAME_BITS(session.forward(step), expected);
    step.admissions.clear();
    step.logit_rows.clear();
    EXPECT_TRUE(session.forward(step).empty());
  });
}

// Sequences of several lengths that come and go, in steps of random chunks in random order. Slots
// and blocks are reused, and a sequence's blocks are scattered over the cache.
class Traffic {
 public:
  static constexpr int kSlots = 4;

  Traffic(const LoadedModel& model, const std::vector<std::vector<std::int32_t>>& sequences,
          unsigned seed)
      : model_(model), sequences_(sequences), random_(seed) {
    for (const auto& sequence : sequences)
      max_length_ = std::max(max_length_, static_cast<std::int64_t>(sequence.size()));
    const std::int64_t blocks = kSlots * kv_blocks(max_length_);
    for (std::int32_t block : blocks_from(0, blocks)) free_blocks_.push_back(block);
    logits_.resize(sequences.size());
    session_ = std::make_unique<Session>(
        model, BatchLimits{kSlots, max_length_, kSlots * kMaxChunk, kSlots * kMaxChunk}, blocks);
  }

  // The logits of every sequence, gathered over all steps.
  std::vector<std::vector<float>> run() {
    while (next_ < sequences_.size() || !running_.empty()) step();
    return logits_;
  }

 private:
  static constexpr int kMaxChunk = 20;

  struct Running {
    std::size_t sequence;
    std::int64_t done = 0;
    std::vector<std::int32_t> blocks = {};
  };

  int below(int bound) { return static_cast<int>(random_() % static_cast<unsigned>(bound)); }

  void admit(std::int32_t slot, StepInput& step) {
    Running running{next_++};
    const auto& tokens = sequences_[running.sequence];
    std::shuffle(free_blocks_.begin(), free_blocks_.end(), random_);
    for (std::int64_t i = kv_blocks(static_cast<std::int64_t>(tokens.size())); i > 0; --i) {
      running.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    step.admissions.push_back(admission(slot, tokens, running.blocks));
    running_.emplace(slot, std::move(running));
  }

  void step() {
    StepInput step;
    for (std::int32_t slot = 0; slot < kSlots; ++slot)
      if (!running_.contains(slot) && next_ < sequences_.size() && below(3) != 0) admit(slot, step);
    std::vector<std::int32_t> order;
    for (const auto& [slot, running] : running_) order.push_back(slot);
    std::shuffle(order.begin(), order.end(), random_);
    std::vector<std::pair<std::int32_t, std::int64_t>> chunks;
    for (std::int32_t slot : order) {
      Running& running = running_.at(slot);
      const auto length = static_cast<std::int64_t>(sequences_[running.sequence].size());
      const std::int64_t chunk = below(3) == 0 ? below(kMaxChunk + 1) : 1;  // mostly decoding
      const std::int64_t end = std::min(length, running.done + chunk);
      add_rows(step, slot, running.done, end);
      chunks.emplace_back(slot, end - running.done);
      running.done = end;
    }
    if (step.slots.empty() && step.admissions.empty()) return;
    const std::vector<float> logits = session_->forward(step);
    auto at = logits.begin();
    for (const auto& [slot, rows] : chunks) {
      Running& running = running_.at(slot);
      const auto end = at + rows * model_.config.vocab_size;
      logits_[running.sequence].insert(logits_[running.sequence].end(), at, end);
      at = end;
      if (running.done < static_cast<std::int64_t>(sequences_[running.sequence].size())) continue;
      free_blocks_.insert(free_blocks_.end(), running.blocks.begin(), running.blocks.end());
      running_.erase(slot);
    }
  }

  const LoadedModel& model_;
  const std::vector<std::vector<std::int32_t>>& sequences_;
  std::mt19937 random_;
  std::int64_t max_length_ = 0;
  std::vector<std::int32_t> free_blocks_;
  std::map<std::int32_t, Running> running_;  // by slot
  std::size_t next_ = 0;
  std::vector<std::vector<float>> logits_;
  std::unique_ptr<Session> session_;
};

TEST_P(Batching, NeighboursDoNotShow) {
  const std::vector<std::int32_t> ids = input_ids(GetParam());
  for_each_kind([&](const LoadedModel& model) {
    std::mt19937 random(11);
    std::vector<std::vector<std::int32_t>> sequences = {ids};
    for (std::size_t length : {1, 15, 16, 17, 40, 5, 33, 64}) {
      std::vector<std::int32_t> sequence(length);
      for (std::int32_t& id : sequence)
        id = static_cast<std::int32_t>(random() % static_cast<unsigned>(model.config.vocab_size));
      sequences.push_back(sequence);
    }
    sequences.push_back(ids);
    std::vector<std::vector<float>> expected;
    for (const auto& sequence : sequences) expected.push_back(logits_of(model, sequence));
    for (unsigned seed : {1u, 2u}) {
      SCOPED_TRACE(testing::Message() << "seed " << seed);
      const std::vector<std::vector<float>> logits = Traffic(model, sequences, seed).run();
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "sequence " << i);
        EXPECT_SAME_BITS(logits[i], expected[i]);
      }
    }
  });
}

std::string error_of(Session& session, const StepInput& step) {
  try {
    session.forward(step);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Batch, RejectsWhatDoesNotFit) {
  const LoadedModel model = load(golden_path("llama"), 2);
  Session session(model, {2, 32, 8, 4}, 4);
  const auto expect_error = [&](const StepInput& step, const char* text) {
    EXPECT_THAT(error_of(session, step), HasSubstr(text));
  };
  const StepInput empty;
  StepInput step;
  step.admissions.push_back(admission(2, {1}, {0}));
  expect_error(step, "slot 2 of 2");
  step.admissions[0] = admission(-1, {1}, {0});
  expect_error(step, "slot -1 of 2");
  step.admissions[0] = admission(0, std::vector<std::int32_t>(33, 1), {0, 1});
  expect_error(step, "33 tokens do not fit a slot of 32");
  step.admissions[0] = admission(0, {1}, {0, 1, 2});
  expect_error(step, "3 blocks do not fit a table of 2");
  step.admissions[0] = admission(0, {1}, {0});
  step.admissions[0].logit_bias.resize(kMaxLogitBias + 1);
  expect_error(step, "1025 logit biases");

  step = empty;
  add_rows(step, 0, 0, 9);
  expect_error(step, "9 slots and 9 positions does not fit 8 rows");
  step = empty;
  add_rows(step, 0, 0, 5);
  expect_error(step, "5 logit rows do not fit 4");
  step = empty;
  add_rows(step, 0, 32, 33);
  expect_error(step, "position 32 of 32");
  step = empty;
  add_rows(step, 2, 0, 1);
  expect_error(step, "slot 2 of 2");
  step = empty;
  add_rows(step, 0, 0, 1);
  step.positions.clear();
  expect_error(step, "1 slots and 0 positions");
  step = empty;
  add_rows(step, 0, 0, 2);
  step.logit_rows = {2};
  expect_error(step, "logit row 2 of 2 rows");
}

// A position beyond a sequence's blocks must not reach the blocks of another, not even those that
// the slot's last sequence had.
TEST(Batch, RejectsPositionsWithoutABlock) {
  const LoadedModel model = load(golden_path("llama"), 2);
  Session session(model, {2, 32, 32, 32}, 4);
  StepInput step;
  step.admissions.push_back(admission(0, std::vector<std::int32_t>(32, 1), {0, 1}));
  add_rows(step, 0, 0, 32);
  EXPECT_EQ(error_of(session, step), "");
  step.admissions[0] = admission(0, std::vector<std::int32_t>(16, 1), {2});
  EXPECT_THAT(error_of(session, step), HasSubstr("block 1 of sequence 0 is in place -1"));
  step.admissions[0] = admission(0, std::vector<std::int32_t>(32, 1), {2, 3});
  EXPECT_EQ(error_of(session, step), "");
}

}  // namespace
}  // namespace lockstep::test
