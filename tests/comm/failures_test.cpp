// What happens when a rank fails, disagrees or does not come.
#include <sys/resource.h>

#include <cstdlib>
#include <utility>

#include "run_ranks.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;

// Every collective, small and large.
const std::vector<std::pair<const char*, std::function<void(Comm&)>>> kCollectives = {
    {"all_reduce(sum, 3 x float32)",
     [](Comm& comm) {
       std::vector<float> data(3);
       comm.all_reduce(tensor_of(data));
     }},
    {"all_reduce(sum, 5000 x int32)",
     [](Comm& comm) {
       std::vector<std::int32_t> data(5000);
       comm.all_reduce(tensor_of(data));
     }},
    {"all_gather(3 x float32)",
     [](Comm& comm) {
       std::vector<float> in(3), out(3 * static_cast<std::size_t>(comm.world_size()));
       comm.all_gather(tensor_of(out), tensor_of(in));
     }},
    {"all_gather(9000 x float32)",
     [](Comm& comm) {
       std::vector<float> in(9000), out(9000 * static_cast<std::size_t>(comm.world_size()));
       comm.all_gather(tensor_of(out), tensor_of(in));
     }},
    {"broadcast(3 x float32, root 0)",
     [](Comm& comm) {
       std::vector<float> data(3);
       comm.broadcast(tensor_of(data), 0);
     }},
    {"broadcast(8000 x int64, root 0)",
     [](Comm& comm) {
       std::vector<std::int64_t> data(8000);
       comm.broadcast(tensor_of(data), 0);
     }},
    {"barrier()", [](Comm& comm) { comm.barrier(); }},
    {"split({0})", [](Comm& comm) { comm.split(std::vector<std::vector<int>>{{0}}); }},
};

TEST(ThreadCommFailure, ARankThatAbortsWakesAllOthers) {
  for (const auto& [name, collective] : kCollectives)
    for (int ranks = 1; ranks <= 8; ++ranks) {
      const Comms comms = make_thread_comms(ranks);
      const int bad = ranks / 2;
      const auto errors = run_ranks(comms, [&](Comm& comm) {
        collective(comm);
        if (comm.rank() == bad) comm.abort("rank " + std::to_string(bad) + " broke");
        collective(comm);
      });
      EXPECT_THAT(errors, Each("rank " + std::to_string(bad) + " broke")) << name;
      // It lasts, and the first reason stays.
      comms[0]->abort("something else");
      EXPECT_THAT(run_ranks(comms, collective), Each(errors[0]));
      // Until it is undone.
      for (const auto& comm : comms) comm->reset();
      run_all(comms, collective);
    }
}

TEST(ThreadCommFailure, TheCollectivesOfAllRanksAreAbortedAtTheSamePlace) {
  for (const auto& [name, collective] : kCollectives) {
    for (int repeat = 0; repeat < 5; ++repeat) {
      const Comms comms = make_thread_comms(4);
      std::vector<int> completed(4);
      std::jthread aborter([&] {
        std::this_thread::sleep_for(milliseconds(2 + repeat));
        comms[1]->abort("from outside");
      });
      const auto errors = run_ranks(comms, [&](Comm& comm) {
        while (true) {
          collective(comm);
          ++completed[static_cast<std::size_t>(comm.rank())];
        }
      });
      EXPECT_THAT(errors, Each("from outside"));
      EXPECT_THAT(completed, Each(completed[0])) << name;
    }
  }
}

TEST(ThreadCommFailure, AbortReachesParentsAndSubGroups) {
  const std::vector<std::vector<int>> halves = {{0, 1}, {2, 3}};
  for (bool in_sub_group : {false, true}) {
    const Comms comms = make_thread_comms(4);
    Comms groups(4);
    const auto errors = run_ranks(comms, [&](Comm& comm) {
      auto& group = groups[static_cast<std::size_t>(comm.rank())];
      group = comm.split(halves);
      comm.barrier();
      if (comm.rank() == 3) {
        std::this_thread::sleep_for(milliseconds(5));
        (in_sub_group ? *group : comm).abort("rank 3 broke");
      } else {
        (comm.rank() == 0 ? comm : *group).barrier();
        if (comm.rank() == 1) group->barrier();
      }
      comm.split(halves);  // what is split off later is dead too
    });
    EXPECT_THAT(errors, Each("rank 3 broke"));
    comms[2]->reset();
    run_all(comms, [&](Comm& comm) {
      Comm& group = *groups[static_cast<std::size_t>(comm.rank())];
      group.barrier();
      std::vector<std::int32_t> data = {1 << comm.rank()};
      group.all_reduce(tensor_of(data));
      EXPECT_EQ(data[0], comm.rank() < 2 ? 3 : 12);
      comm.barrier();
    });
  }
}

