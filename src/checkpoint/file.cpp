#include "checkpoint/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/check.h"

namespace lockstep {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

File::File(const std::filesystem::path& path) : name_(path.string()) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. It means nothing for regular files.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) fail("{}: cannot open: {}", name_, reason(errno));
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    const std::string why = known ? "not a regular file" : reason(errno);
    ::close(descriptor_);
    fail("{}: cannot read: {}", name_, why);
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

File::File(File&& other) noexcept
    : name_(std::move(other.name_)),
      size_(other.size_),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

File& File::operator=(File&& other) noexcept {
  std::swap(name_, other.name_);
  std::swap(size_, other.size_);
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

File::~File() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void File::read(std::uint64_t offset, std::size_t bytes, void* out) const {
  check(offset <= size_ && bytes <= size_ - offset,
        "{}: truncated: {} bytes expected at offset {}, but the file has {} bytes", name_, bytes,
        offset, size_);
  auto* destination = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t count = ::pread(descriptor_, destination, bytes, static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0)
      fail("{}: cannot read {} bytes at offset {}: {}", name_, bytes, offset, reason(errno));
    check(count > 0, "{}: truncated while it was read: {} bytes expected at offset {}, none found",
          name_, bytes, offset);
    destination += count;
    offset += static_cast<std::uint64_t>(count);
    bytes -= static_cast<std::size_t>(count);
  }
}

void reject_git_lfs_pointer(const File& file) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  if (file.size() < kPointer.size()) return;
  std::string start(kPointer.size(), '\0');
  file.read(0, start.size(), start.data());
  check(start != kPointer,
        "{}: a Git LFS pointer of {} bytes and not the file itself; fetch it with `git lfs pull`",
        file.name(), file.size());
}

std::string quote_name(std::string_view name) {
  constexpr std::size_t kMost = 200;
  std::string text = "\"";
  for (const char c : name.substr(0, kMost)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f)
      text += fmt::format("\\x{:02x}", byte);
    else
      text += c;
  }
  return text + (name.size() > kMost ? "...\"" : "\"");
}

}  // namespace lockstep
