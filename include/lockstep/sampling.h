// How the next token is chosen, and when a text ends.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace lockstep {

// Names, defaults and meaning are those of vLLM's SamplingParams. Order of work on the logits:
// penalties and bias, temperature, min_p, top_k, top_p.
struct SamplingParams {
  float temperature = 1.0f;  // 0: greedy; at least 0
  float top_p = 1.0f;        // keep the most probable tokens that add up to this; (0, 1]
  int top_k = 0;             // keep this many tokens; 0 or -1: all
  float min_p = 0.0f;        // keep tokens at least this times as probable as the best; [0, 1]
  float repetition_penalty = 1.0f;    // divides the logits of tokens that occurred; [0.01, 100]
  float presence_penalty = 0.0f;      // taken once from tokens that were generated; [-2, 2]
  float frequency_penalty = 0.0f;     // taken for each time a token was generated; [-2, 2]
  std::optional<std::uint64_t> seed;  // the same seed gives the same text on any number of ranks
  std::vector<std::string> stop;      // ends the text before the first of these
  std::vector<std::int32_t> stop_token_ids;  // end the text as end-of-sequence does
  int max_tokens = 16;                       // at most this many new tokens; at least 1
  bool ignore_eos = false;                   // go on after end-of-sequence
  bool include_stop_str_in_output = false;
  bool skip_special_tokens = true;  // leave special tokens out of the text
  // Log-probabilities of each chosen token and of this many of the most probable ones (at most 20),
  // before penalties and temperature. Unset: none.
  std::optional<int> logprobs;
  std::map<std::int32_t, float> logit_bias;  // added to the logits of these tokens
};

// Throws Error naming the field, its value and what is allowed.
void validate(const SamplingParams& params);

}  // namespace lockstep
