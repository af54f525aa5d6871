// The methods of texts, lists and dictionaries. There are none that change a list or dictionary, as
// in Jinja2's immutable sandbox.
#include <algorithm>
#include <unordered_map>

#include "jinja/arguments.h"
#include "jinja/format.h"
#include "jinja/interpreter.h"
#include "jinja/python_text.h"

namespace lockstep::jinja {
namespace {

using Method = Value (*)(const Value& self, const Arguments& arguments, Budget& budget);
using Methods = std::unordered_map<std::string_view, Method>;

Value list_of(std::vector<MarkedText> parts, Budget& budget,
              Sequence::Kind kind = Sequence::Kind::kList) {
  budget.spend_values(parts.size());
  std::vector<Value> values;
  for (MarkedText& part : parts) values.emplace_back(std::move(part));
  return Sequence(std::move(values), kind);
}

template <Side side>
Value strip_method(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("strip", arguments, {"chars"});
  const MarkedText* characters = bound.text_if(0);
  return strip(*self.text(), side, characters ? std::optional(characters->bytes()) : std::nullopt);
}

template <bool from_right>
Value split_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("split", arguments, {"sep", "maxsplit"});
  const MarkedText* separator = bound.text_if(0);
  check(!separator || !separator->empty(), "split(): empty separator");
  return list_of(split(*self.text(), separator ? std::optional(separator->bytes()) : std::nullopt,
                       bound.integer(1, -1), from_right),
                 budget);
}

Value split_lines_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("splitlines", arguments, {"keepends"});
  return list_of(split_lines(*self.text(), bound.truth(0, false)), budget);
}

template <bool from_right>
Value partition(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("partition", arguments, {"sep"}, 1);
  const MarkedText& separator = bound.text(0);
  check(!separator.empty(), "partition(): empty separator");
  std::vector<MarkedText> parts = split(*self.text(), separator.bytes(), 1, from_right);
  if (parts.size() == 2)
    parts.insert(parts.begin() + 1, separator);
  else
    parts.insert(from_right ? parts.begin() : parts.end(), 2, MarkedText());
  return list_of(std::move(parts), budget, Sequence::Kind::kTuple);
}

// The part of a text that find() and its like look into, given in characters.
std::pair<std::size_t, std::size_t> search_range(const MarkedText& text,
                                                 const BoundArguments& bound) {
  if (!bound.get(1) && !bound.get(2)) return {0, text.size()};
  const std::vector<std::size_t> starts = character_starts(text.bytes());
  const auto size = static_cast<std::int64_t>(starts.size() - 1);
  const auto position = [&](std::size_t parameter, std::int64_t fallback) {
    std::int64_t index = bound.get(parameter) ? bound.integer(parameter, 0) : fallback;
    if (index < 0) index = std::max(index + size, std::int64_t{0});
    return index;
  };
  const std::int64_t begin = position(1, 0);
  const std::int64_t end = std::min(position(2, size), size);
  if (begin > end) return {1, 0};
  return {starts[static_cast<std::size_t>(begin)], starts[static_cast<std::size_t>(end)]};
}

template <bool at_end>
Value affix_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound(at_end ? "endswith" : "startswith", arguments,
                             {"affix", "start", "end"}, 1);
  const auto [begin, end] = search_range(*self.text(), bound);
  if (begin > end) return false;
  const std::string_view text = std::string_view(self.text()->bytes()).substr(begin, end - begin);
  std::vector<Value> affixes = {bound.required(0)};
  const Sequence* tuple = affixes[0].sequence();
  if (tuple && tuple->kind == Sequence::Kind::kTuple) affixes = iterate(affixes[0], budget);
  for (const Value& affix : affixes) {
    affix.require_defined();
    check(affix.text() != nullptr, "{} first arg must be str or a tuple of str, not {}",
          at_end ? "endswith" : "startswith", affix.type_name());
    const std::string& bytes = affix.text()->bytes();
    if (at_end ? text.ends_with(bytes) : text.starts_with(bytes)) return true;
  }
  return false;
}

