#include <bit>
#include <numeric>

#include "core/convert.h"
#include "run_ranks.h"

namespace lockstep {
namespace {

// Empty, tiny, odd, either side of where large messages begin (16 KiB), large.
constexpr std::size_t kSizes[] = {0, 1, 7, 576, 4095, 4096, 4097, 65'537};

TEST(ThreadComm, AllReduceSumsExactly) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      const int triangle = ranks * (ranks - 1) / 2;
      for (std::size_t size : kSizes) {
        const auto element = [&](std::size_t i) { return static_cast<int>(i % 101) - 50; };
        const auto expected = [&](std::size_t i) { return ranks * element(i) + triangle; };
        std::vector<float> floats(size);
        std::vector<std::int32_t> ints(size);
        std::vector<std::int64_t> longs(size);
        for (std::size_t i = 0; i < size; ++i) {
          ints[i] = element(i) + comm.rank();
          floats[i] = static_cast<float>(ints[i]);
          longs[i] = (std::int64_t{1} << 40) * ints[i];
        }
        comm.all_reduce(tensor_of(floats));
        comm.all_reduce(tensor_of(ints));
        comm.all_reduce(tensor_of(longs));
        for (std::size_t i = 0; i < size; ++i) {
          ASSERT_EQ(ints[i], expected(i)) << i << " of " << size;
          ASSERT_EQ(floats[i], static_cast<float>(expected(i)));
          ASSERT_EQ(longs[i], (std::int64_t{1} << 40) * expected(i));
        }
      }
    });
  }
}

TEST(ThreadComm, AllReduceOf16BitFloatsAndOtherOperations) {
  for (int ranks : {1, 3, 4, 8}) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      for (std::size_t size : {5, 20'001}) {
        std::vector<std::uint16_t> brains(size, float_to_bfloat16(2.f + comm.rank()));
        comm.all_reduce(tensor_of(brains, DType::kBFloat16), ReduceOp::kMax);
        std::vector<std::uint16_t> halves(size, float_to_float16(2.f + comm.rank()));
        comm.all_reduce(tensor_of(halves, DType::kFloat16));
        std::vector<std::int32_t> ints(size, 5 - comm.rank());
        comm.all_reduce(tensor_of(ints), ReduceOp::kMin);
        const float sum = 2.f * ranks + ranks * (ranks - 1) / 2;
        for (std::size_t i = 0; i < size; ++i) {
          ASSERT_EQ(bfloat16_to_float(brains[i]), 1.f + ranks);
          ASSERT_EQ(float16_to_float(halves[i]), sum);
          ASSERT_EQ(ints[i], 6 - ranks);
        }
      }
    });
  }
}

// The tree of comm.h by its definition.
float tree_sum(const std::vector<float>& values, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return values[begin];
  const std::size_t middle = begin + std::bit_floor(end - begin - 1);
  return tree_sum(values, begin, middle) + tree_sum(values, middle, end);
}

TEST(ThreadComm, EveryRankGetsTheBitsOfTheTreeWhateverTheSize) {
  const auto value = [](std::size_t rank, std::size_t i) {
    const auto hash = static_cast<std::uint32_t>(rank * 1'000'003 + i) * 2'654'435'761u;
    return std::bit_cast<float>((hash & 0x80ffffffu) | (0x38000000u + ((hash >> 3) & 0x07000000u)));
  };
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      for (std::size_t size : kSizes) {
        std::vector<float> data(size);
        for (std::size_t i = 0; i < size; ++i)
          data[i] = value(static_cast<std::size_t>(comm.rank()), i);
        comm.all_reduce(tensor_of(data));
        std::vector<float> column(static_cast<std::size_t>(ranks));
        for (std::size_t i = 0; i < size; ++i) {
          for (std::size_t rank = 0; rank < column.size(); ++rank) column[rank] = value(rank, i);
          ASSERT_EQ(std::bit_cast<std::uint32_t>(data[i]),
                    std::bit_cast<std::uint32_t>(tree_sum(column, 0, column.size())))
              << ranks << " ranks, element " << i << " of " << size;
        }
      }
    });
  }
}

