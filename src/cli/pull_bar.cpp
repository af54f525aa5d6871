#include "cli/pull_bar.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/options.h"
#include "cli/output.h"

namespace lockstep::cli {
namespace {

std::string bar(const PullProgress& progress, double seconds, double fetched) {
  constexpr std::uint64_t kWidth = 24;
  const double part = progress.total == 0 ? 1.0
                                          : static_cast<double>(progress.done) /
                                                static_cast<double>(progress.total);
  const auto filled = static_cast<std::uint64_t>(part * kWidth);
  std::string line = fmt::format("[{:#<{}}{:-<{}}] {:3.0f}% of {}", "", filled, "", kWidth - filled,
                                 100 * part, format_bytes(static_cast<double>(progress.total)));
  if (seconds < 1 || fetched <= 0) return line;
  const double speed = fetched / seconds;
  const auto left =
      static_cast<std::uint64_t>(static_cast<double>(progress.total - progress.done) / speed);
  return line + fmt::format(", {}/s, {}:{:02} left", format_bytes(speed), left / 60, left % 60);
}

}  // namespace

PullBar::PullBar(PullOptions& options) : start_(Clock::now()) {
  if (isatty(STDERR_FILENO))
    options.progress = [this](const PullProgress& progress) { show(progress); };
}

PullBar::~PullBar() {
  if (drawn_) write_err("\r\x1b[K");
}

void PullBar::show(const PullProgress& progress) {
  constexpr std::chrono::milliseconds kPause{100};
  const Clock::time_point now = Clock::now();
  const bool complete = progress.file_done == progress.file_size;
  std::string text;
  if (!complete) {
    running_.insert(progress.file);
  } else if (running_.erase(progress.file) > 0) {
    text = fmt::format("\r\x1b[K{}  {}\n", progress.file,
                       format_bytes(static_cast<double>(progress.file_size)));
  }
  if (!drawn_) {
    start_ = now;
    start_done_ = progress.done;
  }
  if (text.empty() && drawn_ && now - shown_ < kPause) return;
  shown_ = now;
  drawn_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double fetched = static_cast<double>(progress.done) - static_cast<double>(start_done_);
  write_err(text + "\r\x1b[K" + bar(progress, seconds, fetched));
}

}  // namespace lockstep::cli
