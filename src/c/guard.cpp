#include "c/guard.h"

#include <string>

namespace lockstep::c {
namespace {

thread_local std::string text;
thread_local const char* shown = "";

}  // namespace

void set_last_error(std::string_view function, std::string_view message) noexcept {
  try {
    text.clear();
    if (!function.empty()) text.append(function).append(": ");
    text.append(message);
    shown = text.c_str();
  } catch (const std::exception&) {
    shown = "out of memory";
  }
}

const char* last_error() noexcept { return shown; }

}  // namespace lockstep::c
