// Raising errors: the only two ways in which this code base does it.
#pragma once

#ifdef __CUDACC__  // nvcc cannot evaluate fmt's check of format strings at compile time
#define FMT_USE_CONSTEXPR 1
#define FMT_CONSTEVAL
#endif
#include <fmt/format.h>

#include <utility>

#include "lockstep/error.h"

namespace lockstep {

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

// Throws Error unless `condition` holds. For input and for calls of the public interface; the
// arguments are evaluated either way, so keep them cheap.
template <typename... Args>
void check(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) [[unlikely]]
    throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lockstep
