// ThreadComm: collectives between ranks that are threads of this process.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "lockstep/comm.h"

namespace lockstep {

// How long a rank waits for the others: LOCKSTEP_TIMEOUT_SECONDS, 600 if it is not set. Throws
// Error when it is not a positive whole number of seconds.
std::chrono::milliseconds default_comm_timeout();

// One end a rank, for tensors in host memory. A rank that waits sleeps. The ends may outlive one
// another, but none may be destroyed while its rank is in a call. Throws Error for a world size
// outside 1..Mesh::kMaxWorldSize.
std::vector<std::unique_ptr<Comm>> make_thread_comms(
    int world_size, std::chrono::milliseconds timeout = default_comm_timeout());

}  // namespace lockstep
