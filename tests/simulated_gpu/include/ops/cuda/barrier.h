// As src/ops/cuda/barrier.h, on the CPU.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "ops/cuda/tensor_core.h"
#include "simulated_gpu/tensor_map.h"

namespace lockstep::cuda {

struct Barrier {
  std::uint64_t state;

  void start(int threads) {
    update([&](State& s) { s = {threads, threads, 0, 0}; });
  }
  void arrive() { expect(0); }
  void expect(int bytes) {
    update([&](State& s) {
      if (s.missing == 0) simulated_gpu::broken("more threads arrived at a barrier than it is for");
      --s.missing;
      s.bytes += bytes;
    });
  }
  // So many bytes are there.
  void complete(int bytes) {
    update([&](State& s) { s.bytes -= bytes; });
  }
  void wait(unsigned turn) {
    while (State(__atomic_load_n(&state, __ATOMIC_SEQ_CST)).parity == static_cast<int>(turn & 1))
      simulated_gpu::pause();
  }

 private:
  // Threads that it is for, those that have not arrived in this turn, bytes that have not (they may
  // be there before they are expected), and the turn.
  struct State {
    int threads, missing, bytes, parity;
    State(int its_threads, int its_missing, int its_bytes, int its_parity)
        : threads(its_threads), missing(its_missing), bytes(its_bytes), parity(its_parity) {}
    explicit State(std::uint64_t bits)
        : threads(bits & 0xfff),
          missing(bits >> 12 & 0xfff),
          bytes(static_cast<int>(bits >> 32)),
          parity(bits >> 24 & 1) {}
    std::uint64_t bits() const {
      return static_cast<std::uint64_t>(static_cast<std::uint32_t>(bytes)) << 32 |
             static_cast<std::uint64_t>(parity << 24 | missing << 12 | threads);
    }
  };

  template <typename Change>
  void update(const Change& change) {
    std::uint64_t before = __atomic_load_n(&state, __ATOMIC_SEQ_CST), after;
    do {
      State s(before);
      change(s);
      if (s.missing == 0 && s.bytes == 0) {
        s.parity ^= 1;
        s.missing = s.threads;
      }
      after = s.bits();
    } while (!__atomic_compare_exchange_n(&state, &before, after, false, __ATOMIC_SEQ_CST,
                                          __ATOMIC_SEQ_CST));
  }
};

inline void barriers_started() {}

template <int kNumber, int kThreads>
void sync_threads() {
  simulated_gpu::sync_threads(kNumber, kThreads);
}

inline void copy_bytes(Barrier& barrier, void* to, const void* from, int bytes) {
  if (bytes % 16 != 0 || reinterpret_cast<std::uintptr_t>(to) % 16 != 0 ||
      reinterpret_cast<std::uintptr_t>(from) % 16 != 0)
    simulated_gpu::broken("a copy of bytes that is not aligned to 16");
  simulated_gpu::check_shared(to, static_cast<std::size_t>(bytes));
  simulated_gpu::current->block->copies.push_back([=, &barrier] {
    std::memcpy(to, from, static_cast<std::size_t>(bytes));
    barrier.complete(bytes);
  });
}

inline void copy_of_map(Barrier& barrier, void* to, const void* map, const std::array<int, 4>& at) {
  simulated_gpu::check_shared(to, simulated_gpu::bytes_of_box(map));
  simulated_gpu::current->block->copies.push_back(
      [=, &barrier] { barrier.complete(static_cast<int>(simulated_gpu::copy_box(to, map, at))); });
}
inline void copy_part(Barrier& barrier, void* to, const void* map, int row, int column) {
  copy_of_map(barrier, to, map, {column, row, 0, 0});
}
inline void copy_box(Barrier& barrier, void* to, const void* map, int row, int part) {
  copy_of_map(barrier, to, map, {0, part, row, 0});
}
inline void copy_leaves(Barrier& barrier, void* to, const void* map, int part) {
  copy_of_map(barrier, to, map, {0, 0, 0, part});
}

}  // namespace lockstep::cuda