TEST(ThreadComm, AllGather) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      for (std::size_t size : kSizes) {
        std::vector<std::int32_t> in(size);
        std::iota(in.begin(), in.end(), 1'000'000 * comm.rank());
        std::vector<std::int32_t> out(size * static_cast<std::size_t>(ranks), -1);
        comm.all_gather(tensor_of(out), tensor_of(in));
        std::vector<std::int32_t> in_place(out.size(), -1);
        const Tensor whole = tensor_of(in_place);
        const auto begin = static_cast<std::int64_t>(size) * comm.rank();
        const Tensor own = whole.rows(begin, begin + static_cast<std::int64_t>(size));
        std::copy(in.begin(), in.end(), own.as<std::int32_t>());
        comm.all_gather(whole, own);
        for (std::size_t i = 0; i < out.size(); ++i)
          ASSERT_EQ(out[i], static_cast<std::int32_t>(i / size * 1'000'000 + i % size));
        ASSERT_EQ(in_place, out);
      }
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(ranks));
      std::uint8_t byte = static_cast<std::uint8_t>(comm.rank() + 1);
      comm.all_gather({bytes.data(), DType::kUInt8, {ranks}, {}}, {&byte, DType::kUInt8, {}, {}});
      for (int rank = 0; rank < ranks; ++rank)
        ASSERT_EQ(bytes[static_cast<std::size_t>(rank)], rank + 1);
    });
  }
}

TEST(ThreadComm, BroadcastFromEveryRoot) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      for (std::size_t size : kSizes)
        for (int root = 0; root < ranks; ++root) {
          std::vector<std::int64_t> data(size, -1);
          if (comm.rank() == root) std::iota(data.begin(), data.end(), 1000 * root);
          comm.broadcast(tensor_of(data), root);
          for (std::size_t i = 0; i < size; ++i)
            ASSERT_EQ(data[i], 1000 * root + static_cast<std::int64_t>(i));
        }
    });
  }
}

