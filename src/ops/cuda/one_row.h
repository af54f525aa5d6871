// A product of one row, on Hopper. What it takes is the time in which its weights come, so they are
// asked for early, in pieces as large as can be, and not by the warps that multiply.
#pragma once

#include <cstdint>

#include "ops/cuda/barrier.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/product.h"
#include "ops/cuda/tensor_map.h"

namespace lockstep::cuda {
namespace {

// A place of a ring, and how often it was used before.
struct Turn {
  int place = 0;
  unsigned times = 0;

  __device__ void advance(int depth) {
    if (++place < depth) return;
    place = 0;
    ++times;
  }
};

// Weights pass through a ring of kDepth places for each warp, each a panel of up to kBoxColumns
// columns. The places of all warps with the same number are asked for together, so that what lies
// together in memory is read together, by a warp of its own: copies of boxes are taken slowly when
// memory is busy.
template <typename T, Result kItsResult, int kDepth>
struct OneRowKernel : Group<1, 1, kItsResult> {
  using G = Group<1, 1, kItsResult>;
  static constexpr int kRowBytes = kBoxColumns * 2, kPartBytes = kBoxPart * 2;
  static constexpr int kPlaceBytes = kPanel * kRowBytes;
  static constexpr int kHalves = kItsResult == Result::kGated ? 2 : 1;  // of the matrix
  static_assert(kBoxPart == 2 * kStep);

  struct Memory {
    unsigned char places[kWarps * kDepth][kPlaceBytes];
    float sums[G::kSumBytes / sizeof(float)];
    Barrier full[kWarps * kDepth];  // of each place
    Barrier empty[kDepth];          // of all warps' places with that number
    Barrier input_arrived;
    alignas(128) T input[];  // [in_features]
  };
  static std::size_t shared_bytes(const LinearArguments& a) {
    return sizeof(Memory) + static_cast<std::size_t>(a.in_features) * sizeof(T);
  }

  static __device__ void start(Memory& memory) {
    for (Barrier& barrier : memory.full) barrier.start(1);
    for (Barrier& barrier : memory.empty) barrier.start(kWarps);
    memory.input_arrived.start(1);
    barriers_started();
  }

  // Features of a set's group.
  static __device__ int count(const Share& share, int group) {
    return min(max(share.features - group * G::kFeatures, 0), G::kFeatures);
  }

  // The warp that asks: lane w, of the first kWarps ones, does it for warp w.
  static __device__ void produce(const LinearArguments& a, const BoxMaps& maps, Memory& memory,
                                 int lane) {
    const Share share(a, lane % kWarps);
    const bool boxes = a.leaf_size % kBoxPart == 0;
    // `count` features from `row` on, columns of `parts` parts from `column` on.
    const auto fill = [&](int place, int row, int count, int column, int parts) {
      Barrier& full = memory.full[place];
      unsigned char* const to = memory.places[place];
      column += static_cast<int>(share.first_column);
      full.expect(kHalves * count * parts * kPartBytes);
      if (count == 0) return;
      if (boxes) {
        const int height = count == G::kFeatures ? 0 : share.features > a.set_features ? 1 : 2;
        copy_box(full, to, (parts == kBoxParts ? maps.full : maps.narrow) + height, row,
                 column / kBoxPart);
      } else {
        for (int i = 0; i < kHalves * count; ++i)
          for (int part = 0; part < parts; ++part)
            copy_part(full, to + i * kRowBytes + part * kPartBytes, &maps.part,
                      i < count ? row + i : row + static_cast<int>(a.features) + i - count,
                      column + part * kBoxPart);
      }
    };

    Turn turn;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      const int row = static_cast<int>(share.begin) + group * G::kFeatures;
      for (int column = 0; column < a.leaf_size; column += kBoxColumns) {
        if (turn.times > 0) memory.empty[turn.place].wait(turn.times - 1);
        if (lane < kWarps) {
          const int place = lane * kDepth + turn.place;
          // One after the other while nothing is multiplied: the kernels before this one still
          // wait for memory, behind all that was asked of it before.
          if (turn.times == 0 && turn.place > 0) memory.full[place - 1].wait(0);
          // Whole parts, even where the leaf ends: what is behind it is not used.
          const int parts = min(kBoxParts, (a.leaf_size - column + kBoxPart - 1) / kBoxPart);
          fill(place, row, count(share, group), column, parts);
        }
        __syncwarp();
        turn.advance(kDepth);
      }
    }
  }

