// Python's two ways of filling values into a text: "%s" % value and "{}".format(value).
#include <algorithm>
#include <cmath>

#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

// How a value is laid out: [flags][width][.precision]type.
struct Layout {
  bool left = false;
  bool zero = false;
  bool plus = false;
  bool space = false;
  bool alternate = false;
  std::size_t width = 0;
  int precision = -1;  // none
  char type = 's';
};

bool is_decimal(char c) { return c >= '0' && c <= '9'; }

std::size_t read_number(std::string_view text, std::size_t& position) {
  constexpr std::size_t kMost = 1000;
  std::size_t number = 0;
  while (position < text.size() && is_decimal(text[position])) {
    number = number * 10 + static_cast<std::size_t>(text[position++] - '0');
    check(number <= kMost, "a width or precision above {} in a format", kMost);
  }
  return number;
}

// `position` is behind the "%".
Layout read_layout(std::string_view text, std::size_t& position) {
  Layout layout;
  for (; position < text.size(); ++position) {
    const char c = text[position];
    if (c == '-')
      layout.left = true;
    else if (c == '0')
      layout.zero = true;
    else if (c == '+')
      layout.plus = true;
    else if (c == ' ')
      layout.space = true;
    else if (c == '#')
      layout.alternate = true;
    else
      break;
  }
  layout.width = read_number(text, position);
  if (position < text.size() && text[position] == '.')
    layout.precision = static_cast<int>(read_number(text, ++position));
  check(position < text.size(), "incomplete format");
  layout.type = text[position++];
  return layout;
}

std::string sign_of(bool negative, const Layout& layout) {
  return negative ? "-" : layout.plus ? "+" : layout.space ? " " : "";
}

MarkedText padded(const MarkedText& body, const std::string& sign, const Layout& layout) {
  const std::size_t size = sign.size() + character_count(body.bytes());
  const std::size_t missing = layout.width > size ? layout.width - size : 0;
  const bool zeros = layout.zero && !layout.left;
  MarkedText out;
  if (!layout.left && !zeros) out.append(std::string(missing, ' '), true);
  out.append(sign, true);
  if (zeros) out.append(std::string(missing, '0'), true);
  out.append(body);
  if (layout.left) out.append(std::string(missing, ' '), true);
  return out;
}

MarkedText format_integer(const Value& value, const Layout& layout) {
  value.require_defined();
  check(value.is_number() && (value.is_integer() || layout.type == 'd' || layout.type == 'i'),
        "%{} format: an integer is required, not {}", layout.type, value.type_name());
  const Integer number = value.is_integer() ? value.integer() : truncate_float(value.number());
  const bool negative = number < 0;
  const auto magnitude = static_cast<unsigned __int128>(negative ? -number : number);
  std::string digits = layout.type == 'x'   ? fmt::format("{:x}", magnitude)
                       : layout.type == 'X' ? fmt::format("{:X}", magnitude)
                       : layout.type == 'o' ? fmt::format("{:o}", magnitude)
                                            : fmt::format("{}", magnitude);
  if (layout.precision > static_cast<int>(digits.size()))
    digits.insert(0, static_cast<std::size_t>(layout.precision) - digits.size(), '0');
  std::string sign = sign_of(negative, layout);
  if (layout.alternate && layout.type != 'd' && layout.type != 'i')
    sign += std::string("0") + layout.type;
  return padded(MarkedText(digits, true), sign, layout);
}

MarkedText format_number(const Value& value, const Layout& layout) {
  value.require_defined();
  check(value.is_number(), "%{} format: a real number is required, not {}", layout.type,
        value.type_name());
  const double number = value.number();
  const std::string format = fmt::format("%{}.{}{}", layout.alternate ? "#" : "",
                                         layout.precision < 0 ? 6 : layout.precision, layout.type);
  char buffer[1500];
  std::snprintf(buffer, sizeof buffer, format.c_str(), std::abs(number));
  return padded(MarkedText(buffer, true), sign_of(std::signbit(number), layout), layout);
}

