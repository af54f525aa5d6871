// Filters of single values: texts and numbers. Those of sequences are in sequence_filters.cpp.
#include "jinja/filters.h"

#include <cmath>
#include <cstdlib>

#include "jinja/arguments.h"
#include "jinja/format.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

MarkedText text_of(Interpreter& interpreter, const Value& value) {
  return to_text(value, interpreter.budget());
}

Value trim(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("trim", arguments, {"value", "chars"}, 1);
  const MarkedText* characters = bound.text_if(1);
  return strip(text_of(interpreter, bound.required(0)), Side::kBoth,
               characters ? std::optional(characters->bytes()) : std::nullopt);
}

template <Case wanted>
Value case_filter(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("a case filter", arguments, {"value"}, 1);
  return change_case(text_of(interpreter, bound.required(0)), wanted);
}

// Unlike str.title: a word begins behind white space, "-" and opening brackets alone.
Value title(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("title", arguments, {"value"}, 1);
  const MarkedText text = text_of(interpreter, bound.required(0));
  MarkedText out;
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  bool begins = true;
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    const MarkedText character = text.slice(starts[i], starts[i + 1]);
    out.append(change_case(character, begins ? Case::kUpper : Case::kLower));
    begins =
        character.bytes().find_first_of("-({[<") == 0 || is_all(character.bytes(), Class::kSpace);
  }
  return out;
}

Value string(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("string", arguments, {"value"}, 1);
  return text_of(interpreter, bound.required(0));
}

// Nothing is escaped on output, so that there is nothing to mark.
Value safe(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("safe", arguments, {"value"}, 1);
  return bound.required(0);
}

Value escape(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("escape", arguments, {"value"}, 1);
  MarkedText text = text_of(interpreter, bound.required(0));
  constexpr std::pair<std::string_view, std::string_view> kEscapes[] = {
      {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
  for (const auto& [from, to] : kEscapes) {
    interpreter.budget().spend_bytes(text.size() * to.size());
    text = replace(text, from, MarkedText(to, true), -1);
  }
  return text;
}

Value replace_filter(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("replace", arguments, {"s", "old", "new", "count"}, 3);
  const MarkedText text = text_of(interpreter, bound.required(0));
  const MarkedText old = text_of(interpreter, bound.required(1));
  const MarkedText by = text_of(interpreter, bound.required(2));
  interpreter.budget().spend_bytes(text.size() +
                                   count(text.bytes(), old.bytes()) * (by.size() + 1));
  return replace(text, old.bytes(), by, bound.get(3) ? bound.integer(3, -1) : -1);
}

Value indent(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("indent", arguments, {"s", "width", "first", "blank"}, 1);
  MarkedText text = bound.text(0);
  MarkedText prefix(std::string(4, ' '), true);
  if (bound.find(1) && bound.find(1)->text()) {
    prefix = bound.text(1);
  } else if (bound.find(1)) {
    const std::int64_t width = std::max(bound.integer(1, 4), std::int64_t{0});
    interpreter.budget().spend_bytes(static_cast<std::uint64_t>(width));
    prefix = MarkedText(std::string(static_cast<std::size_t>(width), ' '), true);
  }
  text.append("\n", true);  // so that splitting keeps a last line that is empty
  const std::vector<MarkedText> lines = split_lines(text, false);
  interpreter.budget().spend_bytes(text.size() + lines.size() * (prefix.size() + 1));
  MarkedText out;
  if (bound.truth(2, false)) out.append(prefix);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.append("\n", true);
    if (i > 0 && (!lines[i].empty() || bound.truth(3, false))) out.append(prefix);
    out.append(lines[i]);
  }
  return out;
}

Value truncate(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("truncate", arguments, {"s", "length", "killwords", "end", "leeway"},
                             1);
  const MarkedText& text = bound.text(0);
  interpreter.budget().spend_bytes(text.size());
  const std::int64_t length = bound.integer(1, 255);
  const MarkedText end = bound.find(3) ? bound.text(3) : MarkedText("...", true);
  const auto end_size = static_cast<std::int64_t>(character_count(end.bytes()));
  const std::int64_t leeway = bound.get(4) ? bound.integer(4, 5) : 5;
  check(length >= end_size, "truncate(): expected length >= {}, got {}", end_size, length);
  check(leeway >= 0, "truncate(): expected leeway >= 0, got {}", leeway);
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  if (static_cast<std::int64_t>(starts.size()) - 1 <= length + leeway) return text;
  MarkedText out = text.slice(0, starts[static_cast<std::size_t>(length - end_size)]);
  if (!bound.truth(2, false)) out = split(out, " ", 1, true).front();
  out.append(end);
  return out;
}

Value center(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("center", arguments, {"value", "width"}, 1);
  Arguments width;
  width.positional.emplace_back(Integer{bound.integer(1, 80)});
  return interpreter.call(method_of(text_of(interpreter, bound.required(0)), "center"), width);
}

Value format(Interpreter& interpreter, const Arguments& arguments) {
  check(!arguments.positional.empty(), "format() misses the argument 'value'");
  check(arguments.named.empty() || arguments.positional.size() == 1,
        "can't handle positional and keyword arguments at the same time");
  const MarkedText text = text_of(interpreter, arguments.positional[0]);
  if (arguments.named.empty())
    return percent_format(text,
                          Sequence({arguments.positional.begin() + 1, arguments.positional.end()},
                                   Sequence::Kind::kTuple),
                          interpreter.budget());
  Dict values;
  for (const auto& [name, value] : arguments.named)
    values.set(Value::trusted(name), value, interpreter.budget());
  return percent_format(text, values, interpreter.budget());
}

Value word_count(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("wordcount", arguments, {"s"}, 1);
  const MarkedText text = text_of(interpreter, bound.required(0));
  Integer words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t end = next_character(text.bytes(), i);
    const std::string_view character = std::string_view(text.bytes()).substr(i, end - i);
    const bool word = character == "_" || is_all(character, Class::kAlnum);
    words += word && !inside ? 1 : 0;
    inside = word;
    i = end;
  }
  return words;
}

