// What the examples share: their options, and how a run is repeated and compared with one device.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "lockstep/mesh.h"

namespace example {

struct Options {
  int tp = 4;
  std::string device = "auto";
  int runs = 5;

  explicit Options(CLI::App& app);
  // On the same kind of device as mesh(), so that the two can be compared.
  lockstep::Mesh one_device() const;
  lockstep::Mesh mesh() const;
};

// What a mesh computes.
struct Result {
  std::vector<float> values;  // the same on every rank
  double microseconds = 0;    // of one run
};

// Parses the command line, computes on one device and on the mesh, and prints the largest
// difference and the times. Returns the exit status.
int compare(CLI::App& app, int argc, char** argv, const Options& options,
            const std::function<Result(const lockstep::Mesh&)>& compute);

// How often a piece of work is repeated within a run, so that the time of starting one does not
// hide it.
int repeats_on(const lockstep::Mesh& mesh);

// The median of what `run` takes, in microseconds, without a first run.
double median_time(int runs, const std::function<void()>& run);

}  // namespace example
