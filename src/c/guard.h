// Where exceptions end: every function of the C interface runs inside guarded() or value_or().
#pragma once

#include <exception>
#include <string_view>

#include "core/check.h"
#include "lockstep/c/lockstep.h"

namespace lockstep::c {

// A NULL or malformed argument.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

// This thread's error text, "function: message" where `function` is not empty. noexcept even when
// there is no memory for it.
void set_last_error(std::string_view function, std::string_view message) noexcept;
const char* last_error() noexcept;

template <typename T>
T& not_null(T* pointer, const char* argument) {
  if (pointer == nullptr) throw InvalidArgument(fmt::format("{} is NULL", argument));
  return *pointer;
}

// What `body` returns, or the status of the exception that it throws. `function` is the name of the
// interface's function.
template <typename Body>
lockstep_status guarded(const char* function, Body&& body) noexcept {
  set_last_error("", "");
  try {
    return body();
  } catch (const InvalidArgument& error) {
    set_last_error(function, error.what());
    return LOCKSTEP_INVALID_ARGUMENT;
  } catch (const std::exception& error) {
    set_last_error("", error.what());
  } catch (...) {
    set_last_error(function, "an exception that is no std::exception was thrown");
  }
  return LOCKSTEP_ERROR;
}

// What `body` returns, or `otherwise` when it throws.
template <typename T, typename Body>
T value_or(const char* function, T otherwise, Body&& body) noexcept {
  guarded(function, [&] {
    otherwise = body();
    return LOCKSTEP_OK;
  });
  return otherwise;
}

}  // namespace lockstep::c
