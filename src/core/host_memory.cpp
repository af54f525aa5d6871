#include "core/host_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kUnlimited = std::numeric_limits<std::uint64_t>::max();

// The number behind `key` in a file of lines "key number", or the file's first word without a key.
std::optional<std::uint64_t> read_number(const fs::path& file, const std::string& key = {}) {
  std::ifstream in(file);
  std::uint64_t number = 0;
  if (key.empty()) return in >> number ? std::optional(number) : std::nullopt;
  for (std::string word; in >> word;) {
    if (word == key) return in >> number ? std::optional(number) : std::nullopt;
    in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

// Names of one version of control groups' files.
struct GroupFiles {
  const char* folder;
  const char* limit;
  const char* usage;
  const char* active;    // of memory.stat: file pages, which the kernel gives up
  const char* inactive;  // the same
};
constexpr GroupFiles kVersion2 = {"sys/fs/cgroup", "memory.max", "memory.current", "active_file",
                                  "inactive_file"};
constexpr GroupFiles kVersion1 = {"sys/fs/cgroup/memory", "memory.limit_in_bytes",
                                  "memory.usage_in_bytes", "total_active_file",
                                  "total_inactive_file"};

// What a control group and those around it leave.
std::uint64_t available_in_group(const fs::path& root, const GroupFiles& files, fs::path group) {
  std::uint64_t available = kUnlimited;
  const fs::path top = root / files.folder;
  for (group = group.relative_path();; group = group.parent_path()) {
    const fs::path folder = top / group;
    const auto limit = read_number(folder / files.limit);  // "max" is no number
    const auto usage = read_number(folder / files.usage);
    if (limit && usage) {
      const fs::path statistics = folder / "memory.stat";
      const std::uint64_t caches = read_number(statistics, files.active).value_or(0) +
                                   read_number(statistics, files.inactive).value_or(0);
      const std::uint64_t used = *usage - std::min(*usage, caches);
      available = std::min(available, *limit - std::min(*limit, used));
    }
    if (group.empty()) return available;
  }
}

}  // namespace

std::uint64_t available_host_memory(const fs::path& root) {
  std::uint64_t available = kUnlimited;
  if (const auto kilobytes = read_number(root / "proc/meminfo", "MemAvailable:"))
    available = *kilobytes * 1024;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "4:memory:/path", version 2: "0::/path"
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && ("," + controllers + ",").find(",memory,") == std::string::npos)
      continue;
    const GroupFiles& files = controllers.empty() ? kVersion2 : kVersion1;
    available = std::min(available, available_in_group(root, files, line.substr(second + 1)));
  }
  return available;
}

}  // namespace lockstep
