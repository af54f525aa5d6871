// What a function of templates was called with, by the names of its parameters.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "jinja/value.h"

namespace lockstep::jinja {

// Values are those of the Arguments, which must outlive this.
class BoundArguments {
 public:
  // The first `required` parameters have to be given. Throws Error for too many, too few, or
  // unknown arguments.
  BoundArguments(std::string_view function, const Arguments& arguments,
                 std::initializer_list<std::string_view> parameters, std::size_t required = 0);

  // Null when it is not given.
  const Value* find(std::size_t parameter) const { return values_[parameter]; }
  // None counts as not given.
  const Value* get(std::size_t parameter) const;
  const Value& required(std::size_t parameter) const { return *values_[parameter]; }

  // These throw Error for another type.
  const MarkedText& text(std::size_t parameter) const;
  const MarkedText* text_if(std::size_t parameter) const;  // null when it is not given
  std::int64_t integer(std::size_t parameter, std::int64_t fallback) const;
  bool truth(std::size_t parameter, bool fallback) const;

 private:
  std::string function_;
  std::vector<std::string_view> names_;
  std::vector<const Value*> values_;
};

}  // namespace lockstep::jinja
