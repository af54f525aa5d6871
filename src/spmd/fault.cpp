#include "spmd/fault.h"

#include <cstdlib>
#include <string>

#include "core/check.h"

namespace lockstep {
namespace {

// What LOCKSTEP_FAULT says; empty when it is not set.
std::string read_fault() {
  const char* value = std::getenv("LOCKSTEP_FAULT");
  if (value == nullptr || *value == '\0') return {};
  const std::string_view text = value;
  const std::size_t colon = text.find(':');
  const std::string_view place = text.substr(0, colon);
  const std::string_view rank = colon == text.npos ? std::string_view() : text.substr(colon + 1);
  const bool known = place == "load" || place == "prefill" || place == "decode";
  const bool number = !rank.empty() && rank.find_first_not_of("0123456789") == rank.npos;
  check(
      known && number,
      "LOCKSTEP_FAULT is \"{}\"; it has to be load, prefill or decode, a colon and a rank's number",
      text);
  return std::string(text);
}

}  // namespace

void inject_fault(std::string_view place, int rank) {
  static const std::string fault = read_fault();
  if (fault.empty()) [[likely]]
    return;
  if (fault == fmt::format("{}:{}", place, rank)) fail("LOCKSTEP_FAULT asks for a failure here");
}

}  // namespace lockstep
