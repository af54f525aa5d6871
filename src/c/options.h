// The C interface's option structs, and what the library understands them as.
#pragma once

#include "lockstep/c/lockstep.h"
#include "lockstep/lockstep.h"

namespace lockstep::c {

// NULL gives the defaults. They throw InvalidArgument for a size that no version of the struct has,
// and for a list that is NULL but not empty.
LoadOptions load_options(const lockstep_load_options* options);
GeneratorOptions generator_options(const lockstep_generator_options* options);
SamplingParams sampling_params(const lockstep_sampling_params& params);

}  // namespace lockstep::c
