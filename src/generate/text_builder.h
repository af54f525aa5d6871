// TextBuilder: the text of one completion as it grows, with stop strings.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lockstep/sampling.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace lockstep {

// Withholds what may turn out to be the beginning of a stop string.
class TextBuilder {
 public:
  // tokenizer may be null: then there is no text. Keeps references to both.
  TextBuilder(const Tokenizer* tokenizer, const SamplingParams& params);

  // Text that became certain with this token; empty after a stop string. An id that the tokenizer
  // does not know has no text.
  std::string push(std::int32_t id);
  // What was withheld; the text is complete.
  std::string finish();
  // The stop string that ended the text; null: none so far.
  const std::string* stopped_by() const { return stopped_by_; }

 private:
  std::string release(bool everything);

  std::unique_ptr<Detokenizer> detokenizer_;
  std::int32_t vocab_size_ = 0;  // of the tokenizer
  const SamplingParams& params_;
  std::string withheld_;
  const std::string* stopped_by_ = nullptr;
};

}  // namespace lockstep
