// TokenStream::Request: one completion, between the caller that waits for it and the generator's
// thread.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "generate/text_builder.h"
#include "lockstep/generator.h"

namespace lockstep {

struct LOCKSTEP_LOCAL TokenStream::Request {
  using Clock = std::chrono::steady_clock;

  // Set before submission, not changed afterwards.
  std::vector<std::int32_t> prompt;
  SamplingParams params;
  std::vector<std::int32_t> stop_ids;  // end the completion
  std::int64_t max_length = 0;         // tokens, prompt and output

  std::atomic<bool> cancelled = false;

  // The generator's thread alone.
  std::int32_t slot = -1;
  std::unique_ptr<TextBuilder> text;
  Clock::time_point submitted, admitted, first_token;

  // Shared.
  std::mutex mutex;
  std::condition_variable changed;
  std::size_t delivered = 0;  // of completion.tokens
  Completion completion;
  bool done = false;
  std::optional<std::string> error;  // what made it fail; thrown to whoever waits, each its own

  // Sets `cancelled` when the caller's stop token says so.
  std::optional<std::stop_callback<std::function<void()>>> on_stop;
};

}  // namespace lockstep
