// Barrier: where the threads of one group meet. They sleep while they wait (CPU ranks may outnumber
// cores), and a waiting thread can be woken by a time-out or by abort(), which std::barrier lacks.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace lockstep {

// Thread-safe. What a thread wrote before it arrived is visible to every thread that passed.
//
// Passing is all or nothing: abort() competes with the last arrival for one atomic word, so that
// either every thread of a round passes or none does.
class Barrier {
 public:
  using Clock = std::chrono::steady_clock;
  // Which round a thread waits for.
  using Round = std::uint32_t;
  enum class Outcome { kPassed, kAborted, kTimedOut };

  static constexpr int kMaxParties = 127;

  explicit Barrier(int parties) : parties_(static_cast<std::uint32_t>(parties)) {}

  // Arrives; null if the barrier was aborted.
  std::optional<Round> arrive();
  // Waits until all have arrived in `round`. After kTimedOut the thread has still arrived: it may
  // wait again.
  Outcome wait(Round round, std::chrono::milliseconds timeout);

  // Arrives and waits for as long as it takes, aborted or not: for when all others are certain to
  // come.
  void complete();

  // Wakes all that wait; no later arrive() succeeds.
  void abort();
  bool aborted() const { return (word_.load(std::memory_order_acquire) & kAborted) != 0; }

  // As new. No thread may be in a call.
  void reset() { word_.store(0, std::memory_order_release); }

 private:
  // word_: bit 0: aborted; bits 1-7: threads that have arrived in this round; bits 8-31: the round.
  static constexpr std::uint32_t kAborted = 1;
  static constexpr std::uint32_t kOneArrival = 2;
  static constexpr std::uint32_t kOneRound = 256;

  std::optional<Round> arrive(bool even_if_aborted);

  alignas(64) std::atomic<std::uint32_t> word_{0};
  const std::uint32_t parties_;
};

}  // namespace lockstep
