// Filters of sequences and dictionaries.
#include <algorithm>

#include "jinja/arguments.h"
#include "jinja/filters.h"
#include "jinja/format.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

Value list_of(std::vector<Value> values, Budget& budget,
              Sequence::Kind kind = Sequence::Kind::kList) {
  budget.spend_values(values.size());
  return Sequence(std::move(values), kind);
}

// "a.b.0" of a value, as the filters that take an attribute's name look it up.
Value look_up(const Value& value, const Value& path, Budget& budget) {
  if (!path.text()) return item_of(value, path, budget);
  Value found = value;
  for (const MarkedText& part : split(*path.text(), ".", -1, false)) {
    const bool number =
        is_all(part.bytes(), Class::kDigit) && parse_integer(part.bytes(), 10).has_value();
    found = item_of(found, number ? Value(*parse_integer(part.bytes(), 10)) : Value(part), budget);
  }
  return found;
}

// What a value is compared by: its attribute, if one is wanted, and texts without regard to case.
Value key_of(const Value& value, const Value* attribute, bool case_sensitive, Budget& budget) {
  Value key = attribute ? look_up(value, *attribute, budget) : value;
  if (!case_sensitive && key.text()) {
    budget.spend_bytes(key.text()->size());
    key = change_case(*key.text(), Case::kLower);
  }
  return key;
}

Value first(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("first", arguments, {"seq"}, 1);
  const std::vector<Value> values = iterate(bound.required(0), interpreter.budget());
  return values.empty() ? Value::undefined("No first item, sequence was empty.") : values.front();
}

Value last(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("last", arguments, {"seq"}, 1);
  const Value& sequence = bound.required(0);
  check(!sequence.sequence() || sequence.sequence()->kind != Sequence::Kind::kGenerator,
        "'generator' object is not reversible");
  const std::vector<Value> values = iterate(sequence, interpreter.budget());
  return values.empty() ? Value::undefined("No last item, sequence was empty.") : values.back();
}

Value length(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("length", arguments, {"obj"}, 1);
  return length_of(bound.required(0), interpreter.budget());
}

Value list(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("list", arguments, {"value"}, 1);
  return list_of(iterate(bound.required(0), interpreter.budget()), interpreter.budget());
}

Value join(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("join", arguments, {"value", "d", "attribute"}, 1);
  Budget& budget = interpreter.budget();
  const MarkedText separator = bound.find(1) ? to_text(*bound.find(1), budget) : MarkedText();
  MarkedText out;
  bool is_first = true;
  for (const Value& value : iterate(bound.required(0), budget)) {
    const MarkedText part =
        to_text(bound.get(2) ? look_up(value, *bound.get(2), budget) : value, budget);
    budget.spend_bytes(part.size() + separator.size());
    if (!std::exchange(is_first, false)) out.append(separator);
    out.append(part);
  }
  return out;
}

Value reverse(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("reverse", arguments, {"value"}, 1);
  std::vector<Value> values = iterate(bound.required(0), interpreter.budget());
  std::reverse(values.begin(), values.end());
  if (!bound.required(0).text())
    return list_of(std::move(values), interpreter.budget(), Sequence::Kind::kGenerator);
  MarkedText out;
  for (const Value& character : values) out.append(*character.text());
  return out;
}

void sort_values(std::vector<std::pair<Value, Value>>& keyed, bool reversed, Budget& budget) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reversed ? less(b.first, a.first, budget) : less(a.first, b.first, budget);
  });
}

Value sort(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("sort", arguments, {"value", "reverse", "case_sensitive", "attribute"},
                             1);
  Budget& budget = interpreter.budget();
  std::vector<std::pair<Value, Value>> keyed;
  for (Value& value : iterate(bound.required(0), budget)) {
    // "a,b" sorts by several attributes.
    std::vector<Value> keys;
    if (bound.get(3) && bound.get(3)->text()) {
      for (const MarkedText& path : split(*bound.get(3)->text(), ",", -1, false)) {
        const Value attribute = path;
        keys.push_back(key_of(value, &attribute, bound.truth(2, false), budget));
      }
    } else {
      keys.push_back(key_of(value, bound.get(3), bound.truth(2, false), budget));
    }
    keyed.emplace_back(list_of(std::move(keys), budget), std::move(value));
  }
  sort_values(keyed, bound.truth(1, false), budget);
  std::vector<Value> sorted;
  for (auto& [key, value] : keyed) sorted.push_back(std::move(value));
  return list_of(std::move(sorted), budget);
}

