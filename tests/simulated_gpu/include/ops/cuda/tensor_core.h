// As src/ops/cuda/tensor_core.h, on the CPU.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "ops/cuda/element.h"

namespace lockstep::cuda {

using SharedAddress = std::uintptr_t;

inline void* launched_shared_memory() { return simulated_gpu::launched_shared_memory(); }
inline SharedAddress shared_address(const void* pointer) {
  return reinterpret_cast<SharedAddress>(pointer);
}

template <typename T>
float element_of(std::uint32_t word, int i) {
  const auto bits = static_cast<std::uint16_t>(word >> 16 * i);
  return to_float(__builtin_bit_cast(T, bits));
}

template <typename T>
void multiply_tile(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  const simulated_gpu::Meeting& found =
      simulated_gpu::meet(simulated_gpu::Meeting::kMultiply, kAllLanes,
                          {a[0], a[1], a[2], a[3], b0, b1}, [](simulated_gpu::Meeting& meeting) {
                            for (int lane = 0; lane < kWarp; ++lane)
                              for (int i = 0; i < 2; ++i) {
                                const int g = lane / 4, q = 2 * (lane % 4) + i;
                                const std::uint32_t* words = meeting.words[lane];
                                meeting.a[g][q] = element_of<T>(words[0], i);
                                meeting.a[g + 8][q] = element_of<T>(words[1], i);
                                meeting.a[g][q + 8] = element_of<T>(words[2], i);
                                meeting.a[g + 8][q + 8] = element_of<T>(words[3], i);
                                meeting.b[q][g] = element_of<T>(words[4], i);
                                meeting.b[q + 8][g] = element_of<T>(words[5], i);
                              }
                          });
  const int lane = simulated_gpu::current->lane;
  for (int i = 0; i < 4; ++i) {
    const int row = lane / 4 + i / 2 * 8, column = 2 * (lane % 4) + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; ++k) sum += found.a[row][k] * found.b[k][column];
    d[i] += sum;
  }
}

// The eight rows of a matrix must be in banks of their own.
template <bool kTransposed>
void load_four_matrices(std::uint32_t (&matrices)[4], SharedAddress row) {
  if (row % 16 != 0) simulated_gpu::broken("a matrix's row that is not aligned to 16 bytes");
  const simulated_gpu::Meeting& found =
      simulated_gpu::meet(simulated_gpu::Meeting::kLoad, kAllLanes,
                          {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row >> 32)});
  const int lane = simulated_gpu::current->lane;
  for (int i = 0; i < 4; ++i) {
    std::uint16_t elements[2];
    unsigned banks = 0;
    for (int r = 0; r < 8; ++r) banks |= 1u << found.words[8 * i + r][0] / 16 % 8;
    if (banks != 0xff) simulated_gpu::broken("rows of a matrix that are in the same banks");
    for (int j = 0; j < 2; ++j) {
      int r = lane / 4, column = 2 * (lane % 4) + j;
      if (kTransposed) std::swap(r, column);
      const std::uint32_t* words = found.words[8 * i + r];
      const SharedAddress from = words[0] | static_cast<SharedAddress>(words[1]) << 32;
      std::memcpy(&elements[j], reinterpret_cast<const char*>(from) + 2 * column, 2);
    }
    matrices[i] = elements[0] | static_cast<std::uint32_t>(elements[1]) << 16;
  }
}
inline void load_matrices(std::uint32_t (&matrices)[4], SharedAddress row) {
  load_four_matrices<false>(matrices, row);
}
inline void load_transposed(std::uint32_t (&matrices)[4], SharedAddress row) {
  load_four_matrices<true>(matrices, row);
}

inline void copy_async(SharedAddress to, const void* from, bool zeros) {
  if (to % 16 != 0 || reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    simulated_gpu::broken("a copy of 16 bytes that is not aligned");
  auto& groups = simulated_gpu::current->copies;
  if (groups.empty()) groups.emplace_back();
  std::memset(reinterpret_cast<void*>(to), 0xff, 16);
  groups.back().push_back({reinterpret_cast<void*>(to), zeros ? nullptr : from});
}
inline void copy_async_by_lines(SharedAddress to, const void* from, bool zeros) {
  copy_async(to, from, zeros);
}
inline void end_group() {
  auto& groups = simulated_gpu::current->copies;
  if (groups.empty()) groups.emplace_back();
  groups.emplace_back();
}
// As many groups, and the open one, stay.
inline void finish_groups_but(std::size_t count) {
  auto& groups = simulated_gpu::current->copies;
  while (groups.size() > count + 1) {
    for (const auto& [to, from] : groups.front())
      from ? std::memcpy(to, from, 16) : std::memset(to, 0, 16);
    groups.erase(groups.begin());
  }
}
template <int kCount>
void wait_for_groups_but() {
  finish_groups_but(kCount);
}
inline void wait_for_copies() {
  end_group();
  finish_groups_but(0);
}

inline int current_lane() { return simulated_gpu::current->lane; }

inline float fast_exp2(float x) {
  const float result = std::exp2(x);
  return result < 0x1p-126f ? 0.0f : result;
}

}  // namespace lockstep::cuda
