#include "hub/pull.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "checkpoint/file.h"
#include "core/check.h"
#include "core/format_bytes.h"
#include "hub/cache.h"
#include "hub/client.h"
#include "hub/download.h"
#include "hub/select.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxConnections = 8;

std::string read_text(const fs::path& path) {
  constexpr std::uint64_t kMostBytes = 32 << 20;
  const File file(path);
  check(file.size() <= kMostBytes, "{}: more than {} bytes", file.name(), kMostBytes);
  std::string text(file.size(), '\0');
  file.read(0, text.size(), text.data());
  return text;
}

// One pull.
class Puller {
 public:
  Puller(const HubSettings& settings, const ModelName& name, const PullOptions& options)
      : settings_(settings),
        name_(name),
        options_(options),
        cache_(settings.cache, name.repo),
        forward_stop_(options.stop, Forward{stop_}) {}

  PulledModel run() {
    HubClient client(settings_, stop_.get_token());
    result_.repo = name_.repo;
    result_.revision = name_.revision;
    result_.commit = client.find_commit(name_.repo, name_.revision);
    Names names;
    for (const HubFile& file : client.list_files(name_.repo, result_.commit))
      if (listing_.insert({file.path, file}).second) names.push_back(file.path);
    std::sort(names.begin(), names.end());

    const Selection selection = select(names);
    cache_.create_folders();
    fetch(selection.files);
    const fs::path snapshot = cache_.snapshot(result_.commit);
    const fs::path index = snapshot / selection.index;
    fetch(selection.index.empty() ? selection.weights
                                  : read_weight_index(read_text(index), index.string(), names));
    // Last, so that a name in the cache stands for all of its files.
    cache_.set_commit(name_.revision, result_.commit);
    result_.path = selection.gguf ? snapshot / selection.weights.front() : snapshot;
    return std::move(result_);
  }

 private:
  struct Forward {
    std::stop_source source;
    void operator()() { source.request_stop(); }
  };

  Selection select(const Names& names) const {
    try {
      return select_files(names, name_, options_.weights);
    } catch (const Error& error) {
      fail("{}: {}", name_.repo, error.what());
    }
  }

  // Brings these files into the snapshot, several at a time.
  void fetch(const Names& names) {
    std::vector<const HubFile*> queue;
    for (const std::string& name : names) queue.push_back(&listing_.at(name));
    check_space(queue);
    for (const HubFile* file : queue) progress_.total += file->size;
    // The largest last: taken first from the end.
    std::stable_sort(queue.begin(), queue.end(),
                     [](const HubFile* a, const HubFile* b) { return a->size < b->size; });
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < std::min(kMaxConnections, names.size()); ++i)
        threads.emplace_back([&] { work(queue); });
    }
    if (error_) std::rethrow_exception(error_);
  }

  void check_space(const std::vector<const HubFile*>& files) const {
    std::uint64_t needed = 0;
    for (const HubFile* file : files) needed += missing_bytes(cache_, *file);
    struct statvfs disk {};
    if (needed == 0 || ::statvfs(cache_.root().c_str(), &disk) != 0) return;
    const std::uint64_t free = std::uint64_t{disk.f_bavail} * disk.f_frsize;
    check(
        needed <= free,
        "{}: {} are to be fetched, but {} has only {} free: make room, or let HF_HUB_CACHE name a "
        "folder on a larger disk",
        name_.repo, format_bytes(static_cast<double>(needed)), cache_.root().string(),
        format_bytes(static_cast<double>(free)));
  }

  // A thread's work: files of the queue, until there is none or something failed.
  void work(std::vector<const HubFile*>& queue) {
    try {
      HubClient client(settings_, stop_.get_token());
      while (const HubFile* file = next(queue)) {
        const bool fetched =
            download_blob(client, cache_, name_.repo, result_.commit, *file, stop_.get_token(),
                          [&](std::uint64_t done) { report(*file, done); });
        cache_.link(result_.commit, file->path, file->hash);
        report(*file, file->size);
        const std::lock_guard lock(mutex_);
        result_.files.push_back({file->path, file->size, fetched});
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop_.request_stop();
    }
  }

  const HubFile* next(std::vector<const HubFile*>& queue) {
    const std::lock_guard lock(mutex_);
    if (queue.empty() || stop_.stop_requested()) return nullptr;
    const HubFile* file = queue.back();
    queue.pop_back();
    return file;
  }

  void report(const HubFile& file, std::uint64_t done) {
    const std::lock_guard lock(mutex_);
    std::uint64_t& before = done_[file.path];
    progress_.done += done - before;  // modulo 2^64, where it goes back
    before = done;
    progress_.file = file.path;
    progress_.file_done = done;
    progress_.file_size = file.size;
    if (options_.progress) options_.progress(progress_);
  }

  const HubSettings& settings_;
  const ModelName& name_;
  const PullOptions& options_;
  const ModelCache cache_;
  std::stop_source stop_;  // the caller's, or because a file failed
  const std::stop_callback<Forward> forward_stop_;
  std::map<std::string, HubFile> listing_;

  std::mutex mutex_;  // guards what follows, and the queue, while threads work
  PulledModel result_;
  std::exception_ptr error_;                   // the first
  std::map<std::string, std::uint64_t> done_;  // bytes by file
  PullProgress progress_;
};

}  // namespace

