/// @file
/// Generator: prompts in, text out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lockstep/export.h"
#include "lockstep/model.h"
#include "lockstep/sampling.h"

namespace lockstep {

/// Sizes of a Generator, fixed when it is made: they decide how much memory the KV cache takes.
struct GeneratorOptions {
  /// Sequences that run at the same time, from 1 to 4096; others wait.
  int max_batch_size = 8;
  /// Tokens of one sequence, prompt and output; 0: the model's, at most 8192.
  std::int64_t max_length = 0;
  /// Tokens of a prompt that one step works on, from 1 to 65536.
  int prefill_chunk = 512;
  /// 1: the next step starts before this one's tokens are known to the host, whose work is then
  /// hidden behind the device's; a sequence that turns out to have ended costs one row for nothing.
  /// 0: one after the other. Unset: 1 on GPUs, 0 on the CPU.
  std::optional<int> steps_ahead = std::nullopt;
};

/// A text, or token ids as they are (for models without a tokenizer). Made implicitly from either.
struct Prompt {
  /// A text, which the model's tokenizer encodes.
  Prompt(std::string text) : text(std::move(text)) {}  // NOLINT: implicit on purpose
  /// The same.
  Prompt(const char* text) : text(text) {}  // NOLINT
  /// Token ids: nothing is added, not even a beginning-of-sequence token.
  Prompt(std::vector<std::int32_t> ids) : ids(std::move(ids)) {}  // NOLINT

  std::string text;                              ///< UTF-8.
  std::optional<std::vector<std::int32_t>> ids;  ///< Used instead of text when set.
};

/// One of the most probable tokens at a position.
struct TokenLogprob {
  std::int32_t id = 0;   ///< The token.
  std::string token;     ///< As the vocabulary spells it; empty without a tokenizer.
  float logprob = 0.0f;  ///< Natural logarithm of its probability.
};

/// One generated token.
struct Token {
  std::int32_t id = 0;  ///< The token.
  /// The text that became certain with this token; may be empty, may hold what earlier tokens
  /// withheld. UTF-8, never half a character.
  std::string text;
  /// Natural logarithm of its probability, when SamplingParams::logprobs is set.
  std::optional<float> logprob;
  /// The most probable tokens at this position, the most probable first.
  std::vector<TokenLogprob> top_logprobs;
};

/// Why a completion ended.
enum class FinishReason : std::uint8_t {
  kStop,       ///< An end-of-sequence token, a stop token or a stop string.
  kLength,     ///< SamplingParams::max_tokens or GeneratorOptions::max_length.
  kCancelled,  ///< The caller's wish, or the end of the Generator.
};
/// "stop", "length" or "cancelled". Throws Error for a value that is no FinishReason.
LOCKSTEP_API std::string_view name_of(FinishReason reason);

/// Where a completion's time went.
struct Timings {
  double queue_seconds = 0;    ///< From submission to admission into the batch.
  double prefill_seconds = 0;  ///< From admission to the first token.
  double decode_seconds = 0;   ///< From the first token to the last.
};

/// A whole answer.
struct Completion {
  std::string text;           ///< What the tokens' texts add up to.
  std::vector<Token> tokens;  ///< With the end-of-sequence token, if that ended the text.
  FinishReason finish_reason = FinishReason::kStop;  ///< Why it ended.
  std::string stop_string;         ///< The stop string that ended the text, if one did.
  std::int64_t prompt_tokens = 0;  ///< Number of tokens of the prompt.
  Timings timings;                 ///< Where the time went.
};

/// A completion that is being made: a range of its tokens, each as soon as there is one. Destroying
/// it cancels what is still to be made. Used from one thread at a time, except that any thread may
/// call cancel().
class LOCKSTEP_API TokenStream {
 public:
  /// What the caller shares with the generator's thread. For code within Lockstep.
  struct Request;
  /// For code within Lockstep: programs call Generator::stream().
  explicit TokenStream(std::shared_ptr<Request> request);
  /// Cancels what is still to be made; does not wait.
  ~TokenStream();
  /// What was moved from can only be destroyed or assigned to.
  TokenStream(TokenStream&&) noexcept = default;
  /// Cancels what this stream was still making.
  TokenStream& operator=(TokenStream&&) noexcept;