Value dict_sort(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("dictsort", arguments, {"value", "case_sensitive", "by", "reverse"},
                             1);
  Budget& budget = interpreter.budget();
  const Dict* dict = bound.required(0).dict();
  check(dict != nullptr, "dictsort() needs a dictionary, not {}", bound.required(0).type_name());
  const std::string by = bound.find(2) ? bound.text(2).bytes() : "key";
  check(by == "key" || by == "value", "You can only sort by either \"key\" or \"value\"");
  budget.spend_values(2 * dict->entries.size());
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, value] : dict->entries)
    keyed.emplace_back(key_of(by == "key" ? key : value, nullptr, bound.truth(1, false), budget),
                       Sequence({key, value}, Sequence::Kind::kTuple));
  sort_values(keyed, bound.truth(3, false), budget);
  std::vector<Value> sorted;
  for (auto& [key, pair] : keyed) sorted.push_back(std::move(pair));
  return list_of(std::move(sorted), budget);
}

Value items(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("items", arguments, {"value"}, 1);
  std::vector<Value> pairs;
  if (bound.required(0).is_undefined()) return Sequence({}, Sequence::Kind::kGenerator);
  const Dict* dict = bound.required(0).dict();
  check(dict != nullptr, "Can only get item pairs from a mapping.");
  for (const auto& [key, value] : dict->entries)
    pairs.emplace_back(Sequence({key, value}, Sequence::Kind::kTuple));
  return list_of(std::move(pairs), interpreter.budget(), Sequence::Kind::kGenerator);
}

Value unique(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("unique", arguments, {"value", "case_sensitive", "attribute"}, 1);
  Budget& budget = interpreter.budget();
  Dict seen;
  std::vector<Value> values;
  for (Value& value : iterate(bound.required(0), budget)) {
    const Value key = key_of(value, bound.get(2), bound.truth(1, false), budget);
    budget.spend(key.text() ? 1 : seen.entries.size());
    if (!key.dict() && seen.find(key, budget)) continue;
    seen.set(key, None(), budget);
    values.push_back(std::move(value));
  }
  return list_of(std::move(values), budget, Sequence::Kind::kGenerator);
}

template <bool largest>
Value extreme(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound(largest ? "max" : "min", arguments,
                             {"value", "case_sensitive", "attribute"}, 1);
  Budget& budget = interpreter.budget();
  std::optional<std::pair<Value, Value>> best;
  for (Value& value : iterate(bound.required(0), budget)) {
    Value key = key_of(value, bound.get(2), bound.truth(1, false), budget);
    if (best && !(largest ? less(best->first, key, budget) : less(key, best->first, budget)))
      continue;
    best.emplace(std::move(key), std::move(value));
  }
  return best ? best->second : Value::undefined("No aggregated item, sequence was empty.");
}

Value sum(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("sum", arguments, {"iterable", "attribute", "start"}, 1);
  Budget& budget = interpreter.budget();
  Value total = bound.find(2) ? *bound.find(2) : Value(0);
  for (const Value& value : iterate(bound.required(0), budget))
    total =
        binary("+", total, bound.get(1) ? look_up(value, *bound.get(1), budget) : value, budget);
  return total;
}

Value batch(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("batch", arguments, {"value", "linecount", "fill_with"}, 2);
  Budget& budget = interpreter.budget();
  const auto size = static_cast<std::size_t>(std::max(bound.integer(1, 1), std::int64_t{1}));
  std::vector<Value> batches;
  std::vector<Value> current;
  for (Value& value : iterate(bound.required(0), budget)) {
    if (current.size() == size) batches.push_back(list_of(std::exchange(current, {}), budget));
    current.push_back(std::move(value));
  }
  if (!current.empty()) {
    if (bound.get(2)) {
      budget.spend_values(size);
      current.resize(size, *bound.get(2));
    }
    batches.push_back(list_of(std::move(current), budget));
  }
  return list_of(std::move(batches), budget, Sequence::Kind::kGenerator);
}

