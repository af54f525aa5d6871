// Text to token ids and back.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/marked_text.h"

namespace lockstep {

class Decoder;

// Jinja sources; empty: none.
struct ChatTemplates {
  std::string standard;
  std::string tool_use;  // used instead when there are tools
};

// Immutable and thread-safe.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text` (UTF-8; invalid bytes are replaced by U+FFFD as Hugging Face does), with the
  // model's beginning/end tokens when `add_special_tokens`. Special tokens that stand in the text
  // are recognised only when `parse_special`; otherwise they are ordinary text. Throws Error when a
  // regular expression of the tokenizer exceeds its limits on this text.
  virtual std::vector<std::int32_t> encode(std::string_view text, bool add_special_tokens = true,
                                           bool parse_special = true) const = 0;

  // The same for text of which not every byte may be part of a control token: where a byte is not
  // trusted no added token is found, and it is encoded as the plain text that it is. Otherwise the
  // ids are those of the whole text. The text has to be valid UTF-8.
  virtual std::vector<std::int32_t> encode(const MarkedText& text,
                                           bool add_special_tokens) const = 0;

  // The text of `ids`, as Hugging Face's decode(clean_up_tokenization_spaces=False) gives it. Ids
  // outside of [0, vocab_size()) throw Error; ids within it that no token has are skipped.
  virtual std::string decode(std::span<const std::int32_t> ids,
                             bool skip_special_tokens = true) const = 0;
  // What turns tokens into text; Detokenizer streams through it.
  virtual const Decoder& decoder() const = 0;

  virtual std::int32_t vocab_size() const = 0;  // largest id + 1
  // The token as the vocabulary spells it: "Ġthe", "▁the", "<0x0A>", "<|im_end|>". Empty for an id
  // within the vocabulary that no token has; throws Error for one outside.
  virtual std::string token(std::int32_t id) const = 0;
  // -1 when there is no such token.
  virtual std::int32_t id_of(std::string_view token) const = 0;
  virtual bool is_special(std::int32_t id) const = 0;

  virtual std::int32_t bos_id() const = 0;                // -1: none
  virtual std::vector<std::int32_t> eos_ids() const = 0;  // may be empty; no duplicates
  virtual const ChatTemplates& chat_templates() const = 0;
};

// From a .gguf file's metadata, or from a directory with tokenizer.json (preferred) or
// tokenizer.model, and tokenizer_config.json, special_tokens_map.json, generation_config.json,
// chat_template.json, chat_template.jinja and additional_chat_templates/ where they are. Null when
// the directory has no tokenizer. Throws Error naming the file for one that is malformed or of an
// unsupported kind.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

}  // namespace lockstep
