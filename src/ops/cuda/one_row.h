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

// Weights pass through a ring of places for each warp, each a panel of up to kBoxColumns columns.
// The places of all warps with the same number are asked for together, so that what lies together
// in memory is read together, by a warp of its own: copies of boxes are taken slowly when memory is
// busy.
template <typename T, Result kItsResult>
struct OneRowKernel : Group<1, 1, kItsResult> {
  using G = Group<1, 1, kItsResult>;
  static constexpr int kRowBytes = kBoxColumns * 2, kPartBytes = kBoxPart * 2;
  static constexpr int kPlaceBytes = kPanel * kRowBytes;
  static constexpr int kDepth = 2;
  static constexpr int kHalf = kPanel / 2;
  static_assert(kHalf == kMaxBoxRows && kBoxPart == 2 * kStep);

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

  // What a warp's place is filled with.
  struct Copy {
    Barrier& full;
    unsigned char* place;
    int column;  // of the matrix, the first one
    int parts;   // of kBoxPart columns
  };

  // The warp that asks: lane w, of the first kWarps ones, does it for warp w.
  static __device__ void produce(const LinearArguments& a, const BoxMaps& maps, Memory& memory,
                                 int lane) {
    const Share share(a, lane % kWarps);
    const bool boxes = a.leaf_size % kBoxPart == 0;
    const auto ask_for_input = [&] {
      wait_for_previous_kernels();
      if (lane != 0) return;
      const int bytes = static_cast<int>(a.in_features * sizeof(T));
      memory.input_arrived.expect(bytes);
      copy_bytes(memory.input_arrived, memory.input, a.x, bytes);
    };
    // The rows [row, row + count) of the matrix to the place's rows from `first` on.
    const auto fill = [&](const Copy& copy, int first, std::int64_t row, int count) {
      const int pitch = boxes ? copy.parts * kPartBytes : kRowBytes;
      unsigned char* to = copy.place + first * pitch;
      if (boxes) {
        const CUtensorMap* const heights = copy.parts == kBoxParts ? maps.full : maps.narrow;
#pragma unroll
        for (int i = kBoxHeights - 1; i >= 0; --i) {
          if (!(count >> i & 1)) continue;
          copy_box(copy.full, to, &heights[i], static_cast<int>(row), copy.column / kBoxPart);
          to += pitch << i;
          row += 1 << i;
        }
      } else {
        for (int i = 0; i < count; ++i)
          for (int part = 0; part < copy.parts; ++part)
            copy_part(copy.full, to + i * pitch + part * kPartBytes, &maps.part,
                      static_cast<int>(row) + i, copy.column + part * kBoxPart);
      }
    };

    Turn turn;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      const int features = share.features - group * G::kFeatures;
      const int upper = min(max(features, 0), kHalf);
      const int lower = kItsResult == Result::kGated ? upper : min(max(features - kHalf, 0), kHalf);
      const std::int64_t row = share.begin + group * G::kFeatures;
      for (int column = 0; column < a.leaf_size; column += kBoxColumns) {
        if (turn.times == 1 && turn.place == 0) ask_for_input();  // the ring is full
        if (turn.times > 0) memory.empty[turn.place].wait(turn.times - 1);
        if (lane < kWarps) {
          // Whole parts, even where the leaf ends: what is behind it is not used.
          const int parts = min(kBoxParts, (a.leaf_size - column + kBoxPart - 1) / kBoxPart);
          const int place = lane * kDepth + turn.place;
          const Copy copy{memory.full[place], memory.places[place],
                          static_cast<int>(share.first_column) + column, parts};
          copy.full.expect((upper + lower) * parts * kPartBytes);
          fill(copy, 0, row, upper);
          fill(copy, kHalf, row + (kItsResult == Result::kGated ? a.features : kHalf), lower);
        }
        __syncwarp();
        turn.advance(kDepth);
      }
    }
    if (turn.times == 0 || (turn.times == 1 && turn.place == 0)) ask_for_input();
  }

  // The others.
  static __device__ void multiply(const LinearArguments& a, const ResidualExchange& exchange,
                                  Memory& memory) {
    const Share share(a, static_cast<int>(threadIdx.x) / kWarp);
    const int row = share.lane / 4, quarter = share.lane % 4;
    wait_for_previous_kernels();
    const std::uint32_t number = begin_exchange<kItsResult>(exchange);
    memory.input_arrived.wait(0);
    const T* const input_of_lane = memory.input + share.first_column + quarter * 8;

    Turn turn;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group) {
      float d[1][1][4] = {};
      for (int column = 0; column < a.leaf_size; column += kBoxColumns) {
        const int place = share.warp * kDepth + turn.place;
        memory.full[place].wait(turn.times);
        const unsigned char* const weights = memory.places[place];
        const auto step = [&](int i, int parts, bool in_leaf) {
          const int part = row * parts + i / 2, piece = i % 2 * 4 + quarter;
          const auto load = [&](const void* from) {
            return in_leaf ? *static_cast<const uint4*>(from) : uint4{};
          };
          const unsigned char* const upper = weights + part * kPartBytes + (piece ^ part % 8) * 16;
          const uint4 input[1] = {load(input_of_lane + column + i * kStep)};  // of all the tile
          multiply_step<T>(d[0], load(upper), load(upper + kHalf * parts * kPartBytes), input);
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

template <typename T, Result kResult>
__global__ __launch_bounds__(kThreads + kWarp, 1) void one_row_kernel(
    const LinearArguments a, const __grid_constant__ ResidualExchange exchange,
    const __grid_constant__ BoxMaps maps) {
#if __CUDA_ARCH__ >= 900
  using Kernel = OneRowKernel<T, kResult>;
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
