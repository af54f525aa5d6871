// Scheduler: who runs when, and what is given back.
#include "generate/scheduler.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <set>

#include "generate/test_model.h"

namespace lockstep::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using Ids = std::vector<std::int32_t>;

// Four slots of 64 tokens (4 blocks), steps of at most 10 rows.
constexpr BatchLimits kLimits{4, 64, 10, 4};

std::optional<std::int32_t> admit(Scheduler& scheduler, std::int64_t prompt_length,
                                  std::int64_t max_length, const SlotSampling& sampling = {}) {
  return scheduler.admit(Ids(static_cast<std::size_t>(prompt_length), 7), max_length, sampling, {});
}

TEST(Scheduler, StartsIdle) {
  Scheduler scheduler(kLimits, 16);
  EXPECT_TRUE(scheduler.idle());
  EXPECT_THAT(scheduler.next_step().slots, IsEmpty());
}

TEST(Scheduler, APromptIsWorkedOnInChunksThenTokenByToken) {
  Scheduler scheduler(kLimits, 16);
  ASSERT_EQ(admit(scheduler, 23, 30), 0);
  EXPECT_FALSE(scheduler.idle());

  StepInput step = scheduler.next_step();
  ASSERT_EQ(step.admissions.size(), 1u);
  EXPECT_EQ(step.admissions[0].tokens, Ids(23, 7));
  EXPECT_EQ(step.admissions[0].blocks.size(), 2u);
  EXPECT_EQ(step.slots, Ids(10, 0));
  EXPECT_THAT(step.positions, ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9));
  EXPECT_THAT(step.logit_rows, IsEmpty());

  step = scheduler.next_step();
  EXPECT_THAT(step.admissions, IsEmpty());
  EXPECT_EQ(step.positions.front(), 10);
  EXPECT_THAT(step.logit_rows, IsEmpty());

  step = scheduler.next_step();
  EXPECT_THAT(step.positions, ElementsAre(20, 21, 22));
  EXPECT_THAT(step.logit_rows, ElementsAre(2));

  for (int position = 23; position < 29; ++position) {
    step = scheduler.next_step();
    EXPECT_THAT(step.positions, ElementsAre(position));
    EXPECT_THAT(step.logit_rows, ElementsAre(0));
  }
}

TEST(Scheduler, APromptOfOneTokenIsOneStep) {
  Scheduler scheduler(kLimits, 16);
  admit(scheduler, 1, 2);
  const StepInput step = scheduler.next_step();
  EXPECT_EQ(step.admissions.size(), 1u);
  EXPECT_THAT(step.positions, ElementsAre(0));
  EXPECT_THAT(step.logit_rows, ElementsAre(0));
}

TEST(Scheduler, ACompleteSequenceGetsNoRows) {
  Scheduler scheduler(kLimits, 16);
  admit(scheduler, 2, 3);
  EXPECT_EQ(scheduler.next_step().slots.size(), 2u);
  EXPECT_THAT(scheduler.next_step().slots, IsEmpty());
  EXPECT_FALSE(scheduler.idle());
  admit(scheduler, 2, 4);
  const StepInput step = scheduler.next_step();
  EXPECT_EQ(step.slots, Ids(2, 1));
  EXPECT_EQ(step.admissions.size(), 1u);
  EXPECT_EQ(scheduler.next_step().slots, Ids(1, 1));
  EXPECT_THAT(scheduler.next_step().slots, IsEmpty());
  scheduler.release(0);
  scheduler.release(1);
  EXPECT_TRUE(scheduler.idle());
}

