// One file, from the hub into the cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "hub/cache.h"
#include "hub/client.h"

namespace lockstep {

// Bytes that of a file are in place.
using FileProgress = std::function<void(std::uint64_t done)>;

// Makes the blob of `file`, unless it is there: goes on from what an earlier attempt, ours or
// Python's, left in blobs/HASH.incomplete; checks size and sum; then gives it its name. False when
// it was there.
bool download_blob(HubClient& client, const ModelCache& cache, const std::string& repo,
                   const std::string& commit, const HubFile& file, const std::stop_token& stop,
                   const FileProgress& progress);

// Bytes of `file` that are still to be fetched.
std::uint64_t missing_bytes(const ModelCache& cache, const HubFile& file);

}  // namespace lockstep