MarkedText format_text(MarkedText text, const Layout& layout) {
  if (layout.precision >= 0) {
    const std::vector<std::size_t> starts = character_starts(text.bytes());
    const auto most = static_cast<std::size_t>(layout.precision);
    if (most < starts.size()) text = text.slice(0, starts[most]);
  }
  Layout plain = layout;
  plain.zero = false;
  return padded(text, "", plain);
}

MarkedText format_one(const Value& value, const Layout& layout, Budget& budget) {
  switch (layout.type) {
    case 's':
      return format_text(to_text(value, budget), layout);
    case 'r':
      return format_text(repr(value, budget), layout);
    case 'd':
    case 'i':
    case 'x':
    case 'X':
    case 'o':
      return format_integer(value, layout);
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
      return format_number(value, layout);
    default:
      fail("the format '%{}' is not supported", layout.type);
  }
}

}  // namespace

MarkedText percent_format(const MarkedText& format, const Value& values, Budget& budget) {
  const Sequence* tuple = values.sequence();
  if (tuple && tuple->kind != Sequence::Kind::kTuple) tuple = nullptr;
  const std::size_t count = tuple ? tuple->values.size() : 1;
  std::size_t used = 0;
  MarkedText out;
  const std::string& bytes = format.bytes();
  budget.spend_bytes(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t percent = std::min(bytes.find('%', i), bytes.size());
    out.append(format, i, percent);
    i = percent;
    if (i == bytes.size()) break;
    ++i;
    const Value* value = nullptr;
    if (i < bytes.size() && bytes[i] == '(') {
      const std::size_t close = bytes.find(')', i);
      check(close != bytes.npos, "incomplete format key");
      check(values.dict() != nullptr, "format requires a mapping");
      const std::string key = bytes.substr(i + 1, close - i - 1);
      value = values.dict()->find(key);
      check(value != nullptr, "the format's key {} is missing", quoted(key));
      used = count;
      i = close + 1;
    }
    const Layout layout = read_layout(bytes, i);
    if (layout.type == '%') {
      out.append("%", true);
      continue;
    }
    if (!value) {
      check(used < count, "not enough arguments for format string");
      value = tuple ? &tuple->values[used] : &values;
      ++used;
    }
    const MarkedText text = format_one(*value, layout, budget);
    budget.spend_bytes(text.size());
    out.append(text);
  }
  check(used == count || values.dict(), "not all arguments converted during string formatting");
  return out;
}

MarkedText brace_format(const MarkedText& format, const Arguments& arguments, Budget& budget) {
  MarkedText out;
  const std::string& bytes = format.bytes();
  std::size_t automatic = 0;
  for (std::size_t i = 0; i < bytes.size();) {
    const std::size_t brace = std::min(bytes.find_first_of("{}", i), bytes.size());
    out.append(format, i, brace);
    i = brace;
    if (i == bytes.size()) break;
    if (i + 1 < bytes.size() && bytes[i + 1] == bytes[i]) {
      out.append(format, i, i + 1);
      i += 2;
      continue;
    }
    const std::size_t close = bytes.find('}', i);
    check(bytes[i] == '{' && close != bytes.npos, "format(): a single '{}'", bytes[i]);
    const std::string name = bytes.substr(i + 1, close - i - 1);
    i = close + 1;
    check(std::all_of(name.begin(), name.end(),
                      [](char c) {
                        return is_decimal(c) || std::isalpha(static_cast<unsigned char>(c)) ||
                               c == '_';
                      }),
          "format(): the field {} is not supported, only names and numbers are", quoted(name));
    const Value* value = nullptr;
    if (name.empty() || is_decimal(name[0])) {
      std::size_t at = 0;
      const std::size_t index = name.empty() ? automatic++ : read_number(name, at);
      check(index < arguments.positional.size(), "format(): there is no argument {}", index);
      value = &arguments.positional[index];
    } else {
      for (const auto& [key, named] : arguments.named)
        if (key == name) value = &named;
      check(value != nullptr, "format(): there is no argument {}", quoted(name));
    }
    const MarkedText text = to_text(*value, budget);
    budget.spend_bytes(text.size());
    out.append(text);
  }
  return out;
}

}  // namespace lockstep::jinja
