#include "common/example.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>

#include "lockstep/error.h"

namespace example {

using lockstep::Mesh;

Options::Options(CLI::App& app) {
  app.add_option("--tp", tp, "Number of ranks")
      ->check(CLI::Range(1, Mesh::kMaxWorldSize))
      ->capture_default_str();
  app.add_option("--device", device, "cpu, cuda, or auto: GPUs where there are as many")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  app.add_option("--runs", runs, "Runs to take the median of")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
}

Mesh Options::mesh() const {
  if (device == "auto") return Mesh::tensor_parallel(tp);
  return Mesh::tensor_parallel(
      tp, device == "cuda" ? lockstep::DeviceType::kCuda : lockstep::DeviceType::kCpu);
}

Mesh Options::one_device() const { return Mesh::tensor_parallel(1, mesh().devices().front().type); }

int compare(CLI::App& app, int argc, char** argv, const Options& options,
            const std::function<Result(const Mesh&)>& compute) {
  try {
    app.parse(argc, argv);
    const Mesh one = options.one_device(), several = options.mesh();
    const Result expected = compute(one), found = compute(several);
    float difference = 0, largest = 0;
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      difference = std::max(difference, std::abs(found.values.at(i) - expected.values[i]));
      largest = std::max(largest, std::abs(expected.values[i]));
    }
    std::cout << to_string(one) << ": " << expected.microseconds << " us\n"
              << to_string(several) << ": " << found.microseconds << " us\n"
              << "largest difference from one device: " << difference << " (of values up to "
              << largest << ")\n";
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  } catch (const lockstep::Error& error) {
    std::cerr << app.get_name() << ": error: " << error.what() << '\n';
    return 1;
  }
}

int repeats_on(const Mesh& mesh) {
  return mesh.devices().front().type == lockstep::DeviceType::kCuda ? 100 : 4;
}

double median_time(int runs, const std::function<void()>& run) {
  run();
  std::vector<double> times;
  for (int i = 0; i < runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    times.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
            .count());
  }
  const auto middle = times.begin() + runs / 2;
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

}  // namespace example
