// Turns a stretch of text that holds no added tokens into ids.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace lockstep {

// Immutable and thread-safe.
class SegmentEncoder {
 public:
  virtual ~SegmentEncoder() = default;
  // Appends the ids of `text` (valid UTF-8, normalised) to `ids`. `at_start`: it begins where the
  // whole input does.
  virtual void encode(std::string_view text, bool at_start,
                      std::vector<std::int32_t>& ids) const = 0;
};

}  // namespace lockstep
