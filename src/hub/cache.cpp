#include "hub/cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <system_error>

#include "checkpoint/file.h"
#include "core/check.h"
#include "hub/http.h"
#include "hub/model_name.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  check(!error, "{}: cannot create the folder: {}; HF_HUB_CACHE says where the cache is",
        path.string(), error.message());
}

// A file that appears under its name with all of its content, or not at all.
void write_at_once(const fs::path& path, const std::string& content, const fs::path& folder) {
  std::string name = folder / "ref.XXXXXX";
  const int descriptor = ::mkstemp(name.data());
  check(descriptor >= 0, "{}: cannot create a file: {}", folder.string(), reason(errno));
  const ssize_t written = ::write(descriptor, content.data(), content.size());
  const int error = errno;
  ::fchmod(descriptor, 0644);
  ::close(descriptor);
  if (written != static_cast<ssize_t>(content.size())) {
    ::unlink(name.c_str());
    fail("{}: cannot write {} bytes: {}", path.string(), content.size(),
         written < 0 ? reason(error) : reason(ENOSPC));
  }
  if (::rename(name.c_str(), path.c_str()) != 0) {
    const int why = errno;
    ::unlink(name.c_str());
    fail("{}: cannot be written: {}", path.string(), reason(why));
  }
}

}  // namespace

ModelCache::ModelCache(fs::path root, const std::string& repo) : root_(std::move(root)) {
  std::string folder = "models--" + repo;
  folder.replace(folder.find('/'), 1, "--");
  model_ = root_ / folder;
  locks_ = root_ / ".locks" / folder;
}

fs::path ModelCache::snapshot(const std::string& commit) const {
  return model_ / "snapshots" / commit;
}
fs::path ModelCache::blob(const std::string& hash) const { return model_ / "blobs" / hash; }
fs::path ModelCache::lock(const std::string& hash) const { return locks_ / (hash + ".lock"); }

std::optional<std::string> ModelCache::find_commit(const std::string& revision) const {
  if (is_commit(revision)) return revision;
  const fs::path ref = model_ / "refs" / revision;
  std::error_code error;
  if (!fs::is_regular_file(ref, error)) return std::nullopt;
  const File file(ref);
  constexpr std::uint64_t kMostBytes = 100;
  check(file.size() <= kMostBytes, "{}: {} bytes are no commit", file.name(), file.size());
  std::string commit(file.size(), '\0');
  file.read(0, commit.size(), commit.data());
  while (commit.ends_with('\n')) commit.pop_back();
  check(is_commit(commit), "{}: {} is no commit; delete the file and pull the model again",
        file.name(), quote_name(commit));
  return commit;
}

std::vector<std::string> ModelCache::files(const std::string& commit) const {
  constexpr std::size_t kMostFiles = 100000;
  const fs::path folder = snapshot(commit);
  std::vector<std::string> names;
  std::error_code error;
  for (fs::recursive_directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory(error) || !fs::exists(entry->path(), error)) continue;
    names.push_back(entry->path().lexically_relative(folder).string());
    check(names.size() <= kMostFiles, "{}: more than {} files", folder.string(), kMostFiles);
  }
  std::sort(names.begin(), names.end());
  return names;
}

void ModelCache::create_folders() const {
  for (const char* name : {"blobs", "refs", "snapshots"}) make_folders(model_ / name);
  make_folders(locks_);
}

void ModelCache::link(const std::string& commit, const std::string& name,
                      const std::string& hash) const {
  const fs::path path = snapshot(commit) / name;
  make_folders(path.parent_path());
  std::error_code error;
  if (fs::exists(path, error)) return;
  fs::remove(path, error);  // a link to a blob that was deleted
  const fs::path target = fs::path(blob(hash)).lexically_relative(path.parent_path());
  fs::create_symlink(target, path, error);
  // Another pull may have been faster.
  std::error_code ignored;
  check(!error || fs::exists(path, ignored), "{}: cannot create the link to {}: {}", path.string(),
        target.string(), error.message());
}

void ModelCache::set_commit(const std::string& revision, const std::string& commit) const {
  if (revision == commit) return;
  const fs::path path = model_ / "refs" / revision;
  make_folders(path.parent_path());
  // Written beside refs/, where no file but a ref may ever be seen.
  write_at_once(path, commit, model_);
}

FileLock::FileLock(const fs::path& path, const std::stop_token& stop) {
  constexpr std::chrono::milliseconds kPoll{100};
  while (true) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0664);
    if (descriptor_ < 0) fail("{}: cannot open: {}", path.string(), reason(errno));
    const bool locked = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
    const int error = errno;
    struct stat held {
    }, named{};
    // Whoever tidies up may have deleted the file meanwhile; then the lock says nothing.
    if (locked && ::fstat(descriptor_, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
      return;
    ::close(descriptor_);
    check(locked || error == EWOULDBLOCK || error == EINTR,
          "{}: cannot be locked: {}; let HF_HUB_CACHE name a folder of a file system with flock",
          path.string(), reason(error));
    sleep_for(kPoll, stop);
  }
}

FileLock::~FileLock() { ::close(descriptor_); }

void sleep_for(std::chrono::milliseconds duration, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  std::unique_lock lock(mutex);
  wake.wait_for(lock, stop, duration, [] { return false; });
  if (stop.stop_requested()) throw PullCancelled();
}

}  // namespace lockstep
