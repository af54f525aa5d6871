#include "comm/barrier.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace lockstep {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLong = std::chrono::minutes(1);

TEST(Barrier, NobodyPassesBeforeAllHaveArrived) {
  for (int parties : {1, 2, 5, 8}) {
    Barrier barrier(parties);
    std::vector<int> arrived(static_cast<std::size_t>(parties));  // plain: the barrier orders it
    std::atomic<int> early = 0;
    {
      std::vector<std::jthread> threads;
      for (int party = 0; party < parties; ++party)
        threads.emplace_back([&, party] {
          for (int round = 1; round <= 500; ++round) {
            arrived[static_cast<std::size_t>(party)] = round;
            EXPECT_EQ(barrier.wait(*barrier.arrive(), kLong), Barrier::Outcome::kPassed);
            for (int other : arrived) early += other != round;
            barrier.complete();
          }
        });
    }
    EXPECT_EQ(early, 0);
  }
}

TEST(Barrier, TimesOutAndCanBeWaitedForAgain) {
  Barrier barrier(2);
  const auto round = barrier.arrive();
  EXPECT_EQ(barrier.wait(*round, milliseconds(5)), Barrier::Outcome::kTimedOut);
  EXPECT_TRUE(barrier.arrive());
  EXPECT_EQ(barrier.wait(*round, milliseconds(5)), Barrier::Outcome::kPassed);
}

TEST(Barrier, AbortWakesWaitersAndLastsUntilReset) {
  Barrier barrier(3);
  {
    std::vector<std::jthread> threads;
    for (int party = 0; party < 2; ++party)
      threads.emplace_back(
          [&] { EXPECT_EQ(barrier.wait(*barrier.arrive(), kLong), Barrier::Outcome::kAborted); });
    std::this_thread::sleep_for(milliseconds(20));
    barrier.abort();
  }
  EXPECT_TRUE(barrier.aborted());
  EXPECT_FALSE(barrier.arrive());
  barrier.reset();
  EXPECT_FALSE(barrier.aborted());
  EXPECT_TRUE(barrier.arrive());
}

TEST(Barrier, ARoundThatIsOverIsPassedEvenIfAbortedSince) {
  Barrier barrier(2);
  const auto round = barrier.arrive();
  barrier.arrive();
  barrier.abort();
  EXPECT_EQ(barrier.wait(*round, kLong), Barrier::Outcome::kPassed);
}

TEST(Barrier, CompletesThoughAborted) {
  Barrier barrier(4);
  barrier.abort();
  std::atomic<int> completed = 0;
  {
    std::vector<std::jthread> threads;
    for (int party = 0; party < 4; ++party)
      threads.emplace_back([&] {
        barrier.complete();
        ++completed;
      });
  }
  EXPECT_EQ(completed, 4);
  EXPECT_TRUE(barrier.aborted());
}

}  // namespace
}  // namespace lockstep
