// Progress of a download, on a terminal.
#pragma once

#include <chrono>
#include <set>
#include <string>

#include "lockstep/hub.h"

namespace lockstep::cli {

// Shows on stderr what is fetched: a line for each file that is complete, and under them a bar for
// all. Silent in a pipe. Must outlive the pull.
class PullBar {
 public:
  // Sets options.progress.
  explicit PullBar(PullOptions& options);
  ~PullBar();
  PullBar(const PullBar&) = delete;
  PullBar& operator=(const PullBar&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  void show(const PullProgress& progress);

  std::set<std::string> running_;  // files that were seen half-way
  bool drawn_ = false;
  std::uint64_t start_done_ = 0;
  Clock::time_point start_, shown_;
};

}  // namespace lockstep::cli
