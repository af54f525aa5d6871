// How much memory a piece of code asks for.
#pragma once

#include <cstddef>

namespace lockstep::test {

// Counts the bytes that this thread has asked operator new for since the meter was made, whether
// they were freed or not.
class AllocationMeter {
 public:
  AllocationMeter();
  std::size_t bytes() const;

 private:
  std::size_t start_;
};

}  // namespace lockstep::test