  /// An input iterator: one pass over the tokens. Reaching the next token blocks, and throws what
  /// made the generation fail.
  class LOCKSTEP_API Iterator {
   public:
    using iterator_category = std::input_iterator_tag;  ///< One pass.
    using value_type = Token;                           ///< What it points to.
    using difference_type = std::ptrdiff_t;             ///< Required of iterators.
    using pointer = const Token*;                       ///< What operator-> returns.
    using reference = const Token&;                     ///< What operator* returns.

    Iterator() = default;
    /// Waits for the first token.
    explicit Iterator(TokenStream* stream) : stream_(stream) { ++*this; }
    /// The token; valid until the iterator moves on.
    reference operator*() const { return *token_; }
    /// The token; valid until the iterator moves on.
    pointer operator->() const { return &*token_; }
    /// Waits for the next token.
    Iterator& operator++();
    /// Waits for the next token.
    void operator++(int) { ++*this; }
    /// Whether both are at the end, or on the same stream.
    friend bool operator==(const Iterator& a, const Iterator& b) { return a.stream_ == b.stream_; }

   private:
    TokenStream* stream_ = nullptr;  // null at the end
    std::optional<Token> token_;
  };

  /// Waits for the first token that has not been taken yet.
  Iterator begin() { return Iterator(this); }
  /// The end of every stream.
  Iterator end() { return Iterator(); }

  /// The next token; empty at the end. Blocks. Throws what made the generation fail.
  std::optional<Token> next();
  /// Ends the generation soon; next() then returns what there is, then empty. From any thread.
  void cancel();
  /// Waits for the end and returns the whole completion, which lives as long as the stream. Throws
  /// what made the generation fail.
  const Completion& completion();

 private:
  std::shared_ptr<Request> request_;
};

/// Runs completions of one model, several at a time (continuous batching). Thread-safe: callers
/// share the batch. A sequence's tokens do not depend on what else is in it.
class LOCKSTEP_API Generator {
 public:
  /// Sets aside the KV cache on every rank. Throws Error for options out of range and when the
  /// devices have too little memory.
  explicit Generator(const Model& model, const GeneratorOptions& options = {});
  /// Cancels what is running and waits for the step that is on its way.
  ~Generator();
  /// What was moved from can only be destroyed or assigned to; streams go on.
  Generator(Generator&&) noexcept;
  /// As destroying this one and moving the other.
  Generator& operator=(Generator&&) noexcept;

  /// The completion of one prompt; blocks until it is whole. Without params:
  /// Model::default_sampling(). Throws Error for a prompt that is empty or does not fit, for bad
  /// params, and when a rank fails. `stop` cancels: the completion ends with
  /// FinishReason::kCancelled.
  Completion generate(const Prompt& prompt, const std::optional<SamplingParams>& params = {},
                      std::stop_token stop = {});
  /// One completion a prompt, in the order of the prompts; they run together. Throws as above.
  std::vector<Completion> generate(const std::vector<Prompt>& prompts,
                                   const std::optional<SamplingParams>& params = {},
                                   std::stop_token stop = {});
  /// The completion of one prompt, with a call of `on_token` for each token as soon as there is
  /// one, on the calling thread. What it throws cancels the completion and reaches the caller.
  /// Throws as above.
  Completion generate(const Prompt& prompt, const std::optional<SamplingParams>& params,
                      const std::function<void(const Token&)>& on_token, std::stop_token stop = {});
  /// Starts the completion of one prompt and returns at once. Throws Error for a prompt that is
  /// empty or does not fit, and for bad params; a rank that fails throws from the stream. `stop`
  /// cancels, as TokenStream::cancel() does.
  TokenStream stream(const Prompt& prompt, const std::optional<SamplingParams>& params = {},
                     std::stop_token stop = {});

  /// The model's answer to a conversation, which Model::render_chat() turns into a prompt; blocks
  /// until it is whole. Without params: Model::default_sampling(), but for max_tokens, which then
  /// reaches to the end of max_length. Throws as generate() and Model::render_chat() do.
  Completion chat(const std::vector<ChatMessage>& messages,
                  const std::optional<SamplingParams>& params = {}, const ChatOptions& options = {},
                  std::stop_token stop = {});
  /// Starts the answer to a conversation and returns at once. As chat() and stream().
  TokenStream stream_chat(const std::vector<ChatMessage>& messages,
                          const std::optional<SamplingParams>& params = {},
                          const ChatOptions& options = {}, std::stop_token stop = {});

  /// As given, with max_length filled in.
  const GeneratorOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lockstep
