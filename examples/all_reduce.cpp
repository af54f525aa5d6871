// Sums one vector of every rank, on all ranks at once, and compares with the same sum on one
// device.
//
//   build-dev/examples/all_reduce --tp 4
#include <algorithm>
#include <bit>
#include <random>

#include "common/example.h"
#include "lockstep/spmd.h"
#include "ops/ops.h"

namespace {

using lockstep::DType;
using lockstep::Rank;
using lockstep::Tensor;
using Vector = std::vector<float>;

// The vector of one rank.
Vector vector_of(int rank, std::int64_t size) {
  std::mt19937 random(static_cast<unsigned>(rank));
  std::normal_distribution<float> normal;
  Vector values(static_cast<std::size_t>(size));
  for (float& value : values) value = normal(random);
  return values;
}

// What one device computes: the vectors of ranks [begin, end) added in the order that comm.h
// promises for every world size.
Vector sum_on_one_device(int begin, int end, std::int64_t size) {
  if (end - begin == 1) return vector_of(begin, size);
  const int middle =
      begin + static_cast<int>(std::bit_floor(static_cast<unsigned>(end - begin - 1)));
  Vector sum = sum_on_one_device(begin, middle, size);
  const Vector right = sum_on_one_device(middle, end, size);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

example::Result sum_on_ranks(const lockstep::Mesh& mesh, std::int64_t size, int runs) {
  const int repeats = example::repeats_on(mesh);
  example::Result result;
  result.values.resize(static_cast<std::size_t>(size));
  bool first = true;
  lockstep::Executable sum(mesh, [&](Rank& rank) -> lockstep::Executable::Step {
    struct State {
      lockstep::OwnedTensor data;
      std::unique_ptr<lockstep::Recorder> recorder;
    };
    auto state =
        std::make_shared<State>(allocate_tensor(rank.ops(), rank.device(), DType::kFloat32, {size}),
                                rank.ops().make_recorder());
    return [&, state](std::span<const Tensor>, std::span<const Tensor>) {
      const Tensor& data = state->data.tensor;
      // Zeros stay zeros, however often they are added.
      Vector values = first ? vector_of(rank.id(), size) : Vector(static_cast<std::size_t>(size));
      rank.ops().upload(data, {values.data(), data.dtype, data.shape, {}});
      for (int repeat = 0; repeat < (first ? 1 : repeats); ++repeat)
        state->recorder->run(0, [&] { rank.comm().all_reduce(data); });
      if (first && rank.id() == 0)
        rank.ops().download({result.values.data(), data.dtype, data.shape, {}}, data);
      rank.ops().synchronize();
    };
  });
  sum.run();
  first = false;
  result.microseconds = example::median_time(runs, [&] { sum.run(); }) / repeats;
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  std::int64_t size = 4096;
  CLI::App app("Sums a vector across ranks", "all_reduce");
  example::Options options(app);
  app.add_option("--size", size, "Floats per rank")
      ->check(CLI::Range(1, 1 << 28))
      ->capture_default_str();
  return example::compare(app, argc, argv, options, [&](const lockstep::Mesh& mesh) {
    if (mesh.world_size() > 1 || options.tp == 1) return sum_on_ranks(mesh, size, options.runs);
    return example::Result{sum_on_one_device(0, options.tp, size), 0};
  });
}