Value absolute(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("abs", arguments, {"x"}, 1);
  const Value& value = bound.required(0);
  value.require_defined();
  check(value.is_number(), "bad operand type for abs(): '{}'", value.type_name());
  if (value.is_float()) return std::abs(value.number());
  return value.integer() < 0 ? unary("-", value) : Value(value.integer());
}

Value to_int(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("int", arguments, {"value", "default", "base"}, 1);
  const Value& value = bound.required(0);
  value.require_defined();
  const Value fallback = bound.find(1) ? *bound.find(1) : Value(0);
  if (value.is_integer()) return value.integer();
  if (value.is_float())
    return std::isfinite(value.number()) ? Value(truncate_float(value.number())) : fallback;
  if (!value.text()) return fallback;
  const std::string& text = value.text()->bytes();
  if (const auto integer = parse_integer(text, static_cast<int>(bound.integer(2, 10))))
    return *integer;
  const auto number = parse_float(text);
  return number && std::isfinite(*number) ? Value(truncate_float(*number)) : fallback;
}

Value to_float(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("float", arguments, {"value", "default"}, 1);
  const Value& value = bound.required(0);
  value.require_defined();
  if (value.is_number()) return value.number();
  const auto number = value.text() ? parse_float(value.text()->bytes()) : std::nullopt;
  if (number) return *number;
  return bound.find(1) ? *bound.find(1) : Value(0.0);
}

// Python's round(): exact, halves to the even digit. snprintf rounds the same way.
double round_to(double value, std::int64_t digits) {
  if (!std::isfinite(value) || digits > 320) return value;
  if (digits < 0) {
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    return std::nearbyint(value / unit) * unit;
  }
  char buffer[800];
  std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(digits), value);
  return std::strtod(buffer, nullptr);
}

Value round_filter(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("round", arguments, {"value", "precision", "method"}, 1);
  const Value& value = bound.required(0);
  const std::int64_t precision = bound.integer(1, 0);
  const std::string method = bound.find(2) ? bound.text(2).bytes() : "common";
  check(method == "common" || method == "ceil" || method == "floor",
        "round(): method must be common, ceil or floor");
  value.require_defined();
  check(value.is_number(), "type {} doesn't define __round__ method", value.type_name());
  if (method == "common")
    return value.is_integer() && precision >= 0 ? Value(value.integer())
                                                : Value(round_to(value.number(), precision));
  const double unit = std::pow(10.0, static_cast<double>(precision));
  const double scaled = value.number() * unit;
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / unit;
}

Value default_filter(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("default", arguments, {"value", "default_value", "boolean"}, 1);
  const Value& value = bound.required(0);
  const bool replaced = value.is_undefined() || (bound.truth(2, false) && !value.truth());
  if (!replaced) return value;
  return bound.find(1) ? *bound.find(1) : Value(MarkedText());
}

Value attr(Interpreter&, const Arguments& arguments) {
  const BoundArguments bound("attr", arguments, {"obj", "name"}, 2);
  const std::string& name = bound.text(1).bytes();
  const Value& value = bound.required(0);
  value.require_defined();
  if (value.object()) return attribute_of(value, name);
  Value method = method_of(value, name);
  return method.is_undefined()
             ? Value::undefined(fmt::format("there is no attribute {}", quoted(name)))
             : method;
}

Value to_json_filter(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("tojson", arguments,
                             {"x", "ensure_ascii", "indent", "separators", "sort_keys"}, 1);
  JsonStyle style;
  style.ensure_ascii = bound.truth(1, false);
  style.sort_keys = bound.truth(4, false);
  if (const Value* width = bound.get(2)) {
    const std::int64_t spaces = width->text() ? 0 : std::max(bound.integer(2, 0), std::int64_t{0});
    check(spaces <= 1000, "tojson(): an indent of {} is too large", spaces);
    style.indent =
        width->text() ? width->text()->bytes() : std::string(static_cast<std::size_t>(spaces), ' ');
    style.item_separator = MarkedText(",", true);
  }
  if (const Value* separators = bound.get(3)) {
    const std::vector<Value> parts = iterate(*separators, interpreter.budget());
    check(parts.size() == 2 && parts[0].text() && parts[1].text(),
          "tojson(): separators must be two texts");
    style.item_separator = *parts[0].text();
    style.key_separator = *parts[1].text();
  }
  return to_json(bound.required(0), style, interpreter.budget());
}

}  // namespace

const Filters& value_filters() {
  static const Filters filters = {
      {"abs", absolute},
      {"attr", attr},
      {"capitalize", case_filter<Case::kCapitalize>},
      {"center", center},
      {"d", default_filter},
      {"default", default_filter},
      {"e", escape},
      {"escape", escape},
      {"float", to_float},
      {"forceescape", escape},
      {"format", format},
      {"indent", indent},
      {"int", to_int},
      {"lower", case_filter<Case::kLower>},
      {"replace", replace_filter},
      {"round", round_filter},
      {"safe", safe},
      {"string", string},
      {"title", title},
      {"tojson", to_json_filter},
      {"trim", trim},
      {"truncate", truncate},
      {"upper", case_filter<Case::kUpper>},
      {"wordcount", word_count},
  };
  return filters;
}

}  // namespace lockstep::jinja