template <bool from_right, bool must_exist>
Value find_method(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("find", arguments, {"sub", "start", "end"}, 1);
  const auto [begin, end] = search_range(*self.text(), bound);
  const std::string& bytes = self.text()->bytes();
  std::size_t at = std::string::npos;
  if (begin <= end) {
    const std::string_view text = std::string_view(bytes).substr(begin, end - begin);
    at = from_right ? text.rfind(bound.text(0).bytes()) : text.find(bound.text(0).bytes());
  }
  check(!must_exist || at != std::string::npos, "substring not found");
  if (at == std::string::npos) return -1;
  return static_cast<Integer>(character_count(std::string_view(bytes).substr(0, begin + at)));
}

Value count_method(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("count", arguments, {"sub", "start", "end"}, 1);
  const auto [begin, end] = search_range(*self.text(), bound);
  if (begin > end) return 0;
  const std::string_view text = std::string_view(self.text()->bytes()).substr(begin, end - begin);
  return static_cast<Integer>(count(text, bound.text(0).bytes()));
}

Value replace_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("replace", arguments, {"old", "new", "count"}, 2);
  const MarkedText& old = bound.text(0);
  const MarkedText& by = bound.text(1);
  budget.spend_bytes(count(self.text()->bytes(), old.bytes()) * (by.size() + 1));
  return replace(*self.text(), old.bytes(), by, bound.integer(2, -1));
}

template <Case wanted>
Value case_method(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("a method", arguments, {});
  return change_case(*self.text(), wanted);
}

template <Class wanted>
Value class_method(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("a method", arguments, {});
  return is_all(self.text()->bytes(), wanted);
}

template <bool at_end>
Value remove_affix(const Value& self, const Arguments& arguments, Budget&) {
  const BoundArguments bound("removeprefix", arguments, {"affix"}, 1);
  const MarkedText& text = *self.text();
  const std::string& affix = bound.text(0).bytes();
  const bool found = at_end ? text.bytes().ends_with(affix) : text.bytes().starts_with(affix);
  if (!found) return self;
  return at_end ? text.slice(0, text.size() - affix.size()) : text.slice(affix.size(), text.size());
}

Value join_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("join", arguments, {"iterable"}, 1);
  bound.required(0).require_defined();
  MarkedText out;
  bool first = true;
  for (const Value& part : iterate(bound.required(0), budget)) {
    part.require_defined();
    check(part.text() != nullptr, "join(): expected str instance, {} found", part.type_name());
    if (!std::exchange(first, false)) out.append(*self.text());
    out.append(*part.text());
    budget.spend_bytes(part.text()->size() + self.text()->size());
  }
  return out;
}

template <int side>  // -1: text to the left, 0: in the middle, 1: to the right
Value pad_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("ljust", arguments, {"width", "fillchar"}, 1);
  const MarkedText fill = bound.find(1) ? bound.text(1) : MarkedText(" ", true);
  check(character_count(fill.bytes()) == 1, "the fill character must be one character");
  const auto size = static_cast<std::int64_t>(character_count(self.text()->bytes()));
  const std::int64_t width = bound.integer(0, 0);
  const std::int64_t missing = std::max(width - size, std::int64_t{0});
  budget.spend_bytes(static_cast<std::uint64_t>(missing) * fill.size());
  // Where it is odd, str.center puts the one more to the left if the width is odd.
  const std::int64_t left = side < 0 ? 0 : side > 0 ? missing : missing / 2 + (missing & width & 1);
  MarkedText out;
  for (std::int64_t i = 0; i < left; ++i) out.append(fill);
  out.append(*self.text());
  for (std::int64_t i = left; i < missing; ++i) out.append(fill);
  return out;
}

Value zero_fill(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("zfill", arguments, {"width"}, 1);
  const MarkedText& text = *self.text();
  const auto size = static_cast<std::int64_t>(character_count(text.bytes()));
  const std::int64_t missing = std::max(bound.integer(0, 0) - size, std::int64_t{0});
  budget.spend_bytes(static_cast<std::uint64_t>(missing));
  const bool sign = text.bytes().starts_with('-') || text.bytes().starts_with('+');
  MarkedText out = text.slice(0, sign ? 1 : 0);
  out.append(std::string(static_cast<std::size_t>(missing), '0'), true);
  out.append(text, sign ? 1 : 0, text.size());
  return out;
}

