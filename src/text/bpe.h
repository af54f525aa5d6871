// Byte-pair encoding with a list of merges: the BPE model of tokenizer.json, and GGUF's `gpt2`
// kind.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <unordered_map>

#include "text/merge.h"
#include "text/pre_tokenizer.h"
#include "text/segment_encoder.h"
#include "text/vocabulary.h"

namespace lockstep {

// The fields are those of tokenizer.json's `model`.
struct BpeOptions {
  std::string unk_token = {};  // empty: none
  std::string continuing_subword_prefix = {};
  std::string end_of_word_suffix = {};
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

class BpeEncoder final : public SegmentEncoder {
 public:
  BpeEncoder(std::shared_ptr<const Vocabulary> vocabulary, PreTokenizer pre_tokenizer,
             BpeOptions options);

  // Adds the next merge, of lower priority than those before. Throws Error when a part or the
  // result is no token.
  void add_merge(std::string_view left, std::string_view right);
  // The same from "left right".
  void add_merge(std::string_view pair);

  void encode(std::string_view text, bool at_start, std::vector<std::int32_t>& ids) const override;

 private:
  std::vector<Symbol> symbols_of(std::string_view word) const;
  bool append_bytes(std::string_view character, std::uint32_t begin,
                    std::vector<Symbol>& symbols) const;

  std::shared_ptr<const Vocabulary> vocabulary_;
  PreTokenizer pre_tokenizer_;
  BpeOptions options_;
  std::int32_t unk_id_ = -1;
  std::array<std::int32_t, 256> byte_ids_{};         // of "<0x00>" ... "<0xFF>"; -1: none
  std::unordered_map<std::uint64_t, Merge> merges_;  // by (left id << 32 | right id)
  std::int32_t num_merges_ = 0;
};

// Ids of the byte tokens "<0x00>" ... "<0xFF>"; -1 where there is none.
std::array<std::int32_t, 256> find_byte_tokens(const Vocabulary& vocabulary);

}  // namespace lockstep
