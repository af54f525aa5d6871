// Faults on purpose, to see how a program that uses Lockstep takes them.
//
// LOCKSTEP_FAULT=PLACE:RANK makes that rank throw when it comes to that place: "load" (after its
// first weight), "prefill" (the first step with a prompt) or "decode" (the first other one).
#pragma once

#include <string_view>

namespace lockstep {

// Throws Error if the environment asks for it. From a rank's thread.
void inject_fault(std::string_view place, int rank);

}  // namespace lockstep
