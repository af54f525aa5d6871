#include "jinja/arguments.h"

#include <algorithm>

#include "jinja/python_text.h"

namespace lockstep::jinja {

BoundArguments::BoundArguments(std::string_view function, const Arguments& arguments,
                               std::initializer_list<std::string_view> parameters,
                               std::size_t required)
    : function_(function), names_(parameters), values_(parameters.size()) {
  check(arguments.positional.size() <= names_.size(), "{}() takes at most {} arguments, not {}",
        function, names_.size(), arguments.positional.size());
  for (std::size_t i = 0; i < arguments.positional.size(); ++i)
    values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(names_.begin(), names_.end(), name);
    check(found != names_.end(), "{}() got an unexpected keyword argument {}", function,
          quoted(name));
    const Value*& place = values_[static_cast<std::size_t>(found - names_.begin())];
    check(place == nullptr, "{}() got multiple values for argument {}", function, quoted(name));
    place = &value;
  }
  for (std::size_t i = 0; i < required; ++i)
    check(values_[i] != nullptr, "{}() misses the argument {}", function, quoted(names_[i]));
}

const Value* BoundArguments::get(std::size_t parameter) const {
  const Value* value = values_[parameter];
  return value && !value->is_none() ? value : nullptr;
}

const MarkedText& BoundArguments::text(std::size_t parameter) const {
  const Value& value = required(parameter);
  value.require_defined();
  check(value.text() != nullptr, "{}(): {} must be str, not {}", function_, names_[parameter],
        value.type_name());
  return *value.text();
}

const MarkedText* BoundArguments::text_if(std::size_t parameter) const {
  return get(parameter) ? &text(parameter) : nullptr;
}

std::int64_t BoundArguments::integer(std::size_t parameter, std::int64_t fallback) const {
  const Value* value = values_[parameter];
  if (!value) return fallback;
  value->require_defined();
  check(value->is_integer(), "{}(): {} must be int, not {}", function_, names_[parameter],
        value->type_name());
  // Beyond these a number of characters or elements makes no difference.
  constexpr Integer kMost = Integer{1} << 40;
  return static_cast<std::int64_t>(std::clamp(value->integer(), -kMost, kMost));
}

bool BoundArguments::truth(std::size_t parameter, bool fallback) const {
  return values_[parameter] ? values_[parameter]->truth() : fallback;
}

}  // namespace lockstep::jinja
