// The two sums by which the hub names file contents.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace lockstep {

// sha256 of the content (64 digits, files in LFS), or sha1 as git counts it (40 digits: with
// "blob SIZE\0" in front).
class ContentHash {
 public:
  // For a content of `size` bytes that is to have the sum `expected`, whose length tells the kind.
  ContentHash(const std::string& expected, std::uint64_t size);
  ~ContentHash();
  ContentHash(ContentHash&&) noexcept;
  ContentHash& operator=(ContentHash&&) noexcept;

  void update(std::string_view bytes);
  // In lower-case hexadecimal. Ends the computation.
  std::string finish();
  const char* name() const;  // "sha256", "git's sha1"

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
