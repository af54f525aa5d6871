// A product of two to eight rows, on Hopper: a tensor-core tile's worth, so that it takes as long
// as one row's, but for the inputs. They pass through places of their own, which each warp fills
// for itself, once for all the panels of a group.
#pragma once

#include <cstdint>

#include "ops/cuda/weight_ring.h"

namespace lockstep::cuda {
namespace {

template <typename T, Result kItsResult>
struct FewRowsKernel {
  using G = Group<kTileRows, 2, kItsResult>;
  using Ring = WeightRing<kItsResult, 2>;
  using Inputs = InputMaps;
  static constexpr int kInputDepth = 2;
  static constexpr int kInputBytes = kTileRows * kBoxColumns * 2;

  struct Memory {
    Ring ring;
    alignas(1024) unsigned char inputs[kWarps * kInputDepth][kInputBytes];
    float sums[G::kSumBytes / sizeof(float)];
    Barrier input_arrived[kWarps * kInputDepth];
  };

  static __device__ void start(Memory& memory) {
    memory.ring.start();
    for (Barrier& barrier : memory.input_arrived) barrier.start(1);
    barriers_started();
  }

  // A warp's places for its leaf's inputs, which its first lane fills.
  struct InputRing {
    const LinearArguments& a;
    const InputMaps& maps;
    Memory& memory;
    const Share& share;
    int missing;     // boxes that are still to be asked for
    int column = 0;  // of the leaf, the next one's first
    Turn asked{}, used{};

    __device__ void ask() {
      if (missing == 0) return;
      --missing;
      const int place = share.warp * kInputDepth + asked.place, parts = Ring::parts(a, column);
      if (share.lane == 0) {
        memory.input_arrived[place].expect(kTileRows * parts * Ring::kPartBytes);
        copy_box(memory.input_arrived[place], memory.inputs[place],
                 parts == kBoxParts ? &maps.full : &maps.narrow, 0,
                 (static_cast<int>(share.first_column) + column) / kBoxPart);
      }
      column = column + kBoxColumns < a.leaf_size ? column + kBoxColumns : 0;
      asked.advance(kInputDepth);
    }
    __device__ const unsigned char* wait() {
      const int place = share.warp * kInputDepth + used.place;
      memory.input_arrived[place].wait(used.times);
      return memory.inputs[place];
    }
    // When all lanes have read the place.
    __device__ void release() {
      __syncwarp();
      used.advance(kInputDepth);
      ask();
    }
  };

  static __device__ void multiply(const LinearArguments& a, const ResidualExchange& exchange,
                                  const Inputs& maps, Memory& memory) {
    const Share share(a, static_cast<int>(threadIdx.x) / kWarp);
    const int row = share.lane / 4, quarter = share.lane % 4;
    const int groups = G::count(a), boxes = (a.leaf_size + kBoxColumns - 1) / kBoxColumns;
    wait_for_previous_kernels();
    const std::uint32_t number = begin_exchange<kItsResult>(exchange);
    InputRing input_ring{a, maps, memory, share, groups * boxes};
    for (int i = 0; i < kInputDepth; ++i) input_ring.ask();

    Turn turn;
    for (int group = 0; group < groups; ++group) {
      const int num_panels = G::panels(a, group);
      float d[G::kPanels][1][4] = {};
      for (int column = 0; column < a.leaf_size; column += kBoxColumns) {
        const unsigned char* const inputs = input_ring.wait();
#pragma unroll
        for (int panel = 0; panel < G::kPanels; ++panel) {
          if (panel >= num_panels) break;
          const int lower = lower_row<Ring>(share, group * G::kPanels + panel);
          const unsigned char* const weights = memory.ring.wait(share.warp, turn);
          for_each_step(a, column, quarter, [&](int i, int parts, bool) {
            const uint4 input[1] = {load_piece(inputs, row, parts, i, quarter)};
            multiply_step<T>(d[panel], load_piece(weights, row, parts, i, quarter),
                             load_piece(weights, lower, parts, i, quarter), input);
          });
          memory.ring.release(share.lane, turn);
        }
        input_ring.release();
      }
      G::template finish<T>(a, share, exchange, number, group, d, memory.sums);
    }
  }
};

}  // namespace
}  // namespace lockstep::cuda
