// The way of weights to the warps that multiply, on Hopper: in boxes (tensor_map.h), as large as
// can be, which a warp of its own asks for, early.
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

// A ring of kDepth places for each warp, each kItsPanels panels of as many columns as there is room
// for. The places of all warps with the same number are asked for together, so that what lies
// together in memory is read together, by one warp: copies of boxes are taken slowly when memory is
// busy.
template <Result kResult, int kDepth, int kItsPanels>
struct WeightRing {
  static constexpr int kPanels = kItsPanels;
  static constexpr int kParts = kBoxParts / kPanels, kColumns = kParts * kBoxPart;
  static constexpr int kPartBytes = kBoxPart * 2, kRowBytes = kParts * kPartBytes;
  static constexpr int kPlaceBytes = kPanels * kPanel * kRowBytes;
  static constexpr int kHalves = kResult == Result::kGated ? 2 : 1;  // of the matrix
  static constexpr int kFeatures = Group<1, kPanels, kResult>::kFeatures;
  static_assert(kBoxPart == 2 * kStep);

  alignas(1024) unsigned char places[kWarps * kDepth][kPlaceBytes];
  Barrier full[kWarps * kDepth];  // of each place
  Barrier empty[kDepth];          // of all warps' places with that number

  __device__ void start() {
    for (Barrier& barrier : full) barrier.start(1);
    for (Barrier& barrier : empty) barrier.start(kWarps);
  }

  // Features of a set's `box`-th box.
  static __device__ int count(const Share& share, int box) {
    return min(max(share.features - box * kFeatures, 0), kFeatures);
  }
  // A leaf's columns from `column` on are whole parts, even where the leaf ends: what is behind it
  // is not used.
  static __device__ int parts(const LinearArguments& a, int column) {
    return min(kParts, (a.leaf_size - column + kBoxPart - 1) / kBoxPart);
  }

  // For the warp that asks: all that the others do, in groups as G's, from first to last. Lane w,
  // of the first kWarps ones, does it for warp w.
  template <typename G>
  __device__ void ask_for_all(const LinearArguments& a, const BoxMaps& maps, int lane) {
    constexpr int kBoxes = G::kPanels / kPanels;  // of a group
    const Share share(a, lane % kWarps);
    Turn turn;
    const int groups = G::count(a);
    for (int group = 0; group < groups; ++group)
      for (int column = 0; column < a.leaf_size; column += kColumns)
        for (int box = 0; box * kPanels < G::panels(a, group); ++box)
          ask(a, maps, share, lane, turn, group * kBoxes + box, column);
  }

  // A box of all sets, columns from `column` of each leaf on.
  __device__ void ask(const LinearArguments& a, const BoxMaps& maps, const Share& share, int lane,
                      Turn& turn, int box, int column) {
    if (turn.times > 0) empty[turn.place].wait(turn.times - 1);
    if (lane < kWarps) {
      const int place = lane * kDepth + turn.place;
      // One after the other while nothing is multiplied: the kernels before this one still wait for
      // memory, behind all that was asked of it before.
      if (turn.times == 0 && turn.place > 0) full[place - 1].wait(0);
      fill(a, maps, share, place, box, column);
    }
    __syncwarp();
    turn.advance(kDepth);
  }

  __device__ void fill(const LinearArguments& a, const BoxMaps& maps, const Share& share, int place,
                       int box, int column) {
    const int row = static_cast<int>(share.begin) + box * kFeatures;
    const int features = count(share, box), width = parts(a, column);
    Barrier& barrier = full[place];
    unsigned char* const to = places[place];
    column += static_cast<int>(share.first_column);
    barrier.expect(kHalves * features * width * kPartBytes);
    if (features == 0) return;
    if (a.leaf_size % kBoxPart == 0) {
      const int height = features == kFeatures ? 0 : share.features > a.set_features ? 1 : 2;
      copy_box(barrier, to, (width == kParts ? maps.full : maps.narrow) + height, row,
               column / kBoxPart);
      return;
    }
    for (int i = 0; i < kHalves * features; ++i)
      for (int part = 0; part < width; ++part)
        copy_part(barrier, to + i * kRowBytes + part * kPartBytes, &maps.part,
                  i < features ? row + i : row + static_cast<int>(a.features) + i - features,
                  column + part * kBoxPart);
  }

  // For the warps that multiply: their place, when it is full,
  __device__ const unsigned char* wait(int warp, const Turn& turn) {
    const int place = warp * kDepth + turn.place;
    full[place].wait(turn.times);
    return places[place];
  }
  // and when all its lanes have read it.
  __device__ void release(int lane, Turn& turn) {
    __syncwarp();
    if (lane == 0) empty[turn.place].arrive();
    turn.advance(kDepth);
  }
};

// A lane's 16 bytes of a box's row, for step i.
__device__ inline uint4 load_piece(const unsigned char* box, int row, int parts, int i,
                                   int quarter) {
  const int part = row * parts + i / 2, piece = i % 2 * 4 + quarter;
  return *reinterpret_cast<const uint4*>(box + part * (kBoxPart * 2) + (piece ^ part % 8) * 16);
}

// A kernel whose first warps multiply and whose others ask, one of them for weights. Inputs: what
// is needed to ask for inputs.
template <typename Kernel>
__global__ __launch_bounds__(kThreads + Kernel::kAskers * kWarp, 1) void boxed_kernel(
    const LinearArguments a, const __grid_constant__ ResidualExchange exchange,
    const __grid_constant__ BoxMaps maps, const __grid_constant__ typename Kernel::Inputs inputs) {
#if __CUDA_ARCH__ >= 900
  if (Kernel::G::kResult != Result::kExchanged) allow_next_kernel();
  auto& memory = *static_cast<typename Kernel::Memory*>(launched_shared_memory());
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) Kernel::start(memory);
  __syncthreads();
  if (thread < kThreads) {
    Kernel::multiply(a, exchange, memory);
  } else if (thread < kThreads + kWarp) {
    memory.ring.template ask_for_all<typename Kernel::G>(a, maps, thread % kWarp);
  } else if constexpr (Kernel::kAskers > 1) {
    Kernel::ask_for_inputs(a, inputs, memory, thread % kWarp);
  }
#endif
}

}  // namespace
}  // namespace lockstep::cuda
