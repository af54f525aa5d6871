#include "ops/cpu/target.h"

#include "ops/cpu/simd_targets.h"
// Highway's headers come after.
#include <hwy/targets.h>

#include <cstdint>

namespace lockstep {

std::string cpu_target() {
  // The best has the lowest bit.
  const std::int64_t targets = hwy::SupportedTargets() & HWY_TARGETS;
  return hwy::TargetName(targets & -targets);
}

}  // namespace lockstep
