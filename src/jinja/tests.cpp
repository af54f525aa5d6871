// Tests: what stands behind `is`.
#include <unordered_map>

#include "jinja/arguments.h"
#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

// `arguments` are the value and, for some tests, one more.
using Test = bool (*)(Interpreter& interpreter, const Value& value, const Value* argument);

struct Entry {
  Test test;
  bool with_argument = false;
};

Integer remainder(Interpreter& interpreter, const Value& value, const Value& divisor) {
  const Value result = binary("%", value, divisor, interpreter.budget());
  check(result.is_number(), "a number is required, not {}", value.type_name());
  return result.is_integer()    ? result.integer()
         : result.number() == 0 ? 0
         : result.number() == 1 ? 1
                                : 2;
}

bool is_sequence(const Value& value) {
  return value.text() || value.dict() || value.is_undefined() ||
         (value.sequence() && value.sequence()->is_indexable());
}

template <Class wanted>
bool has_case(Interpreter& interpreter, const Value& value, const Value*) {
  return is_all(to_text(value, interpreter.budget()).bytes(), wanted);
}

// Python's `is`: texts and containers are compared by identity, which templates cannot rely on.
bool same(const Value& a, const Value& b, Budget& budget) {
  if (a.type_name() != b.type_name()) return false;
  return equals(a, b, budget);
}

using Entries = std::unordered_map<std::string_view, Entry>;

void add_type_tests(Entries& entries) {
  using I = Interpreter;
  using V = Value;
  const auto add = [&](std::string_view name, Test test) { entries[name] = {test}; };
  add("defined", [](I&, const V& v, const V*) { return !v.is_undefined(); });
  add("undefined", [](I&, const V& v, const V*) { return v.is_undefined(); });
  add("none", [](I&, const V& v, const V*) { return v.is_none(); });
  add("boolean", [](I&, const V& v, const V*) { return v.is_bool(); });
  add("true", [](I&, const V& v, const V*) { return v.is_bool() && v.boolean(); });
  add("false", [](I&, const V& v, const V*) { return v.is_bool() && !v.boolean(); });
  add("integer", [](I&, const V& v, const V*) { return v.is_integer() && !v.is_bool(); });
  add("float", [](I&, const V& v, const V*) { return v.is_float(); });
  add("number", [](I&, const V& v, const V*) { return v.is_number(); });
  add("string", [](I&, const V& v, const V*) { return v.text() != nullptr; });
  add("mapping", [](I&, const V& v, const V*) { return v.dict() != nullptr; });
  add("sequence", [](I&, const V& v, const V*) { return is_sequence(v); });
  add("iterable", [](I&, const V& v, const V*) {
    return v.is_undefined() || v.text() || v.dict() || v.sequence();
  });
  add("callable", [](I&, const V& v, const V*) {
    return v.is_undefined() || (v.object() && v.object()->callable());
  });
  add("escaped", [](I&, const V&, const V*) { return false; });
  add("lower", has_case<Class::kLower>);
  add("upper", has_case<Class::kUpper>);
  add("odd", [](I& i, const V& v, const V*) { return remainder(i, v, 2) == 1; });
  add("even", [](I& i, const V& v, const V*) { return remainder(i, v, 2) == 0; });
  add("filter", [](I&, const V& v, const V*) { return v.text() && has_filter(v.text()->bytes()); });
  add("test", [](I&, const V& v, const V*) { return v.text() && has_test(v.text()->bytes()); });
}

void add_comparing_tests(Entries& entries) {
  using I = Interpreter;
  using V = Value;
  const auto add = [&](std::initializer_list<std::string_view> names, Test test) {
    for (const std::string_view name : names) entries[name] = {test, true};
  };
  add({"divisibleby"}, [](I& i, const V& v, const V* w) { return remainder(i, v, *w) == 0; });
  add({"sameas"}, [](I& i, const V& v, const V* w) { return same(v, *w, i.budget()); });
  add({"in"}, [](I& i, const V& v, const V* w) { return contains(*w, v, i.budget()); });
  add({"==", "eq", "equalto"},
      [](I& i, const V& v, const V* w) { return equals(v, *w, i.budget()); });
  add({"!=", "ne"}, [](I& i, const V& v, const V* w) { return !equals(v, *w, i.budget()); });
  add({"<", "lt", "lessthan"},
      [](I& i, const V& v, const V* w) { return less(v, *w, i.budget()); });
  add({">", "gt", "greaterthan"},
      [](I& i, const V& v, const V* w) { return less(*w, v, i.budget()); });
  add({"<=", "le"}, [](I& i, const V& v, const V* w) {
    return less(v, *w, i.budget()) || equals(v, *w, i.budget());
  });
  add({">=", "ge"}, [](I& i, const V& v, const V* w) {
    return less(*w, v, i.budget()) || equals(v, *w, i.budget());
  });
}

const Entries& entries() {
  static const Entries all = [] {
    Entries entries;
    add_type_tests(entries);
    add_comparing_tests(entries);
    return entries;
  }();
  return all;
}

}  // namespace

bool has_test(std::string_view name) { return entries().contains(name); }

bool apply_test(Interpreter& interpreter, std::string_view name, Arguments& arguments) {
  const auto found = entries().find(name);
  check(found != entries().end(), "there is no test named {}", quoted(name));
  const Entry& entry = found->second;
  check(arguments.named.empty() && arguments.positional.size() == (entry.with_argument ? 2u : 1u),
        "the test {} takes {} argument(s)", quoted(name), entry.with_argument ? 1 : 0);
  return entry.test(interpreter, arguments.positional[0],
                    entry.with_argument ? &arguments.positional[1] : nullptr);
}

}  // namespace lockstep::jinja
