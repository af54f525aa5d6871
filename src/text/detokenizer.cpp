#include "text/detokenizer.h"

namespace lockstep {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens)
    : tokenizer_(tokenizer),
      skip_special_tokens_(skip_special_tokens),
      state_(tokenizer.decoder().start()) {}

std::string Detokenizer::push(std::int32_t id) {
  std::string out;
  const std::string token = tokenizer_.token(id);
  if (token.empty() || (skip_special_tokens_ && tokenizer_.is_special(id))) return out;
  tokenizer_.decoder().push(state_, token, out);
  return out;
}

std::string Detokenizer::finish() {
  std::string out;
  tokenizer_.decoder().finish(state_, out);
  return out;
}

}  // namespace lockstep
