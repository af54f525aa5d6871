// Streaming detokenisation: text as early as it is certain.
#pragma once

#include <cstdint>
#include <string>

#include "text/decoder.h"
#include "text/tokenizer.h"

namespace lockstep {

// push() returns the text that became certain with this token: never half a UTF-8 character, and
// all that push() and finish() returned joins to exactly tokenizer.decode(all ids). O(1) amortised
// per token. Byte tokens ("<0x0A>") are certain only when a run of them ends: whether the run is
// text at all depends on its last byte. Belongs to one thread; the tokenizer must outlive it.
class Detokenizer {
 public:
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens = true);

  // Throws Error for an id outside of the vocabulary.
  std::string push(std::int32_t id);
  // What was held back. The next push() begins a new text.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_tokens_;
  DecoderState state_;
};

}  // namespace lockstep
