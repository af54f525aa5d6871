#include "cli/measure.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>

#include "core/check.h"
#include "core/host_memory.h"
#include "ops/ops.h"
#include "spmd/team.h"

namespace lockstep::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRuns = 5;

// Seconds of the fastest of some runs of `work` on all ranks at once, the first aside. The clock of
// each rank starts when all are ready; the slowest counts.
double fastest(Team& team, const std::function<void(Rank&)>& work) {
  double best = 0;
  for (int run = 0; run <= kRuns; ++run) {
    std::vector<double> seconds(static_cast<std::size_t>(team.world_size()));
    team.run("measuring", [&](Rank& rank) {
      rank.comm().barrier();
      const Clock::time_point start = Clock::now();
      work(rank);
      rank.ops().synchronize();
      seconds[static_cast<std::size_t>(rank.id())] =
          std::chrono::duration<double>(Clock::now() - start).count();
    });
    const double slowest = *std::max_element(seconds.begin(), seconds.end());
    if (run == 1 || (run > 1 && slowest < best)) best = slowest;
  }
  return best;
}

// Something that each rank owns.
template <typename T>
class PerRank {
 public:
  PerRank(Team& team, const std::function<T(Rank&)>& make)
      : values_(static_cast<std::size_t>(team.world_size())) {
    team.run("setting memory aside",
             [&](Rank& rank) { values_[static_cast<std::size_t>(rank.id())] = make(rank); });
  }
  const T& operator[](const Rank& rank) const {
    return values_[static_cast<std::size_t>(rank.id())];
  }

 private:
  std::vector<T> values_;
};

OwnedTensor make_tensor(Rank& rank, DType dtype, std::int64_t size) {
  return allocate_tensor(rank.ops(), rank.device(), dtype, {size});
}

// More than caches hold, and no more than the host has to spare.
std::int64_t bytes_to_read(const Team& team) {
  if (team.mesh().devices().front().type == DeviceType::kCuda) return std::int64_t{1} << 30;
  const auto spare = static_cast<std::int64_t>(available_host_memory() / 8);
  return std::min(std::int64_t{1} << 30, spare) / team.world_size();
}

double measure_read(Team& team) {
  constexpr std::int64_t kColumns = 4096;
  const std::int64_t rows = std::max<std::int64_t>(
      bytes_to_read(team) / (kColumns * 4) / kRowBlock * kRowBlock, kRowBlock);
  const PerRank<Matrix> matrices(team, [&](Rank& rank) {
    const Matrix matrix = rank.ops().make_matrix(rows, kColumns, kLeaves, DType::kFloat32);
    // Pages that were never written to are all one and the same.
    const std::vector<float> ones(kColumns * kRowBlock, 1.0f);
    for (std::int64_t row = 0; row < rows; row += kRowBlock)
      rank.ops().write_rows(
          matrix, row,
          {const_cast<float*>(ones.data()), DType::kFloat32, {kRowBlock, kColumns}, Device{}});
    return matrix;
  });
  const double seconds = fastest(team, [&](Rank& rank) { rank.ops().read(matrices[rank]); });
  return static_cast<double>(rows * kColumns * 4 * team.world_size()) / seconds / 1e9;
}

double measure_upload(Team& team) {
  constexpr std::int64_t kBytes = std::int64_t{256} << 20;
  const std::vector<char> host(kBytes);
  const PerRank<OwnedTensor> targets(
      team, [&](Rank& rank) { return make_tensor(rank, DType::kUInt8, kBytes); });
  const double seconds = fastest(team, [&](Rank& rank) {
    rank.ops().upload(targets[rank].tensor,
                      {const_cast<char*>(host.data()), DType::kUInt8, {kBytes}, Device{}});
  });
  return static_cast<double>(kBytes * team.world_size()) / seconds / 1e9;
}

// Every rank gives 1 + its number.
void check_sums(Team& team) {
  constexpr std::int64_t kSize = 1000;
  const int ranks = team.world_size();
  const auto expected = static_cast<float>(ranks * (ranks + 1) / 2);
  team.run("checking an all-reduce", [&](Rank& rank) {
    const OwnedTensor data = make_tensor(rank, DType::kFloat32, kSize);
    std::vector<float> values(kSize, static_cast<float>(rank.id() + 1));
    const Tensor host{values.data(), DType::kFloat32, {kSize}, Device{}};
    rank.ops().upload(data.tensor, host);
    rank.comm().all_reduce(data.tensor);
    rank.ops().download(host, data.tensor);
    for (float value : values) check(value == expected, "the sum of 1 to {} is {}", ranks, value);
  });
}

// Microseconds of one all-reduce, repeated so that starting them does not show.
double measure_all_reduce(Team& team, std::int64_t bytes, ReduceOp op) {
  constexpr int kRepeats = 20;
  struct Work {
    OwnedTensor data;
    std::shared_ptr<Recorder> recorder;
  };
  const PerRank<Work> works(team, [&](Rank& rank) {
    return Work{make_tensor(rank, DType::kFloat32, bytes / 4), rank.ops().make_recorder()};
  });
  const double seconds = fastest(team, [&](Rank& rank) {
    works[rank].recorder->run(0, [&] {
      for (int i = 0; i < kRepeats; ++i) rank.comm().all_reduce(works[rank].data.tensor, op);
    });
  });
  return 1e6 * seconds / kRepeats;
}

}  // namespace

MeshSpeed measure_mesh(const Mesh& mesh) {
  const bool gpus = mesh.devices().front().type == DeviceType::kCuda;
  Team team(mesh);
  MeshSpeed speed;
  speed.read_gb_per_s = measure_read(team);
  if (gpus) speed.upload_gb_per_s = measure_upload(team);
  if (mesh.world_size() == 1) return speed;
  check_sums(team);
  for (std::int64_t bytes : {8 << 10, 64 << 10, 512 << 10, 2 << 20, 16 << 20}) {
    AllReduceTime time;
    time.bytes = static_cast<std::uint64_t>(bytes);
    time.sum_us = measure_all_reduce(team, bytes, ReduceOp::kSum);
    // GPUs have a way of their own for small sums; maxima of floats always go through NCCL.
    if (gpus) time.nccl_us = measure_all_reduce(team, bytes, ReduceOp::kMax);
    speed.all_reduce.push_back(time);
  }
  return speed;
}

}  // namespace lockstep::cli
