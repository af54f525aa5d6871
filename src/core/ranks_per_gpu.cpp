#include "core/ranks_per_gpu.h"

#include <cstdlib>
#include <string_view>

#include "core/check.h"

namespace lockstep {

int parse_ranks_per_gpu(const char* text) {
  if (text == nullptr) return 1;
  const std::string_view digits = text;
  check(digits.size() == 1 && digits[0] >= '1' && digits[0] <= '8',
        "LOCKSTEP_RANKS_PER_GPU must be a number from 1 to 8, not \"{}\"", digits);
  return digits[0] - '0';
}

int ranks_per_gpu() {
  static const int ranks = [] {
    const int number = parse_ranks_per_gpu(std::getenv("LOCKSTEP_RANKS_PER_GPU"));
    if (number > 1) {
      // To load a kernel when it is first launched may take waiting for the GPU, and streams that
      // share a queue to it wait for each other.
      setenv("CUDA_MODULE_LOADING", "EAGER", /*overwrite=*/0);
      setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*overwrite=*/0);
    }
    return number;
  }();
  return ranks;
}

}  // namespace lockstep
