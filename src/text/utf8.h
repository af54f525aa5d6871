// UTF-8: decoding, repair of invalid bytes, and the few code point classes that tokenizers need.
// Stateless functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lockstep {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// One step of decoding. For invalid bytes `length` is that of the maximal subpart (Unicode 15,
// section 3.9), which one U+FFFD replaces.
struct Utf8Step {
  char32_t code_point = 0xFFFD;
  std::size_t length = 1;
  bool valid = false;
  bool incomplete = false;  // the text ended within what could have become a character
};

// Decodes at `position`, which must be less than text.size().
Utf8Step decode_utf8(std::string_view text, std::size_t position);

void append_utf8(char32_t code_point, std::string& out);

bool is_valid_utf8(std::string_view text);

// `text` with each maximal subpart of an invalid sequence replaced by U+FFFD.
std::string repair_utf8(std::string_view text);

// Unicode's White_Space property.
bool is_white_space(char32_t code_point);

}  // namespace lockstep
