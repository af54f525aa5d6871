// A file opened for reading at any position. Tensor data is read with pread and not mapped: a file
// that shrinks while it is read is then an Error and not a signal, and resident memory stays what
// the caller allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace lockstep {

// Owns the descriptor. Movable; read() may be called by many threads at once.
class File {
 public:
  // Throws Error when there is no such file, it is not a regular file, or it may not be read.
  explicit File(const std::filesystem::path& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  ~File();

  const std::string& name() const { return name_; }
  std::uint64_t size() const { return size_; }  // bytes, when it was opened

  // Copies [offset, offset + bytes) to `out`; throws Error when that is not all within the file.
  void read(std::uint64_t offset, std::size_t bytes, void* out) const;

 private:
  std::string name_;
  std::uint64_t size_ = 0;
  int descriptor_ = -1;
};

// Throws Error when the file is what Git LFS leaves in place of a large file that was not fetched.
void reject_git_lfs_pointer(const File& file);

// A name that came from a file, quoted for an error message: unprintable bytes escaped, cut when it
// is long.
std::string quote_name(std::string_view name);

}  // namespace lockstep
