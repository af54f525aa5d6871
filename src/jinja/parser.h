// From a template's source to its syntax tree.
#pragma once

#include <string_view>

#include "jinja/ast.h"

namespace lockstep::jinja {

// Throws Error naming the line for what is no template, or nested too deeply, and for what is not
// supported: include, import, extends, block, autoescape, recursive loops.
Body parse(std::string_view source);

}  // namespace lockstep::jinja
