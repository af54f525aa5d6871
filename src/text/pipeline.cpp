#include "text/pipeline.h"

#include "core/check.h"
#include "text/detokenizer.h"
#include "text/utf8.h"

namespace lockstep {

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  // Where two patterns are the same, special tokens win, as in Hugging Face.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.special != special) continue;
      if (token.normalized) {
        normalized_matcher_.add(token,
                                parts_.normalizer.apply(MarkedText(token.content, true)).bytes());
      } else {
        raw_matcher_.add(token, token.content);
      }
    }
  }
}

std::vector<std::int32_t> PipelineTokenizer::encode(std::string_view text, bool add_special_tokens,
                                                    bool parse_special) const {
  if (is_valid_utf8(text)) return encode(MarkedText(text, true), add_special_tokens, parse_special);
  return encode(MarkedText(repair_utf8(text), true), add_special_tokens, parse_special);
}

std::vector<std::int32_t> PipelineTokenizer::encode(const MarkedText& text,
                                                    bool add_special_tokens) const {
  check(is_valid_utf8(text.bytes()), "a text to encode is not UTF-8");
  return encode(text, add_special_tokens, true);
}

std::vector<std::int32_t> PipelineTokenizer::encode(const MarkedText& text, bool add_special_tokens,
                                                    bool parse_special) const {
  std::vector<std::int32_t> ids;
  if (add_special_tokens) ids = parts_.prefix;
  for (const auto& raw : raw_matcher_.split(text, parse_special)) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    MarkedText piece = text.slice(raw.begin, raw.end);
    if (!parts_.normalizer.is_identity()) piece = parts_.normalizer.apply(piece);
    const std::string_view bytes = piece.bytes();
    for (const auto& segment : normalized_matcher_.split(piece, parse_special)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        parts_.encoder->encode(bytes.substr(segment.begin, segment.end - segment.begin),
                               raw.begin == 0 && segment.begin == 0, ids);
      }
    }
  }
  if (add_special_tokens) ids.insert(ids.end(), parts_.suffix.begin(), parts_.suffix.end());
  return ids;
}

std::string PipelineTokenizer::decode(std::span<const std::int32_t> ids,
                                      bool skip_special_tokens) const {
  Detokenizer detokenizer(*this, skip_special_tokens);
  std::string text;
  for (const std::int32_t id : ids) text += detokenizer.push(id);
  text += detokenizer.finish();
  return text;
}

}  // namespace lockstep