const Methods& text_methods() {
  static const Methods methods = {
      {"strip", strip_method<Side::kBoth>},
      {"lstrip", strip_method<Side::kLeft>},
      {"rstrip", strip_method<Side::kRight>},
      {"split", split_method<false>},
      {"rsplit", split_method<true>},
      {"splitlines", split_lines_method},
      {"partition", partition<false>},
      {"rpartition", partition<true>},
      {"startswith", affix_method<false>},
      {"endswith", affix_method<true>},
      {"find", find_method<false, false>},
      {"rfind", find_method<true, false>},
      {"index", find_method<false, true>},
      {"rindex", find_method<true, true>},
      {"count", count_method},
      {"replace", replace_method},
      {"upper", case_method<Case::kUpper>},
      {"lower", case_method<Case::kLower>},
      {"casefold", case_method<Case::kLower>},
      {"title", case_method<Case::kTitle>},
      {"capitalize", case_method<Case::kCapitalize>},
      {"swapcase", case_method<Case::kSwap>},
      {"isalpha", class_method<Class::kAlpha>},
      {"isdigit", class_method<Class::kDigit>},
      {"isdecimal", class_method<Class::kDigit>},
      {"isnumeric", class_method<Class::kDigit>},
      {"isalnum", class_method<Class::kAlnum>},
      {"isspace", class_method<Class::kSpace>},
      {"isupper", class_method<Class::kUpper>},
      {"islower", class_method<Class::kLower>},
      {"removeprefix", remove_affix<false>},
      {"removesuffix", remove_affix<true>},
      {"join", join_method},
      {"ljust", pad_method<-1>},
      {"center", pad_method<0>},
      {"rjust", pad_method<1>},
      {"zfill", zero_fill},
      {"format",
       [](const Value& self, const Arguments& arguments, Budget& budget) -> Value {
         return brace_format(*self.text(), arguments, budget);
       }},
  };
  return methods;
}

template <Sequence::Kind kind>
Value view_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("a method", arguments, {});
  budget.spend_values(2 * self.dict()->entries.size());
  std::vector<Value> values;
  for (const auto& [key, value] : self.dict()->entries) {
    if (kind == Sequence::Kind::kItems)
      values.emplace_back(Sequence({key, value}, Sequence::Kind::kTuple));
    else
      values.push_back(kind == Sequence::Kind::kKeys ? key : value);
  }
  return Sequence(std::move(values), kind);
}

Value get_method(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("get", arguments, {"key", "default"}, 1);
  if (const Value* found = self.dict()->find(bound.required(0), budget)) return *found;
  return bound.find(1) ? bound.required(1) : Value(None());
}

Value copy_method(const Value& self, const Arguments&, Budget&) { return self; }

const Methods& dict_methods() {
  static const Methods methods = {
      {"items", view_method<Sequence::Kind::kItems>},
      {"keys", view_method<Sequence::Kind::kKeys>},
      {"values", view_method<Sequence::Kind::kValues>},
      {"get", get_method},
      {"copy", copy_method},
  };
  return methods;
}

Value list_count(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("count", arguments, {"value"}, 1);
  Integer found = 0;
  for (const Value& value : self.sequence()->values)
    found += equals(value, bound.required(0), budget) ? 1 : 0;
  return found;
}

Value list_index(const Value& self, const Arguments& arguments, Budget& budget) {
  const BoundArguments bound("index", arguments, {"value"}, 1);
  const std::vector<Value>& values = self.sequence()->values;
  for (std::size_t i = 0; i < values.size(); ++i)
    if (equals(values[i], bound.required(0), budget)) return static_cast<Integer>(i);
  fail("{} is not in list", repr(bound.required(0), budget).bytes());
}

const Methods& list_methods() {
  static const Methods methods = {
      {"count", list_count}, {"index", list_index}, {"copy", copy_method}};
  return methods;
}

const Methods* methods_of(const Value& value) {
  if (value.text()) return &text_methods();
  if (value.dict()) return &dict_methods();
  const Sequence* sequence = value.sequence();
  return sequence && sequence->is_indexable() ? &list_methods() : nullptr;
}

}  // namespace

Value method_of(const Value& value, std::string_view name) {
  const Methods* methods = methods_of(value);
  if (!methods) return Value();
  const auto found = methods->find(name);
  if (found == methods->end()) return Value();
  return Value(std::make_shared<Function>(
      std::string(name),
      [value, method = found->second](Interpreter& interpreter, Arguments& arguments) {
        interpreter.budget().spend_bytes(value.text() ? value.text()->size() : 0);
        return method(value, arguments, interpreter.budget());
      },
      value.depth()));
}

}  // namespace lockstep::jinja