TEST(ThreadCommFailure, DisagreementIsAnErrorOnEveryRankThatSaysWhoCalledWhat) {
  for (std::size_t first = 0; first < kCollectives.size(); ++first)
    for (std::size_t second = 0; second < kCollectives.size(); ++second) {
      if (first == second) continue;
      const Comms comms = make_thread_comms(4);
      const auto errors = run_ranks(
          comms, [&](Comm& comm) { kCollectives[comm.rank() == 2 ? second : first].second(comm); });
      EXPECT_THAT(errors, Each(std::string("the ranks call different collectives: ranks 0, 1, 3 "
                                           "called ") +
                               kCollectives[first].first + "; rank 2 called " +
                               kCollectives[second].first));
      run_all(comms, kCollectives[first].second);  // they are still in step
    }
}

TEST(ThreadCommFailure, DisagreementAboutOneArgument) {
  const auto expect_error = [](const std::function<void(Comm&)>& collective, const char* text) {
    const Comms comms = make_thread_comms(3);
    EXPECT_THAT(run_ranks(comms, collective), Each(HasSubstr(text)));
  };
  std::vector<std::vector<float>> f(3, std::vector<float>(4));
  std::vector<std::vector<std::int32_t>> i(3, std::vector<std::int32_t>(4));
  const auto at = [](auto& of_ranks, Comm& comm) {
    return tensor_of(of_ranks[static_cast<std::size_t>(comm.rank())]);
  };
  expect_error(
      [&](Comm& comm) {
        comm.all_reduce(at(f, comm), comm.rank() == 1 ? ReduceOp::kMax : ReduceOp::kSum);
      },
      "rank 1 called all_reduce(max, 4 x float32)");
  expect_error(
      [&](Comm& comm) { comm.all_reduce(comm.rank() == 0 ? at(f, comm) : at(i, comm)); },
      "rank 0 called all_reduce(sum, 4 x float32); ranks 1, 2 called all_reduce(sum, 4 x int32)");
  expect_error([&](Comm& comm) { comm.all_reduce(at(f, comm).rows(0, 2 + comm.rank())); },
               "rank 2 called all_reduce(sum, 4 x float32)");
  expect_error([&](Comm& comm) { comm.broadcast(at(f, comm), comm.rank() / 2); },
               "ranks 0, 1 called broadcast(4 x float32, root 0); rank 2 called broadcast(4 x "
               "float32, root 1)");
  expect_error(
      [&](Comm& comm) {
        comm.split(comm.rank() == 2 ? std::vector<std::vector<int>>{{0, 1}, {2}}
                                    : std::vector<std::vector<int>>{{0, 2}, {1}});
      },
      "ranks 0, 1 called split({0, 2}, {1}); rank 2 called split({0, 1}, {2})");
}

TEST(ThreadCommFailure, BadArgumentsOfOneRankAreAnErrorOnAll) {
  const auto expect_error = [](const std::function<void(Comm&)>& collective, const char* text) {
    for (int ranks : {1, 3}) {
      const Comms comms = make_thread_comms(ranks);
      EXPECT_THAT(run_ranks(comms, collective), Each(HasSubstr(text)));
      run_all(comms, [](Comm& comm) { comm.barrier(); });  // they are still in step
    }
  };
  std::vector<float> data(12);
  const Tensor none{nullptr, DType::kFloat32, {12}, {}};
  const Tensor on_gpu{data.data(), DType::kFloat32, {12}, {DeviceType::kCuda, 1}};
  const Tensor bytes{data.data(), DType::kUInt8, {4}, {}};
  expect_error(
      [&](Comm& comm) {
        std::vector<float> own(12);
        comm.all_reduce(comm.rank() == 0 ? none : tensor_of(own));
      },
      "rank 0 called all_reduce(sum, 12 x float32): the tensor of shape [12] has no memory");
  expect_error([&](Comm& comm) { comm.broadcast(on_gpu, 0); },
               "the tensor is on cuda:1, not in host memory");
  expect_error([&](Comm& comm) { comm.all_reduce(bytes); }, "uint8 cannot be reduced");
  expect_error([&](Comm& comm) { comm.all_gather(tensor_of(data), bytes); },
               "x 4 elements of uint8, not 12 of float32");
  expect_error([&](Comm& comm) { comm.all_gather(tensor_of(data).rows(0, 11), tensor_of(data)); },
               "x 12 elements of float32, not 11 of float32");
  expect_error([&](Comm& comm) { comm.broadcast(tensor_of(data), comm.world_size()); },
               "the root must be a rank in [0, ");
  expect_error([&](Comm& comm) { comm.broadcast(tensor_of(data), -1); }, "the root must be");
  using Groups = std::vector<std::vector<int>>;
  expect_error([&](Comm& comm) { comm.split(Groups{{0}, {0}}); }, "rank 0 is listed twice");
  expect_error([&](Comm& comm) { comm.split(Groups{{0, 3}}); }, "there is no rank 3 among");
  expect_error([&](Comm& comm) { comm.split(Groups{{-1}}); }, "there is no rank -1 among");
  expect_error([&](Comm& comm) { comm.split(Groups{{0}, {}}); }, "a group has no ranks");
}

