#include "jinja/python_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>

#include "text/utf8.h"

namespace lockstep::jinja {
namespace {

utf8proc_int32_t as_utf8proc(char32_t c) { return static_cast<utf8proc_int32_t>(c); }

bool is_letter(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(as_utf8proc(c));
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t c) { return utf8proc_category(as_utf8proc(c)) == UTF8PROC_CATEGORY_ND; }

// Whether repr() shows the character as it is.
bool is_printable(char32_t c) {
  if (c == U' ') return true;
  switch (utf8proc_category(as_utf8proc(c))) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
      return false;
    default:
      return true;
  }
}

std::string escaped(char32_t c) {
  if (c == U'\n') return "\\n";
  if (c == U'\r') return "\\r";
  if (c == U'\t') return "\\t";
  const auto code = static_cast<std::uint32_t>(c);
  if (code < 0x100) return fmt::format("\\x{:02x}", code);
  return code < 0x10000 ? fmt::format("\\u{:04x}", code) : fmt::format("\\U{:08x}", code);
}

bool is_line_break(char32_t c) {
  return (c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 ||
         c == 0x2029;
}

// The pieces between `pieces`' boundaries, given as pairs of positions.
using Span = std::pair<std::size_t, std::size_t>;

std::vector<MarkedText> cut(const MarkedText& text, const std::vector<Span>& spans) {
  std::vector<MarkedText> parts;
  for (const auto& [begin, end] : spans) parts.push_back(text.slice(begin, end));
  return parts;
}

std::vector<Span> words_of(std::string_view text) {
  std::vector<Span> words;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    const bool space = is_space(step.code_point);
    if (!space && !inside) words.emplace_back(i, i);
    if (!space) words.back().second = i + step.length;
    inside = !space;
    i += step.length;
  }
  return words;
}

std::vector<Span> split_at_spaces(std::string_view text, std::size_t limit, bool from_right) {
  std::vector<Span> words = words_of(text);
  if (words.size() <= limit) return words;
  // What is beyond the limit stays in one piece, up to the text's other end but for white space.
  if (from_right) {
    const std::size_t rest = words.size() - limit;
    words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(rest - 1));
    words.front().first = 0;
    return words;
  }
  words.resize(limit + 1);
  words.back().second = text.size();
  return words;
}

std::vector<Span> split_at(std::string_view text, std::string_view separator, std::size_t limit,
                           bool from_right) {
  std::vector<Span> parts;
  if (from_right) {
    std::size_t end = text.size();
    while (parts.size() < limit) {
      if (end < separator.size()) break;
      const std::size_t at = text.rfind(separator, end - separator.size());
      if (at == text.npos) break;
      parts.emplace_back(at + separator.size(), end);
      end = at;
    }
    parts.emplace_back(0, end);
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  std::size_t begin = 0;
  while (parts.size() < limit) {
    const std::size_t at = text.find(separator, begin);
    if (at == text.npos) break;
    parts.emplace_back(begin, at);
    begin = at + separator.size();
  }
  parts.emplace_back(begin, text.size());
  return parts;
}

char32_t to_upper(char32_t c) { return static_cast<char32_t>(utf8proc_toupper(as_utf8proc(c))); }
char32_t to_lower(char32_t c) { return static_cast<char32_t>(utf8proc_tolower(as_utf8proc(c))); }
bool is_upper(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(as_utf8proc(c));
  return category == UTF8PROC_CATEGORY_LU || (c != to_lower(c) && !is_letter(c));
}
bool is_lower(char32_t c) {
  const utf8proc_category_t category = utf8proc_category(as_utf8proc(c));
  return category == UTF8PROC_CATEGORY_LL || (c != to_upper(c) && !is_letter(c));
}
bool is_cased(char32_t c) {
  return is_upper(c) || is_lower(c) || utf8proc_category(as_utf8proc(c)) == UTF8PROC_CATEGORY_LT;
}

}  // namespace

std::size_t next_character(std::string_view text, std::size_t position) {
  return position + decode_utf8(text, position).length;
}

