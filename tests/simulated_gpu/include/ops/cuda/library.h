// As src/ops/cuda/library.h, for cuBLASLt and NCCL: their functions are those of libraries.cpp.
#pragma once

#include <initializer_list>
#include <string>

#include "core/check.h"

namespace lockstep::cuda {

struct Library {
  explicit Library(std::initializer_list<std::string>) {}

  template <typename Function>
  Function symbol(const char* name) const {
    fail("the simulated GPU has no {}", name);
  }
};

}  // namespace lockstep::cuda

#define LOCKSTEP_LIBRARY_FUNCTION(library, name) (static_cast<void>(library), &::name)
