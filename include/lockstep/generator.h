// Generator: prompts in, text out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lockstep/model.h"
#include "lockstep/sampling.h"

namespace lockstep {

struct GeneratorOptions {
  int max_batch_size = 8;  // sequences that run at the same time; others wait
  std::int64_t max_length =
      0;  // tokens of one sequence, prompt and output; 0: the model's, at most 8192
  int prefill_chunk = 512;  // tokens of a prompt that one step works on
  // 1: the next step starts before this one's tokens are known to the host, whose work is then
  // hidden behind the device's; a sequence that turns out to have ended costs one row for nothing.
  // 0: one after the other. Unset: 1 on GPUs, 0 on the CPU.
  std::optional<int> steps_ahead = std::nullopt;
};

// A text, or token ids as they are (for models without a tokenizer).
struct Prompt {
  Prompt(std::string text) : text(std::move(text)) {}             // NOLINT: implicit on purpose
  Prompt(const char* text) : text(text) {}                        // NOLINT
  Prompt(std::vector<std::int32_t> ids) : ids(std::move(ids)) {}  // NOLINT

  std::string text;
  std::optional<std::vector<std::int32_t>> ids;  // used instead of text when set
};

struct TokenLogprob {
  std::int32_t id = 0;
  std::string token;     // as the vocabulary spells it
  float logprob = 0.0f;  // natural logarithm
};

struct Token {
  std::int32_t id = 0;
  // The text that became certain with this token; may be empty, may hold what earlier tokens
  // withheld.
  std::string text;
  std::optional<float> logprob;            // when SamplingParams::logprobs is set
  std::vector<TokenLogprob> top_logprobs;  // the most probable first
};

enum class FinishReason : std::uint8_t { kStop, kLength, kCancelled };
// "stop", "length", "cancelled".
std::string_view name_of(FinishReason reason);

struct Timings {
  double queue_seconds = 0;    // from submission to admission
  double prefill_seconds = 0;  // from admission to the first token
  double decode_seconds = 0;   // from the first token to the last
};

struct Completion {
  std::string text;
  std::vector<Token> tokens;  // with the end-of-sequence token, if that ended the text
  FinishReason finish_reason = FinishReason::kStop;
  std::string stop_string;  // the stop string that ended the text, if one did
  std::int64_t prompt_tokens = 0;
  Timings timings;
};

// A completion that is being made: a range of its tokens, each as soon as there is one. Destroying
// it cancels what is still to be made. Used from one thread at a time.
class TokenStream {
 public:
  struct Request;
  explicit TokenStream(std::shared_ptr<Request> request);
  ~TokenStream();
  TokenStream(TokenStream&&) noexcept = default;
  TokenStream& operator=(TokenStream&&) noexcept;

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Token;
    using difference_type = std::ptrdiff_t;
    using pointer = const Token*;
    using reference = const Token&;

    Iterator() = default;
    explicit Iterator(TokenStream* stream) : stream_(stream) { ++*this; }
    reference operator*() const { return *token_; }
    pointer operator->() const { return &*token_; }
    Iterator& operator++();
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.stream_ == b.stream_; }

   private:
    TokenStream* stream_ = nullptr;  // null at the end
    std::optional<Token> token_;
  };

  Iterator begin() { return Iterator(this); }
  Iterator end() { return Iterator(); }

  // The next token; empty at the end. Blocks. Throws what made the generation fail.
  std::optional<Token> next();
  // Ends the generation soon; next() then returns what there is, then empty.
  void cancel();
  // Waits for the end and returns the whole completion. Throws what made the generation fail.
  const Completion& completion();

 private:
  std::shared_ptr<Request> request_;
};

// Runs completions of one model, several at a time (continuous batching). Thread-safe: callers
// share the batch. A sequence's tokens do not depend on what else is in it.
class Generator {
 public:
  explicit Generator(const Model& model, const GeneratorOptions& options = {});
  ~Generator();  // cancels what is running
  Generator(Generator&&) noexcept;
  Generator& operator=(Generator&&) noexcept;

  // Without params: model.default_sampling(). Throws Error for a prompt that is empty or does not
  // fit, for bad params, and when a rank fails. `stop` cancels: the completion ends with
  // FinishReason::kCancelled.
  Completion generate(const Prompt& prompt, const std::optional<SamplingParams>& params = {},
                      std::stop_token stop = {});
  // One completion a prompt, in the order of the prompts.
  std::vector<Completion> generate(const std::vector<Prompt>& prompts,
                                   const std::optional<SamplingParams>& params = {},
                                   std::stop_token stop = {});
  TokenStream stream(const Prompt& prompt, const std::optional<SamplingParams>& params = {});

  const GeneratorOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
