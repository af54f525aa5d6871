// One model's folder in the Hugging Face cache, as Python's huggingface_hub lays it out:
//
//   models--org--name/refs/main                    the commit that the branch was at
//   models--org--name/blobs/HASH                   a file's content
//   models--org--name/snapshots/COMMIT/config.json -> ../../blobs/HASH
//   .locks/models--org--name/HASH.lock             held while blobs/HASH.incomplete is written
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

namespace lockstep {

// Thread-safe, also between processes.
class ModelCache {
 public:
  ModelCache(std::filesystem::path root, const std::string& repo);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path snapshot(const std::string& commit) const;
  std::filesystem::path blob(const std::string& hash) const;
  std::filesystem::path lock(const std::string& hash) const;

  // The commit that `revision` (a commit, or a branch or tag once pulled) is in the cache; empty
  // when the cache does not know it.
  std::optional<std::string> find_commit(const std::string& revision) const;
  // Names of the files of a snapshot, sorted; empty when there is none.
  std::vector<std::string> files(const std::string& commit) const;

  void create_folders() const;
  // Makes `name` of the snapshot a relative link to the blob, unless it is there.
  void link(const std::string& commit, const std::string& name, const std::string& hash) const;
  // Records what `revision` is.
  void set_commit(const std::string& revision, const std::string& commit) const;

 private:
  std::filesystem::path root_, model_, locks_;
};

// flock(2) on a file, as Python's filelock does.
class FileLock {
 public:
  // Waits until nobody else holds it. Throws PullCancelled.
  FileLock(const std::filesystem::path& path, const std::stop_token& stop);
  ~FileLock();
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int descriptor_ = -1;
};

// Waits, or throws PullCancelled when a stop is requested.
void sleep_for(std::chrono::milliseconds duration, const std::stop_token& stop);

}  // namespace lockstep
