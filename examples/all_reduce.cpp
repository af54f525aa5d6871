// Sums one vector of every rank, on all ranks at once, and compares with the same sum on one
// device.
//
//   build/examples/all_reduce --tp 4
#include <CLI/CLI.hpp>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <random>
#include <vector>

#include "lockstep/error.h"
#include "lockstep/spmd.h"

namespace {

using lockstep::Tensor;
using Vector = std::vector<float>;

Tensor tensor_of(Vector& values) {
  return {values.data(), lockstep::DType::kFloat32, {static_cast<std::int64_t>(values.size())}, {}};
}

// What one device computes: the vectors added in the order that comm.h promises for every world
// size.
Vector sum_on_one_device(const std::vector<Vector>& vectors, std::size_t begin, std::size_t end) {
  if (end - begin == 1) return vectors[begin];
  const std::size_t middle = begin + std::bit_floor(end - begin - 1);
  Vector sum = sum_on_one_device(vectors, begin, middle);
  const Vector right = sum_on_one_device(vectors, middle, end);
  for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += right[i];
  return sum;
}

void all_reduce(int world_size, std::size_t size, int runs) {
  const auto mesh = lockstep::Mesh::tensor_parallel(world_size, lockstep::DeviceType::kCpu);
  // Each run repeats the collective, so that the time of starting a run does not hide it.
  constexpr int kRepeats = 100;
  lockstep::Executable sum(mesh, [](lockstep::Rank& rank) {
    return [&rank](std::span<const Tensor> in, std::span<const Tensor> out) {
      for (int repeat = 0; repeat < kRepeats; ++repeat) {
        std::memcpy(out[0].data, in[0].data, in[0].bytes());
        rank.comm().all_reduce(out[0]);
      }
    };
  });

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<Vector> in(static_cast<std::size_t>(world_size), Vector(size));
  for (Vector& vector : in)
    for (float& value : vector) value = normal(random);
  std::vector<Vector> out(in.size(), Vector(size));
  std::vector<std::vector<Tensor>> inputs, outputs;
  for (Vector& vector : in) inputs.push_back({tensor_of(vector)});
  for (Vector& vector : out) outputs.push_back({tensor_of(vector)});

  double fastest = INFINITY;  // microseconds
  for (int run = 0; run < runs; ++run) {
    const auto begin = std::chrono::steady_clock::now();
    sum.run(inputs, outputs);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    fastest = std::min(fastest, time.count() / kRepeats);
  }

  const Vector expected = sum_on_one_device(in, 0, in.size());
  float difference = 0;
  for (const Vector& vector : out)
    for (std::size_t i = 0; i < size; ++i)
      difference = std::max(difference, std::abs(vector[i] - expected[i]));
  std::cout << to_string(mesh) << ", " << size << " floats: " << fastest
            << " us per all-reduce (fastest of " << runs
            << " runs)\nlargest difference from one device: " << difference << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  int world_size = 4, runs = 20;
  std::size_t size = 4096;
  CLI::App app("Sums a vector across ranks");
  app.add_option("--tp", world_size, "number of ranks")->capture_default_str();
  app.add_option("--size", size, "floats per rank")
      ->check(CLI::Range(1, 1 << 28))
      ->capture_default_str();
  app.add_option("--runs", runs, "times to run")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
    all_reduce(world_size, size, runs);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const lockstep::Error& error) {
    std::cerr << "all_reduce: " << error.what() << '\n';
    return 1;
  }
}
