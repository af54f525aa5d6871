#include "cli/interrupt.h"

#include <csignal>
#include <mutex>
#include <optional>
#include <thread>

#include <unistd.h>

namespace lockstep::cli {
namespace {

std::mutex mutex;
std::optional<std::stop_source> current;  // of the living Scope; guarded by mutex

void wait_for_signals(const sigset_t& signals) {
  for (int signal = 0; sigwait(&signals, &signal) == 0;) {
    std::optional<std::stop_source> source;
    {
      const std::lock_guard lock(mutex);
      source = current;
    }
    if (!source || !source->request_stop()) _exit(128 + signal);
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
