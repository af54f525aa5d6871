// A product of 2 to 32 rows, on Hopper. It takes as long as one row's, but for the inputs: each
// multiprocessor needs all of them, for every group of its features. One copy brings those of all
// leaves, which the sets of a block share; the more rows, the more features are in a group.
#pragma once

#include <cstdint>

#include "ops/cuda/weight_ring.h"

namespace lockstep::cuda {
namespace {

// Places for inputs, each kTiles tiles of rows and some parts of every leaf: more of them if there
// are few rows, for copies that are worth asking for.
template <int kTiles>
struct InputRing {
  static constexpr int kParts = kBoxParts / kTiles, kColumns = kParts * kBoxPart;
  static constexpr int kPartBytes = kTiles * kTileRows * kBoxPart * 2;  // of a leaf
  static constexpr int kBytes = 2 * kWarps * kParts * kPartBytes;
  static constexpr int kMaxDepth = 8;

  alignas(1024) unsigned char places[kBytes];
  Barrier full[kMaxDepth], empty[kMaxDepth];

  static __device__ int place_bytes(const LinearArguments& a) {
    return kParts * a.leaves * kPartBytes;
  }
  static __device__ int depth(const LinearArguments& a) {
    return min(kBytes / place_bytes(a), kMaxDepth);
  }

  __device__ void start() {
    for (Barrier& barrier : full) barrier.start(1);
    for (Barrier& barrier : empty) barrier.start(kWarps);
  }

  // For the thread that asks: all that the warps use, from first to last.
  __device__ void ask_for_all(const LinearArguments& a, const CUtensorMap& map, int groups) {
    Turn turn;
    for (int group = 0; group < groups; ++group)
      for (int column = 0; column < a.leaf_size; column += kColumns) {
        if (turn.times > 0) empty[turn.place].wait(turn.times - 1);
        full[turn.place].expect(place_bytes(a));
        copy_leaves(full[turn.place], places + turn.place * place_bytes(a), &map,
                    column / kBoxPart);
        turn.advance(depth(a));
      }
  }

  // For the warps that multiply: a place's first part of their leaf, when it is full,
  __device__ const unsigned char* wait(const LinearArguments& a, int leaf, const Turn& turn) {
    full[turn.place].wait(turn.times);
    return places + turn.place * place_bytes(a) + leaf * kPartBytes;
  }
  // and when all lanes have read it.
  __device__ void release(const LinearArguments& a, int lane, Turn& turn) {
    __syncwarp();
    if (lane == 0) empty[turn.place].arrive();
    turn.advance(depth(a));
  }
};

// kPanels: of a group, in boxes of kBoxPanels.
template <typename T, Result kItsResult, int kTiles, int kPanels, int kBoxPanels>
struct FewRowsKernel {
  using G = Group<kTiles * kTileRows, kPanels, kItsResult>;
  using Ring = WeightRing<kItsResult, 2, kBoxPanels>;
  using Inputs = CUtensorMap;
  static constexpr int kAskers = 2;
  // Places of inputs beside a box. Where a group has several boxes, they are as wide as inputs are.
  static constexpr int kInputs = Ring::kParts / InputRing<kTiles>::kParts;
  static_assert(kInputs == 1 || kPanels == kBoxPanels);

  struct Memory {
    Ring ring;
    InputRing<kTiles> inputs;
    float sums[G::kSumBytes / sizeof(float)];
  };
  static std::size_t shared_bytes(const LinearArguments&) { return sizeof(Memory); }
  static Inputs make_inputs(const LinearArguments& a) {
    return make_input_map(a.x, a.rows, a.leaves, a.leaf_size, InputRing<kTiles>::kParts,
                          kTiles * kTileRows);
  }

  static __device__ void start(Memory& memory) {
    memory.ring.start();
    memory.inputs.start();
    barriers_started();
  }

  static __device__ void ask_for_inputs(const LinearArguments& a, const CUtensorMap& map,
                                        Memory& memory, int lane) {
    wait_for_previous_kernels();
    if (lane == 0) memory.inputs.ask_for_all(a, map, G::count(a));
  }

  static __device__ void multiply(const LinearArguments& a, const ResidualExchange& exchange,
                                  Memory& memory) {
    const Share share(a, static_cast<int>(threadIdx.x) / kWarp);
    const int leaf = share.warp % a.leaves, quarter = share.lane % 4;
    // Rows of a box that eight lanes read at the same time must differ in where they begin in the
    // banks: in bit 2 of the number of a row's first part.
    const int row = swap_bits(share.lane / 4, kBoxPanels / 2);
    const int input_row = swap_bits(share.lane / 4, 2);
    const LaneSums of_lane{row, swap_bits(quarter * 2, 2), swap_bits(quarter * 2 + 1, 2)};
    const int groups = G::count(a), input_stride = a.leaves * InputRing<kTiles>::kPartBytes;
    wait_for_previous_kernels();
    const std::uint32_t number = begin_exchange<kItsResult>(exchange);

    Turn turn, input_turn;
    for (int group = 0; group < groups; ++group) {
      const int num_panels = G::panels(a, group);
      float d[kPanels][kTiles][4] = {};
      for (int column = 0; column < a.leaf_size; column += Ring::kColumns) {
        const int parts = Ring::parts(a, column);
        const unsigned char* weights = nullptr;
#pragma unroll
        for (int place = 0; place < kInputs; ++place) {
          const int begin = place * InputRing<kTiles>::kParts;  // of the box's parts
          if (begin >= parts) break;
          const unsigned char* const inputs = memory.inputs.wait(a, leaf, input_turn);
#pragma unroll
          for (int box = 0; box < kPanels / kBoxPanels; ++box) {
            if (box * kBoxPanels >= num_panels) break;
            if (place == 0) weights = memory.ring.wait(share.warp, turn);
            // A box of gates has those of all its features first.
            const int to_lower = Ring::kHalves == 1
                                     ? kPanel / 2
                                     : Ring::count(share, group * (kPanels / kBoxPanels) + box);
            const auto multiply_part = [&](int part) {
#pragma unroll
              for (int step = 0; step < kBoxPart / kStep; ++step) {
                uint4 input[kTiles];
#pragma unroll
                for (int tile = 0; tile < kTiles; ++tile)
                  input[tile] = load_piece(inputs + part * input_stride,
                                           tile * kTileRows + input_row, 1, step, quarter);
#pragma unroll
                for (int panel = 0; panel < kBoxPanels; ++panel) {
                  if (box * kBoxPanels + panel >= num_panels) break;
                  const int upper = panel * G::kPanelFeatures + row;
                  const int i = (begin + part) * (kBoxPart / kStep) + step;
                  multiply_step<T>(d[box * kBoxPanels + panel],
                                   load_piece(weights, upper, parts, i, quarter),
                                   load_piece(weights, upper + to_lower, parts, i, quarter), input);
                }
              }
            };
            constexpr int kParts = InputRing<kTiles>::kParts;
            if (begin + kParts <= parts) {
#pragma unroll
              for (int part = 0; part < kParts; ++part) multiply_part(part);
            } else {
              for (int part = 0; begin + part < parts; ++part) multiply_part(part);
            }
            if (begin + kParts >= parts) memory.ring.release(share.lane, turn);
          }
          memory.inputs.release(a, share.lane, input_turn);
        }
      }
      G::template finish<T>(a, share, exchange, number, group, of_lane, d, memory.sums);
    }
  }
};

}  // namespace
}  // namespace lockstep::cuda
