#include "cli/interrupt.h"

#include <csignal>
#include <ctime>
#include <mutex>
#include <optional>
#include <thread>

#include <unistd.h>

namespace lockstep::cli {
namespace {

std::mutex mutex;
std::optional<std::stop_source> current;  // of the living Scope; guarded by mutex

std::optional<std::stop_source> current_source() {
  const std::lock_guard lock(mutex);
  return current;
}

void wait_for_signals(const sigset_t& signals) {
  constexpr timespec kPatience{1, 500000000};
  for (int signal = 0; sigwait(&signals, &signal) == 0;) {
    do {
      const std::optional<std::stop_source> source = current_source();
      if (!source || !source->request_stop()) _exit(128 + signal);
      const int next = sigtimedwait(&signals, nullptr, &kPatience);
      if (current_source() == source) _exit(128 + signal);
      signal = next;  // another one so soon was meant for what is alive now
    } while (signal > 0);
  }
}

}  // namespace

void Interrupt::install() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] { wait_for_signals(signals); }).detach();
}

Interrupt::Scope::Scope() {
  const std::lock_guard lock(mutex);
  current = source_;
}

Interrupt::Scope::~Scope() {
  const std::lock_guard lock(mutex);
  current.reset();
}

}  // namespace lockstep::cli
