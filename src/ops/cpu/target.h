// Which code of the CPU kernels runs here.
#pragma once

#include <string>

namespace lockstep {

// The instruction set that the kernels were compiled for and that this CPU runs, as Highway names
// it: "AVX2".
std::string cpu_target();

}  // namespace lockstep
