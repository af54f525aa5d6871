// Libraries that only GPU ranks need, loaded when the first of them starts: cuBLASLt and NCCL add
// 200 MB to a process that merely links them.
#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>

#include "core/check.h"

namespace lockstep::cuda {

// A shared library, until the process ends.
class Library {
 public:
  // Takes the first name that can be loaded. Throws Error with the loader's reason if none can.
  explicit Library(std::initializer_list<std::string> names) {
    std::string reason;
    for (const std::string& name : names) {
      handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (handle_) return;
      reason = dlerror();
    }
    fail("a library that GPUs need cannot be loaded: {}", reason);
  }

  template <typename Function>
  Function symbol(const char* name) const {
    void* address = dlsym(handle_, name);
    check(address != nullptr, "a library that GPUs need has no {}", name);
    return reinterpret_cast<Function>(address);
  }

 private:
  void* handle_ = nullptr;
};

}  // namespace lockstep::cuda

// The function `name` of a library, looked up once; `library` is a function that returns the
// Library.
#define LOCKSTEP_LIBRARY_FUNCTION(library, name)                             \
  ([] {                                                                      \
    static const auto function = library().symbol<decltype(&::name)>(#name); \
    return function;                                                         \
  }())
