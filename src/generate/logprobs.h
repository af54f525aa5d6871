// Log-probabilities from a row of logits.
#pragma once

#include <span>

#include "lockstep/generator.h"
#include "text/tokenizer.h"

namespace lockstep {

// Sets token.logprob and the `count` most probable tokens (ties: smaller id first) from logits
// [vocab_size]. Spellings are empty where tokenizer is null or does not know
// the id.
void add_logprobs(Token& token, std::span<const float> logits, int count,
                  const Tokenizer* tokenizer);

}  // namespace lockstep
