// The one implementation of Tokenizer: added tokens, normaliser, encoder and decoder in a row. The
// loaders (tokenizer_json.h, sentencepiece_model.h, gguf_vocabulary.h) fill in the parts.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/segment_encoder.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace lockstep {

struct TokenizerParts {
  std::shared_ptr<Vocabulary> vocabulary;
  std::vector<AddedToken> added_tokens;
  Normalizer normalizer;
  std::unique_ptr<const SegmentEncoder> encoder;
  Decoder decoder;
  std::vector<std::int32_t> prefix;  // what add_special_tokens puts before and behind the text
  std::vector<std::int32_t> suffix;
  std::int32_t bos_id = -1;
  std::vector<std::int32_t> eos_ids;
  ChatTemplates chat_templates;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens,
                                   bool parse_special) const override;
  std::vector<std::int32_t> encode(const MarkedText& text, bool add_special_tokens) const override;
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const override;
  const Decoder& decoder() const override { return parts_.decoder; }
  std::int32_t vocab_size() const override { return parts_.vocabulary->size(); }
  std::string token(std::int32_t id) const override { return parts_.vocabulary->token(id); }
  std::int32_t id_of(std::string_view token) const override {
    return parts_.vocabulary->find(token);
  }
  bool is_special(std::int32_t id) const override { return parts_.vocabulary->is_special(id); }
  std::int32_t bos_id() const override { return parts_.bos_id; }
  std::vector<std::int32_t> eos_ids() const override { return parts_.eos_ids; }
  const ChatTemplates& chat_templates() const override { return parts_.chat_templates; }

 private:
  std::vector<std::int32_t> encode(const MarkedText& text, bool add_special_tokens,
                                   bool parse_special) const;

  TokenizerParts parts_;
  AddedTokenMatcher raw_matcher_;         // looks into the text as it comes
  AddedTokenMatcher normalized_matcher_;  // looks into normalised text
};

}  // namespace lockstep
