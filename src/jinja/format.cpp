#include "jinja/format.h"

#include <charconv>
#include <cmath>
#include <cstdio>

#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

void append_items(MarkedText& out, const Sequence& sequence, Budget& budget) {
  for (std::size_t i = 0; i < sequence.values.size(); ++i) {
    if (i > 0) out.append(", ", true);
    out.append(repr(sequence.values[i], budget));
  }
}

MarkedText wrapped(std::string_view open, const Sequence& sequence, std::string_view close,
                   Budget& budget) {
  MarkedText out(open, true);
  append_items(out, sequence, budget);
  out.append(close, true);
  return out;
}

MarkedText repr(const Sequence& sequence, Budget& budget) {
  switch (sequence.kind) {
    case Sequence::Kind::kList:
      return wrapped("[", sequence, "]", budget);
    case Sequence::Kind::kTuple:
      return wrapped("(", sequence, sequence.values.size() == 1 ? ",)" : ")", budget);
    case Sequence::Kind::kKeys:
      return wrapped("dict_keys([", sequence, "])", budget);
    case Sequence::Kind::kValues:
      return wrapped("dict_values([", sequence, "])", budget);
    case Sequence::Kind::kItems:
      return wrapped("dict_items([", sequence, "])", budget);
    case Sequence::Kind::kRange:
      return wrapped("range(", sequence, ")", budget);
    case Sequence::Kind::kGenerator:
      break;
  }
  return MarkedText("<generator object>", true);
}

MarkedText repr(const Dict& dict, Budget& budget) {
  MarkedText out("{", true);
  for (const auto& [key, value] : dict.entries) {
    if (out.size() > 1) out.append(", ", true);
    out.append(repr(key, budget));
    out.append(": ", true);
    out.append(repr(value, budget));
  }
  out.append("}", true);
  return out;
}

// The digits of a number and where its decimal point is: 0.digits times ten to `exponent`.
std::string layout(const std::string& digits, int exponent) {
  if (exponent < -3 || exponent > 16) {
    const int power = exponent - 1;
    return fmt::format("{}{}{}e{}{:02}", digits[0], digits.size() > 1 ? "." : "", digits.substr(1),
                       power < 0 ? '-' : '+', std::abs(power));
  }
  if (exponent <= 0)
    return fmt::format("0.{}{}", std::string(static_cast<std::size_t>(-exponent), '0'), digits);
  const auto point = static_cast<std::size_t>(exponent);
  if (digits.size() <= point)
    return fmt::format("{}{}.0", digits, std::string(point - digits.size(), '0'));
  return fmt::format("{}.{}", digits.substr(0, point), digits.substr(point));
}

bool is_python_digit(char c, int base) {
  const int value = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'z' ? c - 'a' + 10
                    : c >= 'A' && c <= 'Z' ? c - 'A' + 10
                                           : 99;
  return value < base;
}

// Python allows one underscore between digits.
std::optional<std::string> without_underscores(std::string_view text, int base) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const bool between = i > 0 && i + 1 < text.size() && is_python_digit(text[i - 1], base) &&
                         is_python_digit(text[i + 1], base);
    if (!between) return std::nullopt;
  }
  return out;
}

}  // namespace

std::string format_float(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  if (value == 0) return std::signbit(value) ? "-0.0" : "0.0";
  char buffer[64];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, std::abs(value), std::chars_format::scientific);
  const std::string_view text(buffer, static_cast<std::size_t>(end.ptr - buffer));
  const std::size_t e = text.find('e');
  std::string digits(text.substr(0, e));
  std::erase(digits, '.');
  while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
  int exponent = 0;
  const std::size_t first = text[e + 1] == '+' ? e + 2 : e + 1;
  std::from_chars(text.data() + first, text.data() + text.size(), exponent);
  return fmt::format("{}{}", value < 0 ? "-" : "", layout(digits, exponent + 1));
}

MarkedText to_text(const Value& value, Budget& budget) {
  if (value.is_undefined()) return {};
  if (const MarkedText* text = value.text()) {
    budget.spend_bytes(text->size());
    return *text;
  }
  return repr(value, budget);
}

MarkedText repr(const Value& value, Budget& budget) {
  budget.spend();
  if (value.is_undefined()) return MarkedText("Undefined", true);
  if (value.is_none()) return MarkedText("None", true);
  if (value.is_bool()) return MarkedText(value.boolean() ? "True" : "False", true);
  if (value.is_integer()) return MarkedText(fmt::format("{}", value.integer()), true);
  if (value.is_float()) return MarkedText(format_float(value.number()), true);
  if (const MarkedText* text = value.text()) {
    budget.spend_bytes(text->size());
    return quoted(*text);
  }
  if (const Sequence* sequence = value.sequence()) return repr(*sequence, budget);
  if (const Dict* dict = value.dict()) return repr(*dict, budget);
  return MarkedText(fmt::format("<{}>", value.object()->type_name()), true);
}

std::optional<Integer> parse_integer(std::string_view text, int base) {
  const MarkedText stripped = strip(MarkedText(text, true));
  std::string_view rest = stripped.bytes();
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  const auto prefixed = [&](char letter) {
    return rest.size() > 2 && rest[0] == '0' && (rest[1] | 0x20) == letter;
  };
  for (const auto& [letter, its_base] : {std::pair{'x', 16}, {'o', 8}, {'b', 2}}) {
    if (!prefixed(letter) || (base != its_base && base != 0)) continue;
    base = its_base;
    rest.remove_prefix(rest[2] == '_' ? 3 : 2);
  }
  if (base == 0) base = 10;
  const auto digits = without_underscores(rest, base);
  if (base < 2 || base > 36 || !digits || digits->empty()) return std::nullopt;
  Integer value = 0;
  for (const char c : *digits) {
    if (!is_python_digit(c, base)) return std::nullopt;
    const int digit = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    check(!__builtin_mul_overflow(value, Integer{base}, &value) &&
              !__builtin_add_overflow(value, Integer{digit}, &value),
          "the integer {} is too large", text);
  }
  return negative ? -value : value;
}

std::optional<double> parse_float(std::string_view text) {
  const MarkedText stripped = strip(MarkedText(text, true));
  auto digits = without_underscores(stripped.bytes(), 10);
  if (!digits) return std::nullopt;
  std::string_view rest = *digits;
  const bool negative = rest.starts_with('-');
  if (negative || rest.starts_with('+')) rest.remove_prefix(1);
  if (rest.empty() || rest[0] == '-') return std::nullopt;
  double value = 0;
  const auto end = std::from_chars(rest.data(), rest.data() + rest.size(), value);
  if (end.ptr != rest.data() + rest.size() || rest.find('(') != rest.npos) return std::nullopt;
  if (end.ec == std::errc::result_out_of_range)
    value = std::strtod(std::string(rest).c_str(), {});
  else if (end.ec != std::errc())
    return std::nullopt;
  return negative ? -value : value;
}

Integer truncate_float(double value) {
  check(std::isfinite(value), "cannot convert float {} to integer", format_float(value));
  check(std::abs(value) < 0x1p126, "the float {} is too large for an integer", format_float(value));
  return static_cast<Integer>(value);
}

}  // namespace lockstep::jinja
