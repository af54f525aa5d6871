// How fast a mesh is, without a model: what `lockstep doctor` prints.
#pragma once

#include <cstdint>
#include <vector>

#include "lockstep/mesh.h"

namespace lockstep::cli {

// Microseconds of an all-reduce of so many bytes.
struct AllReduceTime {
  std::uint64_t bytes = 0;
  double sum_us = 0;   // of float32 sums, the way that the ranks choose
  double nccl_us = 0;  // through NCCL; 0 where that is no choice
};

struct MeshSpeed {
  double read_gb_per_s = 0;    // of all ranks at once, each its own memory
  double upload_gb_per_s = 0;  // of all ranks at once, from the host to GPUs; 0 on the CPU
  std::vector<AllReduceTime> all_reduce;  // empty for one rank
};

// Starts the mesh's ranks and measures, a few seconds in all. Throws Error when a rank fails, or
// when a sum is wrong.
MeshSpeed measure_mesh(const Mesh& mesh);

}  // namespace lockstep::cli
