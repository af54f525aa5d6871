// Bringing a model from the hub into the cache, and finding it there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hub/model_name.h"
#include "hub/settings.h"
#include "lockstep/hub.h"

namespace lockstep {

struct PulledFile {
  std::string name;
  std::uint64_t size = 0;  // bytes
  bool fetched = false;    // and not in the cache before
};

struct PulledModel {
  std::filesystem::path path;  // the snapshot's directory, or the .gguf file in it
  std::string repo;
  std::string revision;
  std::string commit;
  std::vector<PulledFile> files;
};

// Throws Error for what is no name of a model on the hub, and when a revision is given twice. The
// name that is returned has a revision.
ModelName parse_pull_name(const std::string& model, const std::string& revision);

// pull(), and what it did. Offline, it names no files.
PulledModel pull_model(const HubSettings& settings, const ModelName& name,
                       const PullOptions& options);

// What the cache has of a model.
struct CachedModel {
  std::filesystem::path path;  // empty when it cannot be used
  std::string commit;
  bool complete = false;  // nothing seems to be missing: no need to ask the hub
  std::string missing;    // for errors, when something is
};
CachedModel find_cached(const HubSettings& settings, const ModelName& name, bool weights);

}  // namespace lockstep
