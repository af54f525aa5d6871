// Loading: carries a ShardPlan out. Every rank reads only the bytes of its own slices.
#pragma once

#include <cstdint>
#include <functional>

#include "checkpoint/checkpoint.h"
#include "lockstep/spmd.h"
#include "sharding/plan.h"
#include "sharding/weights.h"

namespace lockstep {

struct RankLoadOptions {
  DType dtype = DType::kBFloat16;  // what matrices are kept as: float32, bfloat16, float16
  // Called after every piece with the bytes of device memory that it filled, from the rank's
  // thread.
  std::function<void(std::size_t bytes)> progress;
};

// Loads rank's share on rank's own thread. Beyond the result it holds a bounded amount of memory (a
// few MiB). Throws Error naming file and tensor when something cannot be read.
Weights load_weights(Rank& rank, const Checkpoint& checkpoint, const ShardPlan& plan,
                     const RankLoadOptions& options);

// The device memory of one rank's weights, without padding; what progress adds up to.
std::size_t weight_bytes(const Config& config, const ShardPlan& plan, int rank, DType dtype);

}  // namespace lockstep
