// Whether a model fits: what its ranks need against what their devices have, before anything is
// loaded. Arithmetic on a Config; only free_memory() looks at the machine.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "checkpoint/config.h"
#include "lockstep/mesh.h"
#include "sharding/plan.h"

namespace lockstep {

// What is to be generated at once.
struct Workload {
  std::int64_t batch_size = 1;     // sequences
  std::int64_t length = 0;         // tokens of each, prompt and output; 0: nothing is generated
  std::int64_t prefill_chunk = 0;  // tokens of a prompt that one step works on
  bool loaded = false;             // the weights are there already and need no more memory
};

// A Generator that is not told its max_length takes what there is room for, but no less than this.
inline constexpr std::int64_t kShortestDefaultLength = 512;

// What one rank sets aside, in bytes.
struct RankMemory {
  std::uint64_t weights = 0;
  std::uint64_t cache = 0;    // keys and values
  std::uint64_t scratch = 0;  // activations, logits, libraries
  std::uint64_t total() const { return weights + cache + scratch; }
};

// By rank.
std::vector<RankMemory> memory_needed(const Config& config, const ShardPlan& plan, DType dtype,
                                      DeviceType device, const Workload& workload);

// Free memory in bytes: of the host, which all CPU ranks share, or of each GPU rank.
struct FreeMemory {
  DeviceType device = DeviceType::kCpu;
  std::vector<std::uint64_t> bytes;
};

// Of `ranks` GPU ranks, or of as many as this host can have. Costs each GPU a few hundred MB.
FreeMemory free_memory(DeviceType device, int ranks = std::numeric_limits<int>::max());

bool fits(const std::vector<RankMemory>& needed, const FreeMemory& free);

// The most tokens of a sequence, at most the model's positions, with which the workload's batch
// fits; 0 when none does.
std::int64_t longest_that_fits(const Config& config, const ShardPlan& plan, DType dtype,
                               Workload workload, const FreeMemory& free);

// Throws Error unless the model fits: what it needs, what is free, and which smaller demands fit.
// More GPUs in `free` than ranks are what a larger world size could use.
void check_fits(const Config& config, int world_size, DType dtype, const Workload& workload,
                const FreeMemory& free);

}  // namespace lockstep