std::size_t character_count(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

std::vector<std::size_t> character_starts(std::string_view text) {
  std::vector<std::size_t> starts;
  for (std::size_t i = 0; i < text.size(); i = next_character(text, i)) starts.push_back(i);
  starts.push_back(text.size());
  return starts;
}

bool is_space(char32_t character) {
  return is_white_space(character) || (character >= 0x1C && character <= 0x1F);
}

MarkedText quoted(const MarkedText& text) {
  const std::string& bytes = text.bytes();
  const bool doubled = bytes.find('\'') != bytes.npos && bytes.find('"') == bytes.npos;
  const char quote = doubled ? '"' : '\'';
  MarkedText out(std::string_view(&quote, 1), true);
  for (std::size_t i = 0; i < bytes.size();) {
    const Utf8Step step = decode_utf8(bytes, i);
    const char32_t c = step.code_point;
    if (c == static_cast<char32_t>(quote) || c == U'\\') out.append("\\", text.trusted(i));
    if (is_printable(c))
      out.append(text, i, i + step.length);
    else
      out.append(escaped(c), text.trusted(i));
    i += step.length;
  }
  out.append(std::string_view(&quote, 1), true);
  return out;
}

std::string quoted(std::string_view text) { return quoted(MarkedText(text, true)).bytes(); }

MarkedText strip(const MarkedText& text, Side side, const std::optional<std::string>& characters) {
  const std::string& bytes = text.bytes();
  const auto stripped = [&](std::size_t begin, std::size_t end) {
    const std::string_view character(bytes.data() + begin, end - begin);
    return characters ? characters->find(character) != std::string::npos
                      : is_space(decode_utf8(character, 0).code_point);
  };
  std::size_t begin = 0;
  std::size_t end = bytes.size();
  if (side != Side::kRight)
    while (begin < end && stripped(begin, next_character(bytes, begin)))
      begin = next_character(bytes, begin);
  while (side != Side::kLeft && begin < end) {
    std::size_t last = end - 1;
    while ((static_cast<unsigned char>(bytes[last]) & 0xC0) == 0x80) --last;
    if (!stripped(last, end)) break;
    end = last;
  }
  return text.slice(begin, end);
}

std::vector<MarkedText> split(const MarkedText& text, const std::optional<std::string>& separator,
                              std::int64_t limit, bool from_right) {
  const std::size_t most = limit < 0 ? SIZE_MAX : static_cast<std::size_t>(limit);
  return cut(text, separator ? split_at(text.bytes(), *separator, most, from_right)
                             : split_at_spaces(text.bytes(), most, from_right));
}

std::vector<MarkedText> split_lines(const MarkedText& text, bool keep_ends) {
  std::vector<Span> lines;
  const std::string& bytes = text.bytes();
  std::size_t begin = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const Utf8Step step = decode_utf8(bytes, i);
    std::size_t end = i + step.length;
    if (is_line_break(step.code_point)) {
      if (step.code_point == U'\r' && end < bytes.size() && bytes[end] == '\n') ++end;
      lines.emplace_back(begin, keep_ends ? end : i);
      begin = end;
    }
    i = end;
  }
  if (begin < bytes.size()) lines.emplace_back(begin, bytes.size());
  return cut(text, lines);
}

MarkedText replace(const MarkedText& text, std::string_view old, const MarkedText& by,
                   std::int64_t limit) {
  MarkedText out;
  std::size_t copied = 0;
  const std::string& bytes = text.bytes();
  for (std::size_t at = 0; limit != 0; --limit) {
    at = bytes.find(old, at);
    if (at == bytes.npos) break;
    out.append(text, copied, at);
    out.append(by);
    copied = at + old.size();
    if (!old.empty()) {
      at = copied;
    } else if (at < bytes.size()) {  // between any two characters
      at = next_character(bytes, at);
    } else {
      break;
    }
  }
  out.append(text, copied, bytes.size());
  return out;
}

MarkedText change_case(const MarkedText& text, Case wanted) {
  constexpr char32_t kSharpS = 0xDF;
  MarkedText out;
  bool inside = false;  // a word, for titles; the text, for capitals
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text.bytes(), i);
    const char32_t c = step.code_point;
    bool upper = wanted == Case::kUpper;
    if (wanted == Case::kSwap) upper = is_lower(c);
    if (wanted == Case::kTitle || wanted == Case::kCapitalize) upper = !inside;
    const bool title = upper && wanted != Case::kUpper && wanted != Case::kSwap;
    std::string changed;
    if (c == kSharpS && upper)
      changed.append(title ? "Ss" : "SS");
    else if (title)
      append_utf8(static_cast<char32_t>(utf8proc_totitle(as_utf8proc(c))), changed);
    else if (upper)
      append_utf8(to_upper(c), changed);
    else
      append_utf8(wanted == Case::kSwap && !is_upper(c) ? c : to_lower(c), changed);
    out.append(changed, text.trusted(i));
    inside = wanted == Case::kCapitalize || is_cased(c);
    i += step.length;
  }
  return out;
}

bool is_all(std::string_view text, Class wanted) {
  bool some = false;  // a character that has case, for kUpper and kLower
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    const char32_t c = step.code_point;
    i += step.length;
    if (wanted == Class::kUpper || wanted == Class::kLower) {
      if (!is_cased(c)) continue;
      if (!(wanted == Class::kUpper ? is_upper(c) : is_lower(c))) return false;
      some = true;
      continue;
    }
    const bool is = wanted == Class::kSpace   ? is_space(c)
                    : wanted == Class::kAlpha ? is_letter(c)
                    : wanted == Class::kDigit ? is_digit(c)
                                              : is_letter(c) || is_digit(c);
    if (!is) return false;
    some = true;
  }
  return some;
}

std::size_t count(std::string_view text, std::string_view part) {
  if (part.empty()) return character_count(text) + 1;
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + part.size()))
    ++found;
  return found;
}

}  // namespace lockstep::jinja
