#include "hub/download.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <system_error>
#include <vector>

#include "checkpoint/file.h"
#include "core/check.h"
#include "hub/hash.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

std::string reason(int error) { return std::generic_category().message(error); }

fs::path incomplete_path(const ModelCache& cache, const std::string& hash) {
  return cache.blob(hash).string() + ".incomplete";
}

// blobs/HASH.incomplete: written from its end on. Kept when something goes wrong.
class IncompleteFile {
 public:
  explicit IncompleteFile(const fs::path& path) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail("{}: cannot open: {}", path.string(), reason(errno));
    struct stat status {};
    if (::fstat(descriptor_, &status) == 0) size_ = static_cast<std::uint64_t>(status.st_size);
  }
  ~IncompleteFile() { ::close(descriptor_); }
  IncompleteFile(const IncompleteFile&) = delete;
  IncompleteFile& operator=(const IncompleteFile&) = delete;

  std::uint64_t size() const { return size_; }

  void clear() {
    if (::ftruncate(descriptor_, 0) != 0)
      fail("{}: cannot be emptied: {}", path_.string(), reason(errno));
    size_ = 0;
  }

  void append(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t count =
          ::pwrite(descriptor_, bytes.data(), bytes.size(), static_cast<off_t>(size_));
      if (count < 0 && errno == EINTR) continue;
      if (count < 0)
        fail(
            "{}: cannot write {} bytes at offset {}: {}; what has arrived is kept, pull again to "
            "go on from it",
            path_.string(), bytes.size(), size_, reason(errno));
      size_ += static_cast<std::uint64_t>(count);
      bytes.remove_prefix(static_cast<std::size_t>(count));
    }
  }

  // Calls `sink` with the content from the start.
  void read_all(const std::stop_token& stop, const std::function<void(std::string_view)>& sink) {
    std::vector<char> buffer(1 << 20);
    for (std::uint64_t offset = 0; offset < size_;) {
      if (stop.stop_requested()) throw PullCancelled();
      const ssize_t count =
          ::pread(descriptor_, buffer.data(), buffer.size(), static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0)
        fail("{}: cannot read at offset {}: {}", path_.string(), offset,
             count < 0 ? reason(errno) : "truncated");
      sink({buffer.data(), static_cast<std::size_t>(count)});
      offset += static_cast<std::uint64_t>(count);
    }
  }

  // On the disk, whatever happens to the machine; then under its own name.
  void finish(const fs::path& blob) {
    if (::fsync(descriptor_) != 0 || ::rename(path_.c_str(), blob.c_str()) != 0)
      fail("{}: cannot be completed: {}", blob.string(), reason(errno));
  }

 private:
  fs::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

// "bytes 100-199/200": the first number and the last. False for anything else.
bool parse_content_range(const std::string& header, std::uint64_t& first, std::uint64_t& total) {
  const std::size_t slash = header.find('/');
  if (!header.starts_with("bytes ") || slash == header.npos) return false;
  const auto begin = std::from_chars(header.data() + 6, header.data() + slash, first);
  const auto end = std::from_chars(header.data() + slash + 1, header.data() + header.size(), total);
  return begin.ec == std::errc() && end.ec == std::errc();
}

class Download {
 public:
  Download(const HubFile& file, const fs::path& path, std::string source,
           const FileProgress& progress)
      : file_(file),
        incomplete_(path),
        source_(std::move(source)),
        progress_(progress),
        hash_(file.hash, file.size) {}

  // Takes over what is there.
  void resume(const std::stop_token& stop) {
    if (incomplete_.size() > file_.size) incomplete_.clear();
    std::uint64_t done = 0;
    incomplete_.read_all(stop, [&](std::string_view bytes) {
      hash_.update(bytes);
      progress_(done += bytes.size());
    });
    most_ = incomplete_.size();
    resumed_ = most_ > 0;
  }

  void restart() {
    incomplete_.clear();
    hash_ = ContentHash(file_.hash, file_.size);
    resumed_ = false;
    progress_(0);
  }

