// A test aid: LOCKSTEP_RANKS_PER_GPU=N lets up to N ranks share a GPU, so that what many ranks do
// can be seen on few GPUs. It is slow: kernels do not overlap, and nothing goes through NCCL.
//
// A rank's kernel that waits for values holds room on the GPU that the rank which is to send them
// needs, and a call of the host that waits for the whole GPU waits for that kernel too. So, where
// ranks share GPUs, kernels start one after the other (launch.h), no kernel that waits has many
// blocks (kMaxWaitingBlocks), the ranks' threads meet before and after each exchange, and no graphs
// are recorded.
#pragma once

namespace lockstep {

// The variable's value; 1 if it is not set. Throws Error unless it is a number from 1 to 8.
int parse_ranks_per_gpu(const char* text);

// What the variable says, read once. Called before CUDA is first used: the first call sets what
// CUDA has to find in the environment.
int ranks_per_gpu();

inline bool ranks_share_gpus() { return ranks_per_gpu() > 1; }

}  // namespace lockstep