TEST(ThreadComm, ADelayedRankIsWaitedFor) {
  for (int late : {0, 2, 3}) {
    const Comms comms = make_thread_comms(4);
    run_all(comms, [&](Comm& comm) {
      const auto maybe_sleep = [&] {
        if (comm.rank() == late) std::this_thread::sleep_for(milliseconds(15));
      };
      for (std::size_t size : {3, 10'000}) {
        std::vector<std::int32_t> data(size, comm.rank());
        maybe_sleep();
        comm.all_reduce(tensor_of(data));
        EXPECT_EQ(data, std::vector<std::int32_t>(size, 6));
        std::fill(data.begin(), data.end(), comm.rank());
        maybe_sleep();
        comm.broadcast(tensor_of(data), late);
        EXPECT_EQ(data, std::vector<std::int32_t>(size, late));
        std::fill(data.begin(), data.end(), comm.rank());
        std::vector<std::int32_t> all(4 * size);
        maybe_sleep();
        comm.all_gather(tensor_of(all), tensor_of(data));
        for (std::size_t i = 0; i < all.size(); ++i)
          ASSERT_EQ(all[i], static_cast<std::int32_t>(i / size));
      }
      maybe_sleep();
      comm.barrier();
      maybe_sleep();
      EXPECT_NE(comm.split(std::vector<std::vector<int>>{{0, 1}, {2, 3}}), nullptr);
    });
  }
}

TEST(ThreadComm, BarrierOrdersPlainMemory) {
  const Comms comms = make_thread_comms(5);
  std::vector<int> progress(5);
  run_all(comms, [&](Comm& comm) {
    for (int step = 1; step <= 300; ++step) {
      progress[static_cast<std::size_t>(comm.rank())] = step;
      comm.barrier();
      for (int other : progress) ASSERT_EQ(other, step);
      comm.barrier();
    }
  });
}

TEST(ThreadComm, ThousandsOfMixedCollectives) {
  for (int ranks : {2, 8}) {
    const Comms comms = make_thread_comms(ranks);
    run_all(comms, [&](Comm& comm) {
      std::vector<std::int32_t> data(6000);
      std::vector<std::int32_t> gathered(6000 * static_cast<std::size_t>(ranks));
      for (int step = 0; step < 1500; ++step) {
        const auto size = static_cast<std::int64_t>(step) * 7919 % (step % 10 == 0 ? 6000 : 50);
        const Tensor part = tensor_of(data).rows(0, size);
        const auto fill = [&](int value) { std::fill_n(data.begin(), size, value); };
        const auto expect = [&](int value) {
          for (std::int64_t i = 0; i < size; ++i)
            ASSERT_EQ(data[static_cast<std::size_t>(i)], value) << "step " << step;
        };
        fill(step + comm.rank());
        comm.all_reduce(part);
        expect(ranks * step + ranks * (ranks - 1) / 2);
        fill(step + comm.rank());
        comm.broadcast(part, step % ranks);
        expect(step + step % ranks);
        fill(comm.rank() - step);
        comm.all_gather(tensor_of(gathered).rows(0, size * ranks), part);
        for (std::int64_t i = 0; i < size * ranks; ++i)
          ASSERT_EQ(gathered[static_cast<std::size_t>(i)], i / size - step);
      }
    });
  }
}

// The sum of the world ranks of a group, by an all-reduce over it.
std::int32_t sum_over(Comm& group, int world_rank) {
  std::vector<std::int32_t> data = {world_rank};
  group.all_reduce(tensor_of(data));
  return data[0];
}

TEST(ThreadComm, SplitIntoUnevenGroupsThatWorkAtTheSameTime) {
  const Comms comms = make_thread_comms(7);
  const std::vector<std::vector<int>> groups = {{4, 0}, {1, 2, 6}, {5}};
  run_all(comms, [&](Comm& comm) {
    const auto group = comm.split(groups);
    if (comm.rank() == 3) {
      EXPECT_EQ(group, nullptr);
    } else {
      const std::size_t index = comm.rank() == 5 ? 2 : comm.rank() % 4 == 0 ? 0 : 1;
      ASSERT_NE(group, nullptr);
      EXPECT_EQ(group->world_size(), static_cast<int>(groups[index].size()));
      EXPECT_EQ(groups[index][static_cast<std::size_t>(group->rank())], comm.rank());
      for (int step = 0; step < 200; ++step)
        ASSERT_EQ(sum_over(*group, comm.rank()), (std::vector{4, 9, 5}[index]));
      std::vector<std::int32_t> data = {comm.rank()};
      group->broadcast(tensor_of(data), 0);
      EXPECT_EQ(data[0], groups[index][0]);
    }
    EXPECT_EQ(sum_over(comm, comm.rank()), 21);  // the parent still works
  });
}

TEST(ThreadComm, SplitOfASplit) {
  const Comms comms = make_thread_comms(8);
  run_all(comms, [&](Comm& comm) {
    const auto half = comm.split(std::vector<std::vector<int>>{{7, 5, 3, 1}, {0, 2, 4, 6}});
    const auto pair = half->split(std::vector<std::vector<int>>{{0, 1}, {3, 2}});
    const bool odd = comm.rank() % 2 == 1;
    const bool first = odd ? comm.rank() >= 5 : comm.rank() <= 2;
    for (int step = 0; step < 50; ++step) {
      ASSERT_EQ(sum_over(*pair, comm.rank()), odd ? (first ? 12 : 4) : (first ? 2 : 10));
      ASSERT_EQ(sum_over(*half, comm.rank()), odd ? 16 : 12);
    }
    ASSERT_EQ(sum_over(comm, comm.rank()), 28);
  });
}

}  // namespace
}  // namespace lockstep
