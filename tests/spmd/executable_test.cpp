#include <gmock/gmock.h>

#include <atomic>
#include <cstring>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "lockstep/error.h"
#include "lockstep/spmd.h"
#include "spmd/team.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using Tensors = std::vector<std::vector<Tensor>>;

Mesh cpu_mesh(int ranks) { return Mesh::tensor_parallel(ranks, DeviceType::kCpu); }

Tensor tensor_of(std::vector<float>& values) {
  return {values.data(), DType::kFloat32, {static_cast<std::int64_t>(values.size())}, {}};
}

std::string error_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// The example of spmd.h: out = the sum of every rank's in.
Executable::Step build_sum(Rank& rank) {
  return [&rank](std::span<const Tensor> in, std::span<const Tensor> out) {
    std::memcpy(out[0].data, in[0].data, in[0].bytes());
    rank.comm().all_reduce(out[0]);
  };
}

TEST(Executable, RunsManyTimesWithInputsAndOutputsOfEveryRank) {
  for (int ranks : {1, 3, 4, 8}) {
    Executable sum(cpu_mesh(ranks), build_sum);
    EXPECT_EQ(sum.world_size(), ranks);
    for (std::size_t size : {1, 10, 5000})
      for (int run = 0; run < 100; ++run) {
        std::vector<std::vector<float>> in, out;
        for (int rank = 0; rank < ranks; ++rank) {
          in.emplace_back(size, static_cast<float>(run + rank));
          out.emplace_back(size, -1.f);
        }
        Tensors inputs, outputs;
        for (auto& values : in) inputs.push_back({tensor_of(values)});
        for (auto& values : out) outputs.push_back({tensor_of(values)});
        sum.run(inputs, outputs);
        const auto expected = static_cast<float>(ranks * run + ranks * (ranks - 1) / 2);
        for (const auto& values : out) ASSERT_EQ(values, std::vector<float>(size, expected));
      }
  }
}

TEST(Executable, BuildsOnceAndKeepsItsStateOnTheRanksThread) {
  std::atomic<int> builds = 0;
  std::vector<int> runs(4);
  Executable program(cpu_mesh(4), [&](Rank& rank) -> Executable::Step {
    ++builds;
    rank.comm().barrier();
    return [&, thread = std::this_thread::get_id(), count = 0](auto in, auto out) mutable {
      EXPECT_EQ(thread, std::this_thread::get_id());
      EXPECT_TRUE(in.empty() && out.empty());
      runs[static_cast<std::size_t>(rank.id())] = ++count;
    };
  });
  for (int run = 0; run < 500; ++run) program.run();
  EXPECT_EQ(builds, 4);
  EXPECT_EQ(runs, (std::vector<int>(4, 500)));
}

TEST(Executable, StepsEndOnTheRanksThread) {
  struct Witness {
    std::atomic<int>* good;
    std::thread::id thread = std::this_thread::get_id();
    ~Witness() { *good += thread == std::this_thread::get_id(); }
  };
  std::atomic<int> good = 0;
  const auto build = [&](Rank& rank) -> Executable::Step {
    auto witness = std::make_shared<Witness>(&good);
    if (rank.id() == 2 && good > 0) throw Error("not again");
    return [witness](auto, auto) {};
  };
  {
    Executable program(cpu_mesh(3), build);
    EXPECT_EQ(good, 0);
  }
  EXPECT_EQ(good, 3);
  EXPECT_THROW(Executable(cpu_mesh(3), build), Error);
  EXPECT_EQ(good, 6);
}

TEST(Executable, ABuilderThatThrowsIsNamedAndWakesTheOthers) {
  auto team = std::make_shared<Team>(cpu_mesh(4));
  for (int bad = 0; bad < 4; ++bad) {
    EXPECT_EQ(error_of([&] {
                Executable program(team, [&](Rank& rank) -> Executable::Step {
                  if (rank.id() == bad) throw std::runtime_error("no memory");
                  rank.comm().barrier();
                  return [](auto, auto) {};
                });
              }),
              "rank " + std::to_string(bad) + " (cpu:" + std::to_string(bad) +
                  ") failed in build: no memory");
  }
  EXPECT_THAT(error_of([&] { Executable program(team, [](Rank&) { return nullptr; }); }),
              HasSubstr("failed in build: the builder returned no step"));
  EXPECT_THROW(Executable(team, nullptr), Error);
  EXPECT_THROW(Executable(nullptr, build_sum), Error);
  Executable works(team, [](Rank& rank) { return [&rank](auto, auto) { rank.comm().barrier(); }; });
  works.run();
}

TEST(Executable, CanBeRunAgainAfterAFailure) {
  int bad = -1;
  Executable program(cpu_mesh(5), [&](Rank& rank) {
    // A reference and a sub-group that are kept across failures.
    Comm& comm = rank.comm();
    std::shared_ptr<Comm> group = comm.split(std::vector<std::vector<int>>{{0, 1, 2}, {3, 4}});
    return [&, group](auto, auto) {
      comm.barrier();
      if (rank.id() == bad) throw Error("bad luck");
      group->barrier();
      comm.barrier();
    };
  });
  for (int run = 0; run < 60; ++run) {
    bad = run % 6 - 1;
    const std::string number = std::to_string(bad);
    EXPECT_EQ(error_of([&] { program.run(); }),
              bad < 0 ? "" : "rank " + number + " (cpu:" + number + ") failed in run: bad luck");
  }
}

TEST(Executable, ChecksItsArguments) {
  Executable sum(cpu_mesh(2), build_sum);
  std::vector<float> values(3);
  const Tensors two = {{tensor_of(values)}, {tensor_of(values)}};
  const Tensors three(3);
  EXPECT_THAT(error_of([&] { sum.run(three, two); }),
              HasSubstr("there are 3 lists of inputs for 2 ranks"));
  EXPECT_THAT(error_of([&] { sum.run(two, three); }),
              HasSubstr("there are 3 lists of outputs for 2 ranks"));
  Tensors on_gpu = two;
  on_gpu[1][0].device = {DeviceType::kCuda, 1};
  EXPECT_THAT(error_of([&] { sum.run(two, on_gpu); }),
              HasSubstr("output 0 of rank 1 is on cuda:1, but the rank is on cpu:1"));
}

TEST(Executable, SharesATeamAndMoves) {
  auto team = std::make_shared<Team>(cpu_mesh(3));
  std::atomic<int> ones = 0, tens = 0;
  Executable one(team, [&](Rank&) { return [&](auto, auto) { ++ones; }; });
  Executable ten(team, [&](Rank&) { return [&](auto, auto) { tens += 10; }; });
  Executable moved(std::move(one));
  moved.run();
  ten.run();
  EXPECT_EQ(ones, 3);
  EXPECT_EQ(tens, 30);
  EXPECT_THROW(one.run(), Error);
  EXPECT_THROW(one.world_size(), Error);
  moved = std::move(ten);
  moved.run();
  EXPECT_EQ(ones, 3);
  EXPECT_EQ(tens, 60);
  team.reset();  // the executable keeps it
  moved.run();
  EXPECT_EQ(tens, 90);
}

}  // namespace
}  // namespace lockstep