  // The others.
  static __device__ void multiply(const LinearArguments& a, const ResidualExchange& exchange,
                                  Memory& memory) {
    const Share share(a, static_cast<int>(threadIdx.x) / kWarp);
    const int row = share.lane / 4, quarter = share.lane % 4;
    wait_for_previous_kernels();
    if (threadIdx.x == 0) {
      const int bytes = static_cast<int>(a.in_features * sizeof(T));
      memory.input_arrived.expect(bytes);
      copy_bytes(memory.input_arrived, memory.input, a.x, bytes);
    }
    const std::uint32_t number = begin_exchange<kItsResult>(exchange);
    memory.input_arrived.wait(0);
    const T* const input_of_lane = memory.input + share.first_column + quarter * 8;

    Turn turn;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      // A tensor-core tile's lower half: a box of gates has those of all its features first.
      const int lower_row = row + (kHalves == 1 ? kPanel / 2 : count(share, group));
      float d[1][1][4] = {};
      for (int column = 0; column < a.leaf_size; column += kBoxColumns) {
        const int place = share.warp * kDepth + turn.place;
        memory.full[place].wait(turn.times);
        const unsigned char* const weights = memory.places[place];
        const auto step = [&](int i, int parts, bool in_leaf) {
          const int piece = i % 2 * 4 + quarter;
          const auto load = [&](const void* from) {
            return in_leaf ? *static_cast<const uint4*>(from) : uint4{};
          };
          const auto weights_of = [&](int its_row) {
            const int part = its_row * parts + i / 2;
            return load(weights + part * kPartBytes + (piece ^ part % 8) * 16);
          };
          const uint4 input[1] = {load(input_of_lane + column + i * kStep)};  // of all the tile
          multiply_step<T>(d[0], weights_of(row), weights_of(lower_row), input);
        };
        if (column + kBoxColumns <= a.leaf_size) {
#pragma unroll
          for (int i = 0; i < kBoxColumns / kStep; ++i) step(i, kBoxParts, true);
        } else {
          const int rest = a.leaf_size - column;
          // Boxes are as wide as what is left; parts of rows lie as far apart as in a full one.
          const int parts = rest % kBoxPart == 0 ? rest / kBoxPart : kBoxParts;
          for (int i = 0; i * kStep < rest; ++i) step(i, parts, i * kStep + quarter * 8 < rest);
        }
        __syncwarp();  // all have read the place
        if (share.lane == 0) memory.empty[turn.place].arrive();
        turn.advance(kDepth);
      }
      G::template finish<T>(a, share, exchange, number, group, d, memory.sums);
    }
  }
};

template <typename T, Result kResult, int kDepth>
__global__ __launch_bounds__(kThreads + kWarp, 1) void one_row_kernel(
    const LinearArguments a, const __grid_constant__ ResidualExchange exchange,
    const __grid_constant__ BoxMaps maps) {
#if __CUDA_ARCH__ >= 900
  using Kernel = OneRowKernel<T, kResult, kDepth>;
  if (kResult != Result::kExchanged) allow_next_kernel();
  auto& memory = *static_cast<typename Kernel::Memory*>(launched_shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) Kernel::start(memory);
  __syncthreads();
  if (thread < kThreads)
    Kernel::multiply(a, exchange, memory);
  else
    Kernel::produce(a, maps, memory, thread % kWarp);
#endif
}

}  // namespace
}  // namespace lockstep::cuda
