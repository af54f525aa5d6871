// What the SIMD kernels share, compiled once for every Highway target: vectors of up to 16 float32
// lanes, loads that convert, a multiply-add that is fused everywhere, and exp.
//
// Every function gives the same bits on every target. That needs -ffp-contract=off: the compiler
// must not fuse what is written as two operations.
#if defined(LOCKSTEP_OPS_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LOCKSTEP_OPS_CPU_SIMD_INL_H_
#undef LOCKSTEP_OPS_CPU_SIMD_INL_H_
#else
#define LOCKSTEP_OPS_CPU_SIMD_INL_H_
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "core/convert.h"

HWY_BEFORE_NAMESPACE();
namespace lockstep::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

inline constexpr std::size_t kLanes = hn::MaxLanes(Floats());
// Vector registers of the machine: how many accumulators a kernel may keep.
inline constexpr std::size_t kRegisters =
    HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_TARGET == HWY_NEON ? 32 : 16;

// Elements of weights and of the KV cache.
struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};

HWY_INLINE float to_float(float value) { return value; }
HWY_INLINE float to_float(BFloat16 value) { return bfloat16_to_float(value.bits); }
HWY_INLINE float to_float(Float16 value) { return float16_to_float(value.bits); }

HWY_INLINE Vector load(const float* from) { return hn::LoadU(Floats(), from); }

HWY_INLINE Vector load(const BFloat16* from) {
  const hn::Rebind<std::uint16_t, Floats> halves;
  const hn::Rebind<std::uint32_t, Floats> words;
  const auto bits =
      hn::PromoteTo(words, hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(from)));
  return hn::BitCast(Floats(), hn::ShiftLeft<16>(bits));
}

HWY_INLINE Vector load(const Float16* from) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(Floats(), to_float(*from));  // Highway's own knows no infinity
#else
  const hn::Rebind<std::uint16_t, Floats> halves;
  const auto bits = hn::LoadU(halves, reinterpret_cast<const std::uint16_t*>(from));
  return hn::PromoteTo(Floats(), hn::BitCast(hn::Rebind<hwy::float16_t, Floats>(), bits));
#endif
}

HWY_INLINE void store(Vector values, float* to) { hn::StoreU(values, Floats(), to); }

// a * b + c, rounded once.
HWY_INLINE Vector fused_multiply_add(Vector a, Vector b, Vector c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  float x[kLanes], y[kLanes], z[kLanes];
  store(a, x);
  store(b, y);
  store(c, z);
  for (std::size_t i = 0; i < kLanes; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return load(z);
#endif
}

// e^x to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, the Taylor
// polynomial of degree 7 for e^r (its error is below 2^-27), then two multiplications by a power of
// two, so that results below the smallest normal number come out right. exp(-infinity) is 0,
// exp(NaN) is NaN.
HWY_INLINE Vector exp(Vector x) {
  const Floats d;
  const hn::Rebind<std::int32_t, Floats> di;
  // Beyond these the result is 0 or infinity.
  const Vector clamped = hn::Min(hn::Max(x, hn::Set(d, -106.0f)), hn::Set(d, 89.0f));
  const Vector n = hn::Round(hn::Mul(clamped, hn::Set(d, 1.44269504f)));
  Vector r = fused_multiply_add(n, hn::Set(d, -0x1.62e430p-1f), clamped);  // ln 2, upper part
  r = fused_multiply_add(n, hn::Set(d, 0x1.05c610p-29f), r);               // and the rest
  Vector p = hn::Set(d, 1.0f / 5040);
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f / 720));
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f / 120));
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f / 24));
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f / 6));
  p = fused_multiply_add(p, r, hn::Set(d, 0.5f));
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f));
  p = fused_multiply_add(p, r, hn::Set(d, 1.0f));
  const auto exponent = hn::ConvertTo(di, n);
  const auto half = hn::ShiftRight<1>(exponent);
  const auto power = [&](auto e) HWY_ATTR {
    return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(e, hn::Set(di, 127))));
  };
  p = hn::Mul(hn::Mul(p, power(half)), power(hn::Sub(exponent, half)));
  return hn::IfThenElse(hn::Eq(x, x), p, x);
}

}  // namespace lockstep::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target
