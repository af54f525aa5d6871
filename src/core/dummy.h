// Seeded weights that are computed and not read. The formula is part of the interface: kernels on
// other devices make the same bits. All integers are unsigned 64-bit, arithmetic modulo 2^64:
//
//   mix(z)    z += 0x9e3779b97f4a7c15
//             z  = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
//             z  = (z ^ (z >> 27)) * 0x94d049bb133111eb
//             z ^ (z >> 31)                                  (one step of splitmix64)
//   key       mix(mix(seed) ^ fnv1a64(name))                 name: Hugging Face's, in bytes
//   bits      mix(mix(key + row) + column)                   a vector's elements: rows of column 0
//   n         (the sum of the four 16-bit parts of bits) - 131070         from -131070 to 131070
//   element   float(n + base) * 2^-21
//
// base is 2^21 (that is, 1.0) for norms' weights and 0 for all else. n is close to normal (the sum
// of four uniform variables) with mean 0; n * 2^-21 has standard deviation 0.01804, near the 0.02
// that Hugging Face initialises with. Both the conversion and the product are exact in float32; a
// 16-bit dtype rounds the result once, to nearest even.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "lockstep/tensor.h"

namespace lockstep {

LOCKSTEP_HOST_DEVICE constexpr std::uint64_t dummy_mix(std::uint64_t z) {
  z += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

constexpr std::uint64_t dummy_key(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return dummy_mix(dummy_mix(seed) ^ hash);
}

// What all elements of one row share; `key` is dummy_key's.
LOCKSTEP_HOST_DEVICE constexpr std::uint64_t dummy_row(std::uint64_t key, std::uint64_t row) {
  return dummy_mix(key + row);
}

inline constexpr std::int32_t kDummyNormBase = 1 << 21;

// base: kDummyNormBase for norms' weights, else 0.
LOCKSTEP_HOST_DEVICE constexpr float dummy_value(std::uint64_t row_key, std::uint64_t column,
                                                 std::int32_t base) {
  const std::uint64_t bits = dummy_mix(row_key + column);
  const std::uint64_t sum =
      (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
  return static_cast<float>(static_cast<std::int32_t>(sum) - 131070 + base) * 0x1p-21f;
}

// How the elements of one tensor are made.
struct DummySource {
  std::uint64_t key = 0;
  std::int32_t base = 0;
  DType dtype = DType::kFloat32;  // that values are rounded to before all else
};

// Whether a tensor of this name is a norm's weight: "...norm.weight".
constexpr bool is_dummy_norm(std::string_view name) { return name.ends_with("norm.weight"); }

}  // namespace lockstep
