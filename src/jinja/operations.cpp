// Operators, attributes, subscripts and slices.
#include <algorithm>
#include <cmath>

#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

[[noreturn]] void unsupported(std::string_view operation, const Value& left, const Value& right) {
  fail("unsupported operand type(s) for {}: '{}' and '{}'", operation, left.type_name(),
       right.type_name());
}

Integer floor_divide(Integer a, Integer b) {
  check(b != 0, "integer division or modulo by zero");
  const Integer quotient = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? quotient - 1 : quotient;
}

Value integer_power(Integer base, Integer exponent) {
  if (exponent < 0) {
    check(base != 0, "0.0 cannot be raised to a negative power");
    return std::pow(static_cast<double>(base), static_cast<double>(exponent));
  }
  if (base >= -1 && base <= 1)
    return base == 0 || base == 1 ? (exponent == 0 ? 1 : base) : (exponent % 2 == 0 ? 1 : -1);
  Integer result = 1;
  for (Integer i = 0; i < exponent; ++i)
    check(!__builtin_mul_overflow(result, base, &result), "an integer is too large");
  return result;
}

Value integers(std::string_view operation, Integer a, Integer b) {
  Integer result = 0;
  bool overflow = false;
  if (operation == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (operation == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (operation == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (operation == "/") {
    check(b != 0, "division by zero");
    return static_cast<double>(a) / static_cast<double>(b);
  } else if (operation == "**") {
    return integer_power(a, b);
  } else {
    overflow = b == -1 && a < -(~(Integer{1} << 127));
    if (!overflow) result = floor_divide(a, b);
    if (!overflow && operation == "%") result = a - result * b;
  }
  check(!overflow, "an integer is too large");
  return result;
}

Value floats(std::string_view operation, double a, double b) {
  if (operation == "+") return a + b;
  if (operation == "-") return a - b;
  if (operation == "*") return a * b;
  if (operation == "**") {
    check(a != 0 || b >= 0, "0.0 cannot be raised to a negative power");
    check(a >= 0 || b == std::floor(b), "complex numbers are not supported");
    return std::pow(a, b);
  }
  check(b != 0, "float division by zero");
  if (operation == "/") return a / b;
  // As Python computes them, so that the remainder has the divisor's sign.
  double remainder = std::fmod(a, b);
  if (remainder != 0 && (b < 0) != (remainder < 0)) remainder += b;
  if (operation == "%") return remainder == 0 ? std::copysign(0.0, b) : remainder;
  const double quotient = (a - remainder) / b;
  const double rounded = std::floor(quotient);
  return quotient - rounded > 0.5 ? rounded + 1 : rounded;
}

Value repeat(const Value& value, Integer count, Budget& budget) {
  count = std::max(count, Integer{0});
  check(count <= Integer{1} << 32, "a repetition is too large");
  const auto times = static_cast<std::uint64_t>(count);
  if (const MarkedText* text = value.text()) {
    check(times == 0 || text->size() <= SIZE_MAX / times, "a repetition is too large");
    budget.spend_bytes(times * text->size());
    MarkedText out;
    for (std::uint64_t i = 0; i < times && !text->empty(); ++i) out.append(*text);
    return out;
  }
  const Sequence& sequence = *value.sequence();
  check(times <= (std::uint64_t{1} << 32) / (1 + sequence.values.size()),
        "a repetition is too large");
  budget.spend_values(times * sequence.values.size());
  std::vector<Value> values;
  for (std::uint64_t i = 0; i < times && !sequence.values.empty(); ++i)
    values.insert(values.end(), sequence.values.begin(), sequence.values.end());
  return Sequence(std::move(values), sequence.kind);
}

bool is_list_or_tuple(const Value& value) {
  return value.sequence() && value.sequence()->kind <= Sequence::Kind::kTuple;
}

Value add(const Value& left, const Value& right, Budget& budget) {
  if (left.text() && right.text()) {
    budget.spend_bytes(left.text()->size() + right.text()->size());
    MarkedText text = *left.text();
    text.append(*right.text());
    return text;
  }
  check(!left.text(), "can only concatenate str (not \"{}\") to str", right.type_name());
  if (is_list_or_tuple(left) && is_list_or_tuple(right) &&
      left.sequence()->kind == right.sequence()->kind) {
    budget.spend_values(left.sequence()->values.size() + right.sequence()->values.size());
    std::vector<Value> values = left.sequence()->values;
    values.insert(values.end(), right.sequence()->values.begin(), right.sequence()->values.end());
    return Sequence(std::move(values), left.sequence()->kind);
  }
  unsupported("+", left, right);
}

// Where a slice begins and ends, as Python's slice.indices() computes it.
struct SliceBounds {
  Integer start, stop, step;
};

SliceBounds slice_bounds(Integer length, const Value& start, const Value& stop, const Value& step) {
  const auto bound = [](const Value& value, Integer fallback) {
    if (value.is_none()) return fallback;
    value.require_defined();
    check(value.is_integer(), "slice indices must be integers or None, not {}", value.type_name());
    return value.integer();
  };
  SliceBounds bounds{};
  bounds.step = bound(step, 1);
  check(bounds.step != 0, "slice step cannot be zero");
  const bool down = bounds.step < 0;
  const Integer lowest = down ? -1 : 0;
  const Integer highest = down ? length - 1 : length;
  const auto clamp = [&](Integer index) {
    if (index < 0) index = index < -length ? -1 - length : index;
    return std::clamp(index < 0 ? index + length : index, lowest, highest);
  };
  bounds.start = start.is_none() ? (down ? highest : lowest) : clamp(bound(start, 0));
  bounds.stop = stop.is_none() ? (down ? lowest : highest) : clamp(bound(stop, 0));
  return bounds;
}

// A step beyond any length does not overflow.
std::vector<std::size_t> slice_indices(std::size_t length, const Value& start, const Value& stop,
                                       const Value& step, Budget& budget) {
  SliceBounds bounds = slice_bounds(static_cast<Integer>(length), start, stop, step);
  const Integer most = static_cast<Integer>(length) + 1;
  bounds.step = std::clamp(bounds.step, -most, most);
  std::vector<std::size_t> indices;
  for (Integer i = bounds.start; bounds.step > 0 ? i < bounds.stop : i > bounds.stop;
       i += bounds.step) {
    budget.spend();
    indices.push_back(static_cast<std::size_t>(i));
  }
  return indices;
}

// Null when there is no such element.
const Value* element(const Sequence& sequence, Integer index) {
  const auto size = static_cast<Integer>(sequence.values.size());
  if (index < 0) index += size;
  return index >= 0 && index < size ? &sequence.values[static_cast<std::size_t>(index)] : nullptr;
}

std::string object_name(const Value& value) {
  return value.is_none() ? "None" : value.type_name() + " object";
}

}  // namespace

Value binary(std::string_view operation, const Value& left, const Value& right, Budget& budget) {
  left.require_defined();
  if (operation == "%" && left.text()) return percent_format(*left.text(), right, budget);
  right.require_defined();
  if (left.is_integer() && right.is_integer())
    return integers(operation, left.integer(), right.integer());
  if (left.is_number() && right.is_number())
    return floats(operation, left.number(), right.number());
  if (operation == "+") return add(left, right, budget);
  if (operation == "*") {
    const auto repeatable = [](const Value& v) { return v.text() || is_list_or_tuple(v); };
    if (repeatable(left) && right.is_integer()) return repeat(left, right.integer(), budget);
    if (repeatable(right) && left.is_integer()) return repeat(right, left.integer(), budget);
  }
  unsupported(operation, left, right);
}

Value unary(std::string_view operation, const Value& operand) {
  operand.require_defined();
  check(operand.is_number(), "bad operand type for unary {}: '{}'", operation, operand.type_name());
  if (operand.is_float()) return operation == "-" ? -operand.number() : operand.number();
  return operation == "-" ? integers("-", 0, operand.integer()) : Value(operand.integer());
}

Value attribute_of(const Value& value, std::string_view name) {
  value.require_defined();
  if (name.starts_with("__"))
    return Value::undefined(fmt::format("access to attribute {} of '{}' object is unsafe",
                                        quoted(name), value.type_name()));
  if (const auto object = value.object()) return object->attribute(name);
  Value method = method_of(value, name);
  if (!method.is_undefined()) return method;
  if (value.dict())
    if (const Value* found = value.dict()->find(name)) return *found;
  return Value::undefined(
      fmt::format("{} has no attribute {}", quoted(object_name(value)), quoted(name)));
}

Value item_of(const Value& value, const Value& key, Budget& budget) {
  value.require_defined();
  if (const Dict* dict = value.dict()) {
    if (const Value* found = dict->find(key, budget)) return *found;
  } else if (key.is_integer() && value.text()) {
    budget.spend_bytes(value.text()->size());
    const std::vector<std::size_t> starts = character_starts(value.text()->bytes());
    const auto size = static_cast<Integer>(starts.size() - 1);
    const Integer index = key.integer() < 0 ? key.integer() + size : key.integer();
    if (index >= 0 && index < size) {
      const auto i = static_cast<std::size_t>(index);
      return value.text()->slice(starts[i], starts[i + 1]);
    }
  } else if (key.is_integer() && value.sequence() && value.sequence()->is_indexable()) {
    if (const Value* found = element(*value.sequence(), key.integer())) return *found;
  }
  if (key.text()) {
    if (const auto object = value.object()) return object->attribute(key.text()->bytes());
    Value method = method_of(value, key.text()->bytes());
    if (!method.is_undefined()) return method;
    return Value::undefined(fmt::format("{} has no attribute {}", quoted(object_name(value)),
                                        quoted(key.text()->bytes())));
  }
  return Value::undefined(
      fmt::format("{} has no element {}", object_name(value), repr(key, budget).bytes()));
}

Value slice_of(const Value& value, const Value& start, const Value& stop, const Value& step,
               Budget& budget) {
  value.require_defined();
  if (const MarkedText* text = value.text()) {
    budget.spend_bytes(text->size());
    const std::vector<std::size_t> starts = character_starts(text->bytes());
    MarkedText out;
    for (const std::size_t i : slice_indices(starts.size() - 1, start, stop, step, budget))
      out.append(*text, starts[i], starts[i + 1]);
    return out;
  }
  const Sequence* sequence = value.sequence();
  if (!sequence || !sequence->is_indexable())
    return Value::undefined(fmt::format("{} has no element slice", object_name(value)));
  std::vector<Value> values;
  for (const std::size_t i : slice_indices(sequence->values.size(), start, stop, step, budget)) {
    budget.spend_values(1);
    values.push_back(sequence->values[i]);
  }
  return Sequence(std::move(values), sequence->kind);
}

}  // namespace lockstep::jinja