Value slice(Interpreter& interpreter, const Arguments& arguments) {
  const BoundArguments bound("slice", arguments, {"value", "slices", "fill_with"}, 2);
  Budget& budget = interpreter.budget();
  const std::vector<Value> values = iterate(bound.required(0), budget);
  const std::int64_t wanted = bound.integer(1, 1);
  check(wanted > 0, "slice(): {} slices", wanted);
  budget.spend_values(static_cast<std::uint64_t>(wanted));
  const auto slices = static_cast<std::size_t>(wanted);
  const std::size_t size = values.size() / slices;
  const std::size_t longer = values.size() % slices;
  std::vector<Value> out;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < slices; ++i) {
    const std::size_t end = begin + size + (i < longer ? 1 : 0);
    std::vector<Value> part(values.begin() + static_cast<std::ptrdiff_t>(begin),
                            values.begin() + static_cast<std::ptrdiff_t>(end));
    if (bound.get(2) && i >= longer) part.push_back(*bound.get(2));
    out.push_back(list_of(std::move(part), budget));
    begin = end;
  }
  return list_of(std::move(out), budget, Sequence::Kind::kGenerator);
}

// map(attribute=..., default=...), or map(filter, arguments of the filter).
Value map(Interpreter& interpreter, const Arguments& arguments) {
  Budget& budget = interpreter.budget();
  check(!arguments.positional.empty(), "map() misses the argument 'value'");
  const bool by_attribute = arguments.positional.size() == 1;
  Arguments named;
  named.named = arguments.named;
  std::vector<Value> mapped;
  for (Value& value : iterate(arguments.positional[0], budget)) {
    if (by_attribute) {
      const BoundArguments bound("map", named, {"attribute", "default"}, 1);
      Value found = look_up(value, bound.required(0), budget);
      mapped.push_back(found.is_undefined() && bound.get(1) ? *bound.get(1) : std::move(found));
      continue;
    }
    const MarkedText* filter = arguments.positional[1].text();
    check(filter != nullptr, "map(): the filter's name must be str");
    Arguments inner;
    inner.positional.push_back(std::move(value));
    inner.positional.insert(inner.positional.end(), arguments.positional.begin() + 2,
                            arguments.positional.end());
    inner.named = arguments.named;
    mapped.push_back(apply_filter(interpreter, filter->bytes(), inner));
  }
  return list_of(std::move(mapped), budget, Sequence::Kind::kGenerator);
}

// select(test, arguments of the test), selectattr(attribute, test, arguments), and the opposites.
template <bool with_attribute, bool wanted>
Value select(Interpreter& interpreter, const Arguments& arguments) {
  Budget& budget = interpreter.budget();
  const std::vector<Value>& given = arguments.positional;
  constexpr std::size_t kTest = with_attribute ? 2 : 1;
  check(given.size() >= kTest, "a filter misses the name of an attribute");
  std::vector<Value> selected;
  for (Value& value : iterate(given[0], budget)) {
    Arguments inner;
    inner.positional.push_back(with_attribute ? look_up(value, given[1], budget) : value);
    bool holds = false;
    if (given.size() > kTest) {
      const MarkedText* test = given[kTest].text();
      check(test != nullptr, "the name of a test must be str");
      inner.positional.insert(inner.positional.end(), given.begin() + kTest + 1, given.end());
      inner.named = arguments.named;
      holds = apply_test(interpreter, test->bytes(), inner);
    } else {
      holds = inner.positional[0].truth();
    }
    if (holds == wanted) selected.push_back(std::move(value));
  }
  return list_of(std::move(selected), budget, Sequence::Kind::kGenerator);
}

const Filter* find_filter(std::string_view name) {
  for (const Filters* filters : {&value_filters(), &sequence_filters()})
    if (const auto found = filters->find(name); found != filters->end()) return &found->second;
  return nullptr;
}

}  // namespace

const Filters& sequence_filters() {
  static const Filters filters = {
      {"batch", batch},
      {"count", length},
      {"dictsort", dict_sort},
      {"first", first},
      {"items", items},
      {"join", join},
      {"last", last},
      {"length", length},
      {"list", list},
      {"map", map},
      {"max", extreme<true>},
      {"min", extreme<false>},
      {"reject", select<false, false>},
      {"rejectattr", select<true, false>},
      {"reverse", reverse},
      {"select", select<false, true>},
      {"selectattr", select<true, true>},
      {"slice", slice},
      {"sort", sort},
      {"sum", sum},
      {"unique", unique},
  };
  return filters;
}

bool has_filter(std::string_view name) { return find_filter(name) != nullptr; }

Value apply_filter(Interpreter& interpreter, std::string_view name, Arguments& arguments) {
  const Filter* filter = find_filter(name);
  check(filter != nullptr, "there is no filter named {}", quoted(name));
  return (*filter)(interpreter, arguments);
}

}  // namespace lockstep::jinja