ModelName parse_pull_name(const std::string& model, const std::string& revision) {
  std::optional<ModelName> name = parse_model_name(model);
  if (!name)
    fail(
        "{} is no name of a model on the hub: expected is org/name, org/name:Q4_K_M or "
        "org/name/file.gguf, with or without @revision",
        quote_name(model));
  check(name->revision.empty() || revision.empty(), "{}: the revision {} is given as well", model,
        quote_name(revision));
  if (!revision.empty()) name->revision = revision;
  if (name->revision.empty()) name->revision = "main";
  check(is_safe_path(name->revision), "{} is no revision", quote_name(name->revision));
  return *name;
}

CachedModel find_cached(const HubSettings& settings, const ModelName& name, bool weights) {
  CachedModel cached;
  const ModelCache cache(settings.cache, name.repo);
  const std::optional<std::string> commit = cache.find_commit(name.revision);
  const Names names = commit ? cache.files(*commit) : Names();
  if (names.empty()) {
    cached.missing = "not";
    return cached;
  }
  const fs::path snapshot = cache.snapshot(*commit);
  cached.commit = *commit;
  try {
    const Selection selection = select_files(names, name, weights);
    if (!selection.index.empty()) {
      const fs::path index = snapshot / selection.index;
      read_weight_index(read_text(index), index.string(), names);
    }
    cached.path = selection.gguf ? snapshot / selection.weights.front() : snapshot;
    // Not every model has one, but who fetched by hand may have left it out.
    const auto is_tokenizer = [](const std::string& file) {
      return file == "tokenizer.json" || file == "tokenizer.model";
    };
    cached.complete = selection.gguf || std::any_of(names.begin(), names.end(), is_tokenizer);
  } catch (const Error& error) {
    cached.missing = fmt::format("not complete ({})", error.what());
  }
  return cached;
}

PulledModel pull_model(const HubSettings& settings, const ModelName& name,
                       const PullOptions& options) {
  if (!settings.offline && !options.offline) return Puller(settings, name, options).run();
  const CachedModel cached = find_cached(settings, name, options.weights);
  check(!cached.path.empty(),
        "{}@{}: {} in the cache {}, and HF_HUB_OFFLINE forbids to fetch it: run `lockstep pull {}` "
        "where there is a network",
        name.repo, name.revision, cached.missing, settings.cache.string(), name.repo);
  return {cached.path, name.repo, name.revision, cached.commit, {}};
}

fs::path pull(const std::string& model, const PullOptions& options) {
  return pull_model(hub_settings(), parse_pull_name(model, options.revision), options).path;
}

fs::path locate_model(const std::string& model, const PullOptions& options) {
  std::error_code error;
  if (fs::exists(model, error)) return model;
  if (!parse_model_name(model))
    fail(
        "{}: there is no such file or directory, and a model on the hub is named org/name, "
        "org/name:Q4_K_M or org/name/file.gguf, with or without @revision",
        model);
  try {
    const HubSettings settings = hub_settings();
    const ModelName name = parse_pull_name(model, options.revision);
    const CachedModel cached = find_cached(settings, name, options.weights);
    return cached.complete ? cached.path : pull_model(settings, name, options).path;
  } catch (const PullCancelled&) {
    throw;
  } catch (const Error& reason) {
    fail("{} (nor is there a file or directory {})", reason.what(), model);
  }
}

}  // namespace lockstep
