// What Python's str does, on text that remembers where its bytes come from. All text is valid
// UTF-8; positions and lengths of these functions are in bytes unless they say characters.
// Stateless functions; thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/marked_text.h"

namespace lockstep::jinja {

// The end of the character that begins at `position`.
std::size_t next_character(std::string_view text, std::size_t position);
std::size_t character_count(std::string_view text);
// Where each character begins, and the end of the text.
std::vector<std::size_t> character_starts(std::string_view text);

// str.isspace of one character.
bool is_space(char32_t character);

// repr() of a text: in quotes, what cannot be printed escaped.
std::string quoted(std::string_view text);
MarkedText quoted(const MarkedText& text);

enum class Side : std::uint8_t { kBoth, kLeft, kRight };
// Without white space at its ends, or without any of `characters` there.
MarkedText strip(const MarkedText& text, Side side = Side::kBoth,
                 const std::optional<std::string>& characters = {});

// At most `limit` splits (negative: all of them), from the left, or from the right. Without a
// separator: at runs of white space. The separator is not empty.
std::vector<MarkedText> split(const MarkedText& text, const std::optional<std::string>& separator,
                              std::int64_t limit, bool from_right);
std::vector<MarkedText> split_lines(const MarkedText& text, bool keep_ends);

// At most `limit` replacements (negative: all of them).
MarkedText replace(const MarkedText& text, std::string_view old, const MarkedText& by,
                   std::int64_t limit);

// Simple case mappings, one character for one, but for "ß", whose upper case is "SS".
enum class Case : std::uint8_t { kUpper, kLower, kTitle, kCapitalize, kSwap };
MarkedText change_case(const MarkedText& text, Case wanted);

// str.isalpha and its like; false for an empty text.
enum class Class : std::uint8_t { kAlpha, kDigit, kAlnum, kSpace, kUpper, kLower };
bool is_all(std::string_view text, Class wanted);

// How often `part` occurs without overlap.
std::size_t count(std::string_view text, std::string_view part);

}  // namespace lockstep::jinja
