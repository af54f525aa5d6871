// The tables of filters, which apply_filter() looks into.
#pragma once

#include <string_view>
#include <unordered_map>

#include "jinja/interpreter.h"

namespace lockstep::jinja {

using Filter = Value (*)(Interpreter& interpreter, const Arguments& arguments);
using Filters = std::unordered_map<std::string_view, Filter>;

const Filters& value_filters();     // of texts, numbers, and any value
const Filters& sequence_filters();  // of lists and dictionaries

}  // namespace lockstep::jinja
