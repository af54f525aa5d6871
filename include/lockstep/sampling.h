/// @file
/// How the next token is chosen, and when a text ends.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lockstep/export.h"

namespace lockstep {

/// Names, defaults and meaning are those of vLLM's SamplingParams. Order of work on the logits:
/// penalties and bias, temperature, min_p, top_k, top_p.
struct SamplingParams {
  /// Divides the logits; [0, 100]. 0 is greedy: always the most probable token.
  float temperature = 1.0f;
  /// Keep the most probable tokens that add up to this probability; (0, 1].
  float top_p = 1.0f;
  /// Keep this many tokens; 0 or -1: all.
  int top_k = 0;
  /// Keep tokens that are at least this times as probable as the best; [0, 1].
  float min_p = 0.0f;
  /// Divides the logits of tokens that occurred in prompt or output (multiplies negative ones);
  /// [0.01, 100].
  float repetition_penalty = 1.0f;
  /// Taken once from the logits of tokens that were generated; [-2, 2].
  float presence_penalty = 0.0f;
  /// Taken for each time that a token was generated; [-2, 2].
  float frequency_penalty = 0.0f;
  /// The same seed gives the same text on any number of ranks. Unset: a new one each time.
  std::optional<std::uint64_t> seed;
  /// Strings that end the text before the first of them.
  std::vector<std::string> stop;
  /// Tokens that end the text as end-of-sequence does.
  std::vector<std::int32_t> stop_token_ids;
  /// At most this many new tokens; at least 1.
  int max_tokens = 16;
  /// Go on after end-of-sequence.
  bool ignore_eos = false;
  /// Keep the stop string at the end of the text.
  bool include_stop_str_in_output = false;
  /// Leave special tokens out of the text.
  bool skip_special_tokens = true;
  /// Log-probabilities of each chosen token and of this many of the most probable ones (at most
  /// 20), before penalties and temperature. Unset: none.
  std::optional<int> logprobs;
  /// Added to the logits of these tokens.
  std::map<std::int32_t, float> logit_bias;
};

/// Throws Error naming the field, its value and what is allowed, for the first field that is out of
/// range.
LOCKSTEP_API void validate(const SamplingParams& params);

}  // namespace lockstep