TEST(ThreadCommFailure, ATimeOutNamesTheRanksThatDidNotCome) {
  for (const auto& [name, collective] : kCollectives) {
    const Comms comms = make_thread_comms(4, milliseconds(500));
    const auto errors = run_ranks(comms, [&](Comm& comm) {
      comm.barrier();
      if (comm.rank() != 2) collective(comm);
    });
    for (int rank : {0, 1, 3})
      EXPECT_THAT(errors[static_cast<std::size_t>(rank)],
                  HasSubstr("rank 2 did not arrive at collective 2, " + std::string(name) +
                            ", within 0.5 seconds of rank "));
    EXPECT_EQ(errors[2], "");
    EXPECT_THROW(comms[2]->barrier(), Error);  // too late
  }
}

TEST(ThreadCommFailure, ATimeOutInASubGroupNamesTheRanksOfTheWorld) {
  const Comms comms = make_thread_comms(4, milliseconds(30));
  const auto errors = run_ranks(comms, [&](Comm& comm) {
    const auto group = comm.split(std::vector<std::vector<int>>{{1, 3}});
    if (comm.rank() == 3) group->barrier();
    if (comm.rank() == 0) comm.barrier();
  });
  EXPECT_THAT(errors[3], HasSubstr("did not arrive at collective"));
  EXPECT_EQ(errors[0], errors[3]);
}

TEST(ThreadCommFailure, TheTimeOutComesFromTheEnvironment) {
  unsetenv("LOCKSTEP_TIMEOUT_SECONDS");
  EXPECT_EQ(default_comm_timeout(), std::chrono::minutes(10));
  setenv("LOCKSTEP_TIMEOUT_SECONDS", "7", 1);
  EXPECT_EQ(default_comm_timeout(), std::chrono::seconds(7));
  for (const char* bad : {"", "0", "-3", "1.5", "5s", " 5", "99999999999999999999", "31536001"}) {
    setenv("LOCKSTEP_TIMEOUT_SECONDS", bad, 1);
    EXPECT_THROW(default_comm_timeout(), Error) << bad;
  }
  unsetenv("LOCKSTEP_TIMEOUT_SECONDS");
  EXPECT_THROW(make_thread_comms(2, milliseconds(0)), Error);
  EXPECT_THROW(make_thread_comms(2, milliseconds::max()), Error);
  EXPECT_THROW(make_thread_comms(0), Error);
  EXPECT_THROW(make_thread_comms(65), Error);
}

TEST(ThreadCommFailure, RanksThatWaitUseNoProcessor) {
  const auto processor_time = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return std::chrono::seconds(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           std::chrono::microseconds(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
  };
  const Comms comms = make_thread_comms(8);
  run_all(comms, [&](Comm& comm) {
    comm.barrier();
    if (comm.rank() == 0) {
      std::this_thread::sleep_for(milliseconds(50));
      const auto before = processor_time();
      std::this_thread::sleep_for(milliseconds(400));
      // Seven ranks that spin would use the time of every core: at least 400 ms.
      EXPECT_LT(processor_time() - before, milliseconds(100));
    }
    comm.barrier();
  });
}

}  // namespace
}  // namespace lockstep
