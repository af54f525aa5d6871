// How much memory this process can still take from the host.
#pragma once

#include <cstdint>
#include <filesystem>

namespace lockstep {

// Bytes: what the kernel calls available (free, or caches that it gives up), or less where a
// control group (a container, a service, a batch job) has a limit. Swap does not count: weights are
// read for every token. A file that cannot be read limits nothing. `root` is where /proc and /sys
// are.
std::uint64_t available_host_memory(const std::filesystem::path& root = "/");

}  // namespace lockstep
