#include "allocation_meter.h"

#include <cstdlib>
#include <new>

namespace {
thread_local std::size_t allocated = 0;
}

// The array and nothrow forms call these.
void* operator new(std::size_t bytes) {
  allocated += bytes;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace lockstep::test {

AllocationMeter::AllocationMeter() : start_(allocated) {}
std::size_t AllocationMeter::bytes() const { return allocated - start_; }

}  // namespace lockstep::test
