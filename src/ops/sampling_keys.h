// What a draw is made of, the same on every backend: the noise of a token, and the order of
// candidates.
#pragma once

#include <cstdint>
#include <limits>

#include "core/host_device.h"

namespace lockstep::sampling {

// Keys and ids of rows in which nothing was drawn. On the CPU such rows throw; on a GPU
// append_tokens() gives the id to the host, which throws (any negative id is an error).
inline constexpr std::int64_t kNoCandidateKey = std::numeric_limits<std::int64_t>::min();
inline constexpr std::int64_t kNotANumberKey = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int32_t kNoCandidateId = -1;  // no logit is left in the race
inline constexpr std::int32_t kNotANumberId = -2;   // a logit is NaN

// Maps the bits of a float to an integer that orders as the float does.
LOCKSTEP_HOST_DEVICE constexpr std::uint32_t ordered(std::uint32_t bits) {
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
// And back.
LOCKSTEP_HOST_DEVICE constexpr std::uint32_t unordered(std::uint32_t key) {
  return key & 0x80000000u ? key & 0x7fffffffu : ~key;
}

// A candidate's key: larger for larger values, among equal ones for smaller ids. `bits` are those
// of the value, which is not -0 (it would be less than 0).
LOCKSTEP_HOST_DEVICE constexpr std::int64_t candidate_key(std::uint32_t bits, std::int64_t id) {
  const std::uint64_t key = (static_cast<std::uint64_t>(ordered(bits)) << 32) |
                            (0xffffffffu - static_cast<std::uint32_t>(id));
  return static_cast<std::int64_t>(key ^ (std::uint64_t{1} << 63));
}
LOCKSTEP_HOST_DEVICE constexpr std::int32_t candidate_id(std::int64_t key) {
  return static_cast<std::int32_t>(0xffffffffu - static_cast<std::uint32_t>(key));
}

// splitmix64's finaliser (Steele, Lea, Flood 2014).
LOCKSTEP_HOST_DEVICE constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// Uniform in (0, 1), exactly representable, so never 1: a function of its arguments alone, because
// every world size must draw the same.
LOCKSTEP_HOST_DEVICE constexpr double uniform(std::uint64_t seed, std::int32_t position,
                                              std::int64_t id) {
  const std::uint64_t step =
      mix(seed + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(position + 1));
  const std::uint64_t bits = mix(step + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(id + 1));
  return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52;
}

}  // namespace lockstep::sampling
