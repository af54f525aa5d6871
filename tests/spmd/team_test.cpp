#include "spmd/team.h"

#include <gmock/gmock.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <stdexcept>
#include <thread>
#include <vector>

#include "lockstep/error.h"
#include "ops/ops.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

Mesh cpu_mesh(int ranks) { return Mesh::tensor_parallel(ranks, DeviceType::kCpu); }

// What a run throws; empty if it does not.
std::string error_of(Team& team, const std::string& what,
                     const std::function<void(Rank&)>& function) {
  try {
    team.run(what, function);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void all_reduce_ones(Comm& comm) {
  std::vector<std::int32_t> data(9000, 1);
  for (std::int64_t size : {5, 9000}) {
    comm.all_reduce({data.data(), DType::kInt32, {size}, {}});
    ASSERT_EQ(data[0], size == 5 ? comm.world_size() : comm.world_size() * comm.world_size());
  }
}

void expect_works(Team& team) {
  std::atomic<int> ranks = 0;
  EXPECT_EQ(error_of(team, "check",
                     [&](Rank& rank) {
                       all_reduce_ones(rank.comm());
                       ++ranks;
                     }),
            "");
  EXPECT_EQ(ranks, team.world_size());
}

TEST(Team, RunsOnPersistentNamedThreads) {
  for (int ranks : {1, 2, 4, 8}) {
    Team team(cpu_mesh(ranks));
    EXPECT_EQ(team.world_size(), ranks);
    EXPECT_EQ(to_string(team.mesh()), to_string(cpu_mesh(ranks)));
    std::vector<std::thread::id> threads(static_cast<std::size_t>(ranks));
    for (int run = 0; run < 3; ++run)
      team.run("look", [&](Rank& rank) {
        ASSERT_TRUE(0 <= rank.id() && rank.id() < ranks);
        auto& thread = threads[static_cast<std::size_t>(rank.id())];
        if (run == 0) thread = std::this_thread::get_id();
        EXPECT_EQ(thread, std::this_thread::get_id());
        char name[16] = {};
        pthread_getname_np(pthread_self(), name, sizeof(name));
        EXPECT_EQ(name, "lockstep/rank" + std::to_string(rank.id()));
        EXPECT_EQ(rank.world_size(), ranks);
        EXPECT_EQ(rank.comm().rank(), rank.id());
        EXPECT_EQ(rank.comm().world_size(), ranks);
        EXPECT_EQ(rank.device(), (Device{DeviceType::kCpu, rank.id()}));
        EXPECT_EQ(rank.stream(), nullptr);
        EXPECT_EQ(rank.ops().allocate(12).bytes(), 12u);
      });
    std::sort(threads.begin(), threads.end());
    EXPECT_EQ(std::adjacent_find(threads.begin(), threads.end()), threads.end());
    expect_works(team);
  }
}

TEST(Team, WhatARunWroteIsVisibleToItsCaller) {
  Team team(cpu_mesh(3));
  std::vector<int> counts(3);  // plain: run() orders it
  for (int run = 0; run < 2000; ++run)
    team.run("count", [&](Rank& rank) { ++counts[static_cast<std::size_t>(rank.id())]; });
  EXPECT_EQ(counts, (std::vector<int>{2000, 2000, 2000}));
}

TEST(Team, TheRankThatThrowsIsNamedAndTheTeamGoesOn) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    Team team(cpu_mesh(ranks));
    for (int bad = 0; bad < ranks; ++bad) {
      // Before, between and after collectives of the others.
      for (int throw_at = 0; throw_at < 3; ++throw_at) {
        const std::string error = error_of(team, "decode", [&](Rank& rank) {
          for (int step = 0; step < 3; ++step) {
            if (rank.id() == bad && step == throw_at) throw std::runtime_error("out of luck");
            all_reduce_ones(rank.comm());
          }
        });
        const std::string number = std::to_string(bad);
        EXPECT_EQ(error, "rank " + number + " (cpu:" + number + ") failed in decode: out of luck");
      }
      expect_works(team);
    }
  }
}

TEST(Team, AFailureWithoutCollectivesIsReportedToo) {
  Team team(cpu_mesh(4));
  for (int run = 0; run < 200; ++run) {
    EXPECT_EQ(error_of(team, "load",
                       [&](Rank& rank) {
                         if (rank.id() == run % 4) throw Error("no such file");
                       }),
              "rank " + std::to_string(run % 4) + " (cpu:" + std::to_string(run % 4) +
                  ") failed in load: no such file");
  }
  expect_works(team);
}

TEST(Team, TheFirstOfSeveralErrorsWins) {
  Team team(cpu_mesh(4));
  const std::string error = error_of(team, "decode", [&](Rank& rank) {
    if (rank.id() == 3) throw Error("the cause");
    try {
      rank.comm().barrier();
    } catch (const Error& woken) {
      EXPECT_THAT(woken.what(), HasSubstr("rank 3 (cpu:3) failed in decode: the cause"));
      throw Error("a consequence");
    }
  });
  EXPECT_EQ(error, "rank 3 (cpu:3) failed in decode: the cause");
}

TEST(Team, ThingsThatAreNoExceptionsCanBeThrown) {
  Team team(cpu_mesh(2));
  EXPECT_EQ(error_of(team, "decode",
                     [](Rank& rank) {
                       if (rank.id() == 1) throw 42;
                       rank.comm().barrier();
                     }),
            "rank 1 (cpu:1) failed in decode: an exception that is not a std::exception");
  expect_works(team);
}

