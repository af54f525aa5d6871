// A product of one row, on Hopper. What it takes is the time in which its weights come.
#pragma once

#include <cstdint>

#include "ops/cuda/weight_ring.h"

namespace lockstep::cuda {
namespace {

template <typename T, Result kItsResult, int kDepth>
struct OneRowKernel {
  using G = Group<1, 1, kItsResult>;
  using Ring = WeightRing<kItsResult, kDepth, 1>;
  static constexpr int kAskers = 1;

  struct Inputs {};  // they are in `a`

  struct Memory {
    Ring ring;
    float sums[G::kSumBytes / sizeof(float)];
    Barrier input_arrived;
    alignas(128) T input[];  // [in_features]
  };
  static std::size_t shared_bytes(const LinearArguments& a) {
    return sizeof(Memory) + static_cast<std::size_t>(a.in_features) * sizeof(T);
  }
  static Inputs make_inputs(const LinearArguments&) { return {}; }

  static __device__ void start(Memory& memory) {
    memory.ring.start();
    memory.input_arrived.start(1);
    barriers_started();
  }

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
      // A box of gates has those of all its features first.
      const int lower = row + (Ring::kHalves == 1 ? kPanel / 2 : Ring::count(share, group));
      float d[1][1][4] = {};
      for (int column = 0; column < a.leaf_size; column += Ring::kColumns) {
        const unsigned char* const weights = memory.ring.wait(share.warp, turn);
        for_each_step(a, column, quarter, [&](int i, int parts, bool in_leaf) {
          uint4 upper_weights{}, lower_weights{}, input[1] = {};
          if (in_leaf) {
            upper_weights = load_piece(weights, row, parts, i, quarter);
            lower_weights = load_piece(weights, lower, parts, i, quarter);
            // The same for all rows of the tile, of which the first is used.
            input[0] = *reinterpret_cast<const uint4*>(input_of_lane + column + i * kStep);
          }
          multiply_step<T>(d[0], upper_weights, lower_weights, input);
        });
        memory.ring.release(share.lane, turn);
      }
      G::template finish<T>(a, share, exchange, number, group, {row, quarter * 2, 0}, d,
                            memory.sums);
    }
  }

  // Calls step(i, parts, in_leaf) for each kStep columns of a leaf's box from `column` on: `parts`
  // is how many lie between its rows, and whether the lane's eight columns are the leaf's.
  template <typename Step>
  static __device__ void for_each_step(const LinearArguments& a, int column, int quarter,
                                       Step&& step) {
    if (column + Ring::kColumns <= a.leaf_size) {
#pragma unroll
      for (int i = 0; i < Ring::kColumns / kStep; ++i) step(i, Ring::kParts, true);
      return;
    }
    const int rest = a.leaf_size - column;
    // Boxes are as wide as what is left; parts of rows lie as far apart as in a full one.
    const int parts = rest % kBoxPart == 0 ? rest / kBoxPart : Ring::kParts;
    for (int i = 0; i * kStep < rest; ++i) step(i, parts, i * kStep + quarter * 8 < rest);
  }
};

}  // namespace
}  // namespace lockstep::cuda
