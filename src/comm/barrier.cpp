#include "comm/barrier.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace lockstep {
namespace {

static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t) &&
              std::atomic<std::uint32_t>::is_always_lock_free);

// std::atomic::wait has no time-out and a condition variable makes the woken queue for its mutex
// again; the system call underneath both does what is needed. Returns when woken, when `word` is
// not `expected`, at the deadline (null: never) or for no reason.
void futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                const Barrier::Clock::time_point* deadline) {
  timespec at{};
  if (deadline) {
    const auto since_boot =
        std::chrono::duration_cast<std::chrono::nanoseconds>(deadline->time_since_epoch()).count();
    at.tv_sec = static_cast<time_t>(since_boot / 1'000'000'000);
    at.tv_nsec = static_cast<long>(since_boot % 1'000'000'000);
  }
  // FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC, which steady_clock is.
  syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, deadline ? &at : nullptr, nullptr,
          FUTEX_BITSET_MATCH_ANY);
}

void futex_wake_all(std::atomic<std::uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

std::optional<Barrier::Round> Barrier::arrive() { return arrive(false); }

std::optional<Barrier::Round> Barrier::arrive(bool even_if_aborted) {
  std::uint32_t word = word_.load(std::memory_order_acquire);
  while (true) {
    const std::uint32_t aborted = word & kAborted;
    if (aborted && !even_if_aborted) return std::nullopt;
    const Round round = word / kOneRound;
    const std::uint32_t arrived = word % kOneRound / kOneArrival + 1;
    const bool last = arrived == parties_;
    const std::uint32_t next = last ? (round + 1) * kOneRound | aborted : word + kOneArrival;
    if (word_.compare_exchange_weak(word, next, std::memory_order_acq_rel,
                                    std::memory_order_acquire)) {
      if (last && parties_ > 1) futex_wake_all(word_);
      return round;
    }
  }
}

Barrier::Outcome Barrier::wait(Round round, std::chrono::milliseconds timeout) {
  std::optional<Clock::time_point> deadline;
  while (true) {
    const std::uint32_t word = word_.load(std::memory_order_acquire);
    if (word / kOneRound != round) return Outcome::kPassed;  // even if aborted since
    if (word & kAborted) return Outcome::kAborted;
    const auto now = Clock::now();
    if (!deadline) deadline = now + timeout;
    if (now >= *deadline) return Outcome::kTimedOut;
    futex_wait(word_, word, &*deadline);
  }
}

void Barrier::complete() {
  const Round round = *arrive(true);
  for (std::uint32_t word = word_.load(std::memory_order_acquire); word / kOneRound == round;
       word = word_.load(std::memory_order_acquire))
    futex_wait(word_, word, nullptr);
}

void Barrier::abort() {
  word_.fetch_or(kAborted, std::memory_order_acq_rel);
  futex_wake_all(word_);
}

}  // namespace lockstep
