#include <cstdint>

#include "ops/cpu/cpu_ops.h"

namespace lockstep::cpu {

void CpuOps::read(const Matrix& matrix) {
  // Independent sums, so that the loop waits for memory and for nothing else.
  constexpr std::size_t kSums = 32;
  const auto* words = static_cast<const std::uint64_t*>(matrix.data);
  const std::size_t count = matrix.bytes / sizeof(std::uint64_t);
  std::uint64_t sums[kSums] = {};
  std::size_t i = 0;
  for (; i + kSums <= count; i += kSums)
    for (std::size_t j = 0; j < kSums; ++j) sums[j] += words[i + j];
  for (; i < count; ++i) sums[0] += words[i];
  std::uint64_t total = 0;
  for (std::uint64_t sum : sums) total += sum;
  volatile std::uint64_t result = total;  // keeps the loop
  static_cast<void>(result);
}

}  // namespace lockstep::cpu
