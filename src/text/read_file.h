// Reading a small file whole.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {

// Throws Error when the file cannot be read or has more than `max_bytes`.
inline std::string read_whole_file(const std::filesystem::path& path, std::uint64_t max_bytes) {
  const File file(path);
  check(file.size() <= max_bytes, "{}: {} bytes are more than the {} expected of such a file",
        file.name(), file.size(), max_bytes);
  std::string content(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, content.size(), content.data());
  return content;
}

}  // namespace lockstep
