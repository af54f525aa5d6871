#include "text/normalizer.h"

#include <utf8proc.h>

#include <algorithm>

#include "text/json_fields.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

using CodePoint = utf8proc_int32_t;

void append_decomposed(char32_t code_point, int options, std::vector<CodePoint>& out) {
  CodePoint buffer[32];  // no character decomposes into more than 18
  int boundary_class = 0;
  const utf8proc_ssize_t count =
      utf8proc_decompose_char(static_cast<CodePoint>(code_point), buffer, std::size(buffer),
                              static_cast<utf8proc_option_t>(options), &boundary_class);
  if (count < 0 || count > static_cast<utf8proc_ssize_t>(std::size(buffer))) {
    out.push_back(static_cast<CodePoint>(code_point));
  } else {
    out.insert(out.end(), buffer, buffer + count);
  }
}

// Canonical ordering. Done here because utf8proc's own takes quadratic time for long runs of
// combining marks, which anybody can put into a prompt.
void order_marks(std::vector<CodePoint>& points) {
  const auto combining_class = [](CodePoint c) {
    return utf8proc_get_property(c)->combining_class;
  };
  for (std::size_t i = 0; i < points.size();) {
    if (points[i] < 0x300 || combining_class(points[i]) == 0) {
      ++i;
      continue;
    }
    std::size_t end = i + 1;
    while (end < points.size() && combining_class(points[end]) != 0) ++end;
    std::stable_sort(
        points.begin() + static_cast<std::ptrdiff_t>(i),
        points.begin() + static_cast<std::ptrdiff_t>(end),
        [&](CodePoint a, CodePoint b) { return combining_class(a) < combining_class(b); });
    i = end;
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

MarkedText strip(const MarkedText& text, bool left, bool right) {
  std::size_t begin = 0;
  std::size_t end = 0;  // behind the last character that is no white space
  bool inside = !left;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text.bytes(), i);
    if (!is_white_space(step.code_point)) {
      inside = true;
      end = i + step.length;
    } else if (!inside) {
      begin = i + step.length;
    }
    i += step.length;
  }
  if (!right) end = text.size();
  return text.slice(begin, end);
}

// Normalised piece by piece, where each begins with an ASCII character: nothing before such a
// character composes with it, so that the pieces do not depend on each other.
MarkedText normalize_marked(const MarkedText& text, UnicodeForm form) {
  const std::string& bytes = text.bytes();
  if (is_ascii(bytes)) return text;
  if (text.all_trusted()) return MarkedText(normalize_unicode(bytes, form), true);
  MarkedText out;
  for (std::size_t begin = 0; begin < bytes.size();) {
    std::size_t end = begin + 1;
    while (end < bytes.size() && static_cast<unsigned char>(bytes[end]) >= 0x80) ++end;
    const MarkedText piece = text.slice(begin, end);
    const std::string normal = normalize_unicode(piece.bytes(), form);
    normal == piece.bytes() ? out.append(piece) : out.append(normal, piece.all_trusted());
    begin = end;
  }
  return out;
}

MarkedText replace_marked(const MarkedText& text, const Regex& pattern, std::string_view content) {
  MarkedText out;
  std::size_t copied = 0;
  pattern.for_each_match(text.bytes(), [&](std::size_t begin, std::size_t end) {
    out.append(text, copied, begin);
    out.append(content, text.slice(begin, end).all_trusted());
    copied = end;
  });
  out.append(text, copied, text.size());
  return out;
}

}  // namespace

std::string normalize_unicode(std::string_view text, UnicodeForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  const bool composed = form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc;
  const int decompose = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  std::vector<CodePoint> points;
  points.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    append_decomposed(step.code_point, decompose, points);
    i += step.length;
  }
  order_marks(points);
  if (composed) {
    const utf8proc_ssize_t count = utf8proc_normalize_utf32(
        points.data(), static_cast<utf8proc_ssize_t>(points.size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    check(count >= 0, "Unicode normalisation failed: {}", utf8proc_errmsg(count));
    points.resize(static_cast<std::size_t>(count));
  }
  std::string out;
  out.reserve(text.size());
  for (const CodePoint c : points) append_utf8(static_cast<char32_t>(c), out);
  return out;
}

Regex pattern_from_json(const nlohmann::json& json, const std::string& source) {
  if (const nlohmann::json* text = find_field(json, "String"))
    return Regex::literal(as_string(*text, "String", source), source);
  if (const nlohmann::json* text = find_field(json, "Regex"))
    return Regex(as_string(*text, "Regex", source), source);
  fail("{}: a pattern has neither 'String' nor 'Regex'", source);
}

std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content) {
  std::string out;
  std::size_t copied = 0;
  pattern.for_each_match(text, [&](std::size_t begin, std::size_t end) {
    out += text.substr(copied, begin - copied);
    out += content;
    copied = end;
  });
  out += text.substr(copied);
  return out;
}

Normalizer Normalizer::unicode(UnicodeForm form) {
  Normalizer normalizer;
  normalizer.steps_.push_back({.kind = Kind::kUnicode, .form = form});
  return normalizer;
}

Normalizer Normalizer::from_json(const nlohmann::json& json, const std::string& source) {
  Normalizer normalizer;
  normalizer.add(json, source);
  return normalizer;
}

void Normalizer::add(const nlohmann::json& json, const std::string& source) {
  const std::string& type = require_string(json, "type", source);
  if (type == "Sequence") {
    for (const nlohmann::json& step : require_array(json, "normalizers", source)) add(step, source);
  } else if (type == "NFC") {
    steps_.push_back({.kind = Kind::kUnicode, .form = UnicodeForm::kNfc});
  } else if (type == "NFD") {
    steps_.push_back({.kind = Kind::kUnicode, .form = UnicodeForm::kNfd});
  } else if (type == "NFKC") {
    steps_.push_back({.kind = Kind::kUnicode, .form = UnicodeForm::kNfkc});
  } else if (type == "NFKD") {
    steps_.push_back({.kind = Kind::kUnicode, .form = UnicodeForm::kNfkd});
  } else if (type == "Prepend") {
    steps_.push_back({.kind = Kind::kPrepend, .content = require_string(json, "prepend", source)});
  } else if (type == "Replace") {
    steps_.push_back(
        {.kind = Kind::kReplace,
         .content = require_string(json, "content", source),
         .pattern = pattern_from_json(require_field(json, "pattern", source), source)});
  } else if (type == "Strip") {
    steps_.push_back({.kind = Kind::kStrip,
                      .strip_left = bool_or(json, "strip_left", true, source),
                      .strip_right = bool_or(json, "strip_right", true, source)});
  } else {
    fail("{}: the normalizer '{}' is not supported", source, type);
  }
}

MarkedText Normalizer::apply(const MarkedText& text) const {
  MarkedText current = text;
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kUnicode:
        current = normalize_marked(current, step.form);
        break;
      case Kind::kPrepend:
        if (!current.empty()) {
          MarkedText longer(step.content, true);
          longer.append(current);
          current = std::move(longer);
        }
        break;
      case Kind::kReplace:
        current = replace_marked(current, *step.pattern, step.content);
        break;
      case Kind::kStrip:
        current = strip(current, step.strip_left, step.strip_right);
        break;
    }
  }
  return current;
}

}  // namespace lockstep
