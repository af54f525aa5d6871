// The JSON files beside a tokenizer: tokenizer_config.json, special_tokens_map.json,
// generation_config.json, config.json, and the chat template.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/pipeline.h"

namespace lockstep {

// What the files say; a field is empty where they say nothing.
struct TokenizerConfig {
  std::string source;  // tokenizer_config.json, for errors
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> legacy;
  std::string bos_token;
  std::string eos_token;
  std::vector<std::string> special_tokens;  // all that are named: bos, eos, unk, pad, additional
  std::vector<AddedToken> added_tokens;     // added_tokens_decoder
  std::vector<std::int32_t> eos_ids;        // of generation_config.json, or else config.json
  ChatTemplates chat_templates;
};

// Reads what there is. Throws Error naming the file for one that is malformed.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& directory);

// Overlays `parts`, read from a tokenizer file, with `config`: added and special tokens, bos, eos
// and what encode() puts around the text, and the chat template.
void apply_tokenizer_config(const TokenizerConfig& config, TokenizerParts& parts);

// One entry of tokenizer.json's added_tokens or of added_tokens_decoder.
AddedToken added_token_from_json(const nlohmann::json& json, std::int32_t id,
                                 const std::string& source);

}  // namespace lockstep
