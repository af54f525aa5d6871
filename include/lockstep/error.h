/// @file
/// The one exception type of the library.
#pragma once

#include <stdexcept>
#include <string>

#include "lockstep/export.h"

namespace lockstep {

/// Thrown for everything that can go wrong: bad input, a failing rank, an exhausted resource.
/// what() is one complete sentence for a person: it names the file, tensor, field or rank, what was
/// expected and what was found.
class LOCKSTEP_API Error : public std::runtime_error {
 public:
  /// An error that says `message`.
  explicit Error(const std::string& message) : std::runtime_error(message) {}
};

}  // namespace lockstep