TEST(Scheduler, SeveralPromptsShareAStepInTheOrderOfTheirAdmission) {
  Scheduler scheduler(kLimits, 16);
  admit(scheduler, 4, 8);
  admit(scheduler, 8, 20);
  admit(scheduler, 3, 8);
  StepInput step = scheduler.next_step();
  EXPECT_THAT(step.slots, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(step.positions, ElementsAre(0, 1, 2, 3, 0, 1, 2, 3, 4, 5));
  EXPECT_THAT(step.logit_rows, ElementsAre(3));

  scheduler.release(0);
  ASSERT_EQ(admit(scheduler, 5, 8), 0);  // the lowest slot, but the latest admission
  step = scheduler.next_step();
  EXPECT_THAT(step.slots, ElementsAre(1, 1, 2, 2, 2, 0, 0, 0, 0, 0));
  EXPECT_THAT(step.positions, ElementsAre(6, 7, 0, 1, 2, 0, 1, 2, 3, 4));
  EXPECT_THAT(step.logit_rows, ElementsAre(1, 4, 9));
}

TEST(Scheduler, PromptsAndNewTokensTakeTurns) {
  Scheduler scheduler(kLimits, 16);
  admit(scheduler, 2, 60);
  scheduler.next_step();
  admit(scheduler, 40, 60);  // four chunks
  for (int turn = 0; turn < 4; ++turn) {
    // The prompt waited; whoever generates waits at most one step, too.
    StepInput step = scheduler.next_step();
    const bool prefill_first = step.slots.front() == 1;
    StepInput other = scheduler.next_step();
    if (prefill_first) std::swap(step, other);
    EXPECT_EQ(step.slots, Ids(1, 0));
    EXPECT_EQ(other.slots, Ids(10, 1));
  }
  EXPECT_THAT(scheduler.next_step().slots, ElementsAre(0, 1));
}

TEST(Scheduler, AStreamOfNewPromptsStarvesNobody) {
  Scheduler scheduler(kLimits, 16);
  admit(scheduler, 2, 64);
  scheduler.next_step();
  int decoded = 0;
  for (int i = 0; i < 40; ++i) {
    const auto slot = admit(scheduler, 30, 31);
    const StepInput step = scheduler.next_step();
    decoded += step.slots == Ids(1, 0);
    if (slot) scheduler.release(*slot);
  }
  EXPECT_GE(decoded, 19);
}

TEST(Scheduler, OnlyAsManySlotsAsThereAre) {
  Scheduler scheduler(kLimits, 100);
  for (int slot = 0; slot < 4; ++slot) EXPECT_EQ(admit(scheduler, 2, 16), slot);
  EXPECT_EQ(admit(scheduler, 2, 16), std::nullopt);
  scheduler.release(2);
  EXPECT_EQ(admit(scheduler, 2, 16), 2);
}

TEST(Scheduler, BlocksAreOnesOwnAndComeBack) {
  Scheduler scheduler(kLimits, 7);
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(admit(scheduler, 2, 33), 0);  // 3 blocks
    ASSERT_EQ(admit(scheduler, 2, 48), 1);  // 3 blocks
    EXPECT_EQ(admit(scheduler, 2, 17), std::nullopt);
    ASSERT_EQ(admit(scheduler, 2, 16), 2);  // the last one
    std::set<std::int32_t> blocks;
    std::size_t count = 0;
    for (const Admission& admission : scheduler.next_step().admissions) {
      blocks.insert(admission.blocks.begin(), admission.blocks.end());
      count += admission.blocks.size();
    }
    EXPECT_EQ(count, 7u);
    ASSERT_EQ(blocks.size(), 7u);
    EXPECT_EQ(*blocks.begin(), 0);
    EXPECT_EQ(*blocks.rbegin(), 6);
    for (int slot : {1, 0, 2}) scheduler.release(slot);
    EXPECT_TRUE(scheduler.idle());
  }
}

TEST(Scheduler, WhoIsReleasedBeforeTheFirstStepLeavesNothing) {
  Scheduler scheduler(kLimits, 4);
  admit(scheduler, 5, 64);
  scheduler.release(0);
  ASSERT_EQ(admit(scheduler, 3, 64), 0);
  const StepInput step = scheduler.next_step();
  ASSERT_EQ(step.admissions.size(), 1u);
  EXPECT_EQ(step.admissions[0].tokens.size(), 3u);
  EXPECT_THAT(step.positions, ElementsAre(0, 1, 2));
}

TEST(Scheduler, SaysWhatTheSamplerHasToDo) {
  const auto first_step = [](const SlotSampling& sampling,
                             std::vector<std::pair<std::int32_t, float>> bias = {}) {
    Scheduler scheduler(kLimits, 16);
    scheduler.admit({1, 2}, 8, sampling, std::move(bias));
    return scheduler.next_step();
  };
  SlotSampling sampling;
  EXPECT_FALSE(first_step(sampling).any_penalty);
  EXPECT_FALSE(first_step(sampling).any_filter);
  EXPECT_TRUE(first_step(sampling, {{3, 1.0f}}).any_penalty);
  for (float SlotSampling::*penalty :
       {&SlotSampling::repetition_penalty, &SlotSampling::presence_penalty,
        &SlotSampling::frequency_penalty}) {
    SlotSampling penalized;
    penalized.*penalty = 1.5f;
    EXPECT_TRUE(first_step(penalized).any_penalty);
    EXPECT_FALSE(first_step(penalized).any_filter);
  }
  const auto filters = [&](const auto& change) {
    SlotSampling filtered;
    change(filtered);
    const bool warm = first_step(filtered).any_filter;
    filtered.temperature = 0;
    EXPECT_FALSE(first_step(filtered).any_filter) << "greedy";
    return warm;
  };
  EXPECT_TRUE(filters([](SlotSampling& s) { s.top_k = 3; }));
  EXPECT_TRUE(filters([](SlotSampling& s) { s.top_p = 0.5f; }));
  EXPECT_TRUE(filters([](SlotSampling& s) { s.min_p = 0.5f; }));
}

TEST(Scheduler, WhatCanNeverFitIsAnError) {
  Scheduler scheduler(kLimits, 16);
  EXPECT_THAT(error_of([&] { admit(scheduler, 2, 65); }), HasSubstr("does not fit slots of 64"));
  EXPECT_THAT(error_of([&] { admit(scheduler, 9, 8); }), HasSubstr("9 prompt tokens"));
  EXPECT_THAT(error_of([&] { admit(scheduler, 8, 8); }), HasSubstr("8 prompt tokens"));
  EXPECT_THAT(error_of([&] { admit(scheduler, 0, 8); }), HasSubstr("0 prompt tokens"));
  EXPECT_THAT(error_of([&] { scheduler.release(1); }), HasSubstr("slot 1 is free already"));
}

}  // namespace
}  // namespace lockstep::test
