#include "text/pipeline.h"

#include "text/detokenizer.h"
#include "text/utf8.h"

namespace lockstep {

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  // Where two patterns are the same, special tokens win, as in Hugging Face.
  for (const bool special : {true, false}) {
    for (const AddedToken& token : parts_.added_tokens) {
      if (token.special != special) continue;
      if (token.normalized) {
        normalized_matcher_.add(token, parts_.normalizer.apply(token.content));
      } else {
        raw_matcher_.add(token, token.content);
      }
    }
  }
}

std::vector<std::int32_t> PipelineTokenizer::encode(std::string_view text, bool add_special_tokens,
                                                    bool parse_special) const {
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = repair_utf8(text);
    text = repaired;
  }
  std::vector<std::int32_t> ids;
  if (add_special_tokens) ids = parts_.prefix;
  for (const auto& raw : raw_matcher_.split(text, parse_special)) {
    if (raw.id >= 0) {
      ids.push_back(raw.id);
      continue;
    }
    std::string_view piece = text.substr(raw.begin, raw.end - raw.begin);
    std::string normalized;
    if (!parts_.normalizer.is_identity()) {
      normalized = parts_.normalizer.apply(piece);
      piece = normalized;
    }
    for (const auto& segment : normalized_matcher_.split(piece, parse_special)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        parts_.encoder->encode(piece.substr(segment.begin, segment.end - segment.begin),
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
