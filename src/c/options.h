// The C interface's option structs, and what the library understands them as.
#pragma once

#include <cstddef>
#include <optional>
#include <type_traits>

#include "c/guard.h"
#include "lockstep/c/lockstep.h"
#include "lockstep/lockstep.h"

namespace lockstep::c {

// Every struct starts with its size. Fields will be added at the end: the sizes of older versions
// then become valid as well, and what the caller does not know of keeps its default.
template <typename Options>
void check_size(std::size_t size) {
  static_assert(std::is_trivially_copyable_v<Options> && std::is_standard_layout_v<Options>);
  if (size != sizeof(Options))
    throw InvalidArgument(fmt::format(
        "the struct has {} bytes, and this library knows it with {}: fill it in with its _init "
        "function, and compile against the headers of Lockstep {}",
        size, sizeof(Options), LOCKSTEP_VERSION));
}

// Copies what `make` returns to the caller's struct.
template <typename Options, typename Make>
lockstep_status fill_in(Options* options, std::size_t size, const char* function, Make&& make) {
  return guarded(function, [&] {
    Options& out = not_null(options, "the struct");
    check_size<Options>(size);
    out = make();
    return LOCKSTEP_OK;
  });
}

// NULL gives the defaults; of sampling params the model's, and so nothing. They throw
// InvalidArgument for a size that no version of the struct has, and for a list that is NULL but not
// empty.
LoadOptions load_options(const lockstep_load_options* options);
GeneratorOptions generator_options(const lockstep_generator_options* options);
std::optional<SamplingParams> sampling_params(const lockstep_sampling_params* params);

}  // namespace lockstep::c