TEST(Team, DisagreeingRanksAreAnError) {
  Team team(cpu_mesh(3));
  EXPECT_THAT(error_of(team, "decode",
                       [](Rank& rank) {
                         if (rank.id() == 1)
                           rank.comm().barrier();
                         else
                           all_reduce_ones(rank.comm());
                       }),
              HasSubstr("rank 1 called barrier()"));
  expect_works(team);
}

TEST(Team, SubGroupsSurviveAFailure) {
  Team team(cpu_mesh(5));
  std::vector<std::unique_ptr<Comm>> groups(5);
  const auto of = [&](Rank& rank) -> Comm& { return *groups[static_cast<std::size_t>(rank.id())]; };
  team.run("split", [&](Rank& rank) {
    groups[static_cast<std::size_t>(rank.id())] =
        rank.comm().split(std::vector<std::vector<int>>{{0, 1}, {2, 3, 4}});
  });
  for (int run = 0; run < 20; ++run) {
    EXPECT_EQ(error_of(team, "decode",
                       [&](Rank& rank) {
                         all_reduce_ones(of(rank));
                         if (rank.id() == 2) throw Error("oh");
                         of(rank).barrier();
                         rank.comm().barrier();
                       }),
              "rank 2 (cpu:2) failed in decode: oh");
    team.run("decode", [&](Rank& rank) { all_reduce_ones(of(rank)); });
  }
  expect_works(team);
}

TEST(Team, RunFromARankIsAnErrorNotADeadlock) {
  Team team(cpu_mesh(2));
  Team other(cpu_mesh(2));
  for (Team* inner : {&team, &other})
    EXPECT_THAT(error_of(team, "outer",
                         [&](Rank& rank) {
                           if (rank.id() == 1) inner->run("inner", [](Rank&) {});
                           rank.comm().barrier();
                         }),
                HasSubstr("rank 1 (cpu:1) failed in outer: rank 1 (cpu:1) cannot start \"inner\""));
  expect_works(team);
  expect_works(other);
}

TEST(Team, AnEmptyFunctionIsAnError) {
  Team team(cpu_mesh(1));
  EXPECT_THROW(team.run("nothing", nullptr), Error);
  expect_works(team);
}

TEST(Team, CallersOfSeveralThreadsTakeTurns) {
  Team team(cpu_mesh(4));
  std::atomic<int> inside = 0;
  std::atomic<int> overlaps = 0;
  std::vector<int> totals(4);
  {
    std::vector<std::jthread> callers;
    for (int caller = 0; caller < 4; ++caller)
      callers.emplace_back([&, caller] {
        for (int run = 0; run < 100; ++run) {
          const std::string error = error_of(team, "work", [&](Rank& rank) {
            if (rank.id() == 0) overlaps += inside++ != 0;
            rank.comm().barrier();
            if (rank.id() == 0) --inside;
            ++totals[static_cast<std::size_t>(rank.id())];
            if (run % 10 == 0 && rank.id() == caller) throw Error("mine");
            rank.comm().barrier();
          });
          if (run % 10 == 0) {
            EXPECT_EQ(error, "rank " + std::to_string(caller) + " (cpu:" + std::to_string(caller) +
                                 ") failed in work: mine");
          } else {
            EXPECT_EQ(error, "");
          }
        }
      });
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(totals, (std::vector<int>(4, 400)));
}

TEST(Team, ALateRankIsNamedAfterTheTimeOut) {
  setenv("LOCKSTEP_TIMEOUT_SECONDS", "1", 1);
  Team team(cpu_mesh(3));
  unsetenv("LOCKSTEP_TIMEOUT_SECONDS");
  std::atomic<bool> woken = false;
  const std::string error = error_of(team, "decode", [&](Rank& rank) {
    if (rank.id() == 1) {
      while (!woken) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    } else {
      try {
        rank.comm().barrier();
      } catch (const Error&) {
        woken = true;
        throw;
      }
    }
  });
  EXPECT_THAT(error, HasSubstr("failed in decode: rank 1 did not arrive at collective 1, "
                               "barrier(), within 1 seconds of rank "));
  expect_works(team);
}

TEST(Team, ABadTimeOutIsAnErrorOfTheConstructor) {
  setenv("LOCKSTEP_TIMEOUT_SECONDS", "soon", 1);
  EXPECT_THROW(Team(cpu_mesh(2)), Error);
  unsetenv("LOCKSTEP_TIMEOUT_SECONDS");
}

TEST(Team, ManyTeamsComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    Team idle(cpu_mesh(1 + i % 8));
    Team team(cpu_mesh(1 + i % 3));
    expect_works(team);
  }
  Team large(cpu_mesh(Mesh::kMaxWorldSize));
  expect_works(large);
}

TEST(Team, IdleRanksUseNoProcessor) {
  Team team(cpu_mesh(8));
  expect_works(team);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  const std::clock_t before = std::clock();  // of all threads of the process
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  // Eight ranks that spin would use the time of every core: at least 0.4 s.
  EXPECT_LT(std::clock() - before, CLOCKS_PER_SEC / 10);
}

}  // namespace
}  // namespace lockstep