  // One attempt to get what is missing.
  void fetch(HubClient& client, const std::string& repo, const std::string& commit) {
    if (incomplete_.size() == file_.size) return;
    const std::uint64_t offset = incomplete_.size();
    bool first = true;
    const int status = client.download(
        repo, commit, file_, offset, [&](const HttpResponse& response, std::string_view bytes) {
          if (std::exchange(first, false)) check_start(response, offset);
          check(incomplete_.size() + bytes.size() <= file_.size,
                "{}: more bytes arrive than the {} that the hub announced", source_, file_.size);
          incomplete_.append(bytes);
          hash_.update(bytes);
          progress_(incomplete_.size());
        });
    if (status == 416) {
      check(offset > 0, "{}: status 416 (range not satisfiable) for the whole file", source_);
      restart();
    }
    if (incomplete_.size() < file_.size)
      throw TemporaryError(
          fmt::format("{}: only {} of {} bytes arrived", source_, incomplete_.size(), file_.size));
  }

  // Whether more is there than ever since the last call.
  bool advanced() {
    const bool more = incomplete_.size() > most_;
    most_ = std::max(most_, incomplete_.size());
    return more;
  }

  // False when the sum is wrong and the start was somebody else's: worth another attempt.
  bool verify() {
    const std::string found = hash_.finish();
    if (found == file_.hash) return true;
    const bool again = resumed_;
    const char* kind = hash_.name();
    restart();
    if (!again)
      fail(
          "{}: its {} is {}, but the hub announced {}: it was damaged on the way; pull again, and "
          "if that does not help the server or a proxy is at fault",
          source_, kind, found, file_.hash);
    return false;
  }

  void finish(const fs::path& blob) { incomplete_.finish(blob); }

 private:
  void check_start(const HttpResponse& response, std::uint64_t offset) {
    const std::string encoding = response.header("content-encoding");
    check(encoding.empty() || encoding == "identity",
          "{}: arrives with the encoding {}, which was not asked for", source_,
          quote_name(encoding));
    if (response.status == 206) {
      std::uint64_t first = 0, total = 0;
      check(parse_content_range(response.header("content-range"), first, total) &&
                first == offset && total == file_.size,
            "{}: {} bytes from offset {} on were asked for, but {} arrive", source_,
            file_.size - offset, offset, quote_name(response.header("content-range")));
      return;
    }
    if (offset > 0) restart();  // the server cannot resume
    std::uint64_t length = 0;
    const std::string text = response.header("content-length");
    const auto result = std::from_chars(text.data(), text.data() + text.size(), length);
    check(text.empty() || (result.ec == std::errc() && length == file_.size),
          "{}: {} bytes arrive, but the hub announced {}: pull again; if that does not help, the "
          "server or a proxy is at fault",
          source_, length, file_.size);
  }

  const HubFile& file_;
  IncompleteFile incomplete_;
  std::string source_;  // for errors
  const FileProgress& progress_;
  ContentHash hash_;
  std::uint64_t most_ = 0;
  bool resumed_ = false;  // starts with bytes that an earlier process got
};

bool is_there(const fs::path& blob, std::uint64_t size) {
  std::error_code error;
  return fs::file_size(blob, error) == size && !error;
}

}  // namespace

std::uint64_t missing_bytes(const ModelCache& cache, const HubFile& file) {
  if (is_there(cache.blob(file.hash), file.size)) return 0;
  std::error_code error;
  const auto size = fs::file_size(incomplete_path(cache, file.hash), error);
  return error || size > file.size ? file.size : file.size - size;
}

bool download_blob(HubClient& client, const ModelCache& cache, const std::string& repo,
                   const std::string& commit, const HubFile& file, const std::stop_token& stop,
                   const FileProgress& progress) {
  const fs::path blob = cache.blob(file.hash);
  if (is_there(blob, file.size)) return false;
  const FileLock lock(cache.lock(file.hash), stop);
  if (is_there(blob, file.size)) return false;  // made while we waited
  Download download(file, incomplete_path(cache, file.hash), repo + "/" + file.path, progress);
  download.resume(stop);
  do {
    client.retry([&] { download.fetch(client, repo, commit); },
                 [&] { return download.advanced(); });
  } while (!download.verify());
  download.finish(blob);
  return true;
}

}  // namespace lockstep
