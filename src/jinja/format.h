// Values as text: str(), repr(), JSON, % formatting, and numbers from text.
#pragma once

#include <optional>
#include <string>

#include "jinja/value.h"

namespace lockstep::jinja {

// str(): what {{ value }} prints.
MarkedText to_text(const Value& value, Budget& budget);
// repr(): what lists print their elements as.
MarkedText repr(const Value& value, Budget& budget);

struct JsonStyle {
  std::optional<std::string> indent;  // unset: all on one line
  MarkedText item_separator{", ", true};
  MarkedText key_separator{": ", true};
  bool ensure_ascii = false;
  bool sort_keys = false;
};
// Python's json.dumps. Throws Error for what JSON cannot hold.
MarkedText to_json(const Value& value, const JsonStyle& style, Budget& budget);
// Of JSON text, whose strings and keys are not trusted. `source` is named in errors.
Value from_json(std::string_view json, const std::string& source);

// format % values, and format.format(arguments).
MarkedText percent_format(const MarkedText& format, const Value& values, Budget& budget);
MarkedText brace_format(const MarkedText& format, const Arguments& arguments, Budget& budget);

std::string format_float(double value);
// int(text, base) and float(text); empty where Python raises ValueError.
std::optional<Integer> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);
// A float without its fraction. Throws Error when it is no number or too large.
Integer truncate_float(double value);

}  // namespace lockstep::jinja
