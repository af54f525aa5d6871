// Reading JSON that anyone may have written. The parsed value is nlohmann::json; only the way in is
// ours: nesting and the number of values are limited, duplicate keys are rejected.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace lockstep {

// Most levels of arrays and objects, and most values (keys not counted) of one document.
inline constexpr std::size_t kMaxJsonDepth = 64;
inline constexpr std::size_t kMaxJsonValues = std::size_t{1} << 23;

// Parses one JSON document; `source` (a file's name) stands in errors. Throws Error for anything
// that is not JSON in UTF-8 (naming the position), a duplicate key, or a limit exceeded.
nlohmann::json parse_json(std::string_view text, const std::string& source);

// Reads and parses a file. Throws Error also when it cannot be read or has more than `max_bytes`.
nlohmann::json read_json_file(const std::filesystem::path& path,
                              std::uintmax_t max_bytes = std::uintmax_t{256} << 20);

}  // namespace lockstep
