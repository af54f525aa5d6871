// The instruction sets that the CPU kernels are compiled for. Include before any Highway header.
//
// Canonical sums are made of fused multiply-adds (docs/canonical-sum.md), so targets without them
// are left out: an x86 without AVX2 runs the scalar target, which calls std::fma. The SVE targets
// are left out because their vectors have no compile-time size; such machines run the NEON code.
#pragma once

#ifdef HWY_DISABLED_TARGETS
#error "Highway was included before ops/cpu/simd_targets.h"
#endif
#ifdef LOCKSTEP_FEW_SIMD_TARGETS  // sanitizers take minutes for each target
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
