#include "text/tokenizer_config.h"

#include <algorithm>
#include <charconv>

#include "checkpoint/json.h"
#include "text/json_fields.h"
#include "text/read_file.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMaxTemplateBytes = 4 << 20;

// A named token is a string, or an object with its `content`. Empty when the field is absent.
std::string named_token(const nlohmann::json& json, const char* name, const std::string& source) {
  const nlohmann::json* field = find_field(json, name);
  if (field == nullptr) return {};
  if (field->is_object()) return require_string(*field, "content", source);
  // transformers writes false for "none" at times.
  if (field->is_boolean()) return {};
  return as_string(*field, name, source);
}

void add_unique(std::vector<std::string>& list, const std::string& value) {
  if (!value.empty() && std::find(list.begin(), list.end(), value) == list.end())
    list.push_back(value);
}

// The lists, and in transformers 5 objects, of further special tokens.
void read_special_list(const nlohmann::json& json, const char* name, const std::string& source,
                       std::vector<std::string>& out) {
  const nlohmann::json* field = find_field(json, name);
  if (field == nullptr) return;
  check(field->is_array() || field->is_object(), "{}: '{}' is a {}, not a list", source, name,
        field->type_name());
  for (const nlohmann::json& token : *field) {
    if (token.is_object()) {
      add_unique(out, require_string(token, "content", source));
    } else {
      add_unique(out, as_string(token, name, source));
    }
  }
}

void read_named_tokens(const nlohmann::json& json, const std::string& source,
                       TokenizerConfig& config) {
  if (config.bos_token.empty()) config.bos_token = named_token(json, "bos_token", source);
  if (config.eos_token.empty()) config.eos_token = named_token(json, "eos_token", source);
  for (const char* name :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    add_unique(config.special_tokens, named_token(json, name, source));
  read_special_list(json, "additional_special_tokens", source, config.special_tokens);
  read_special_list(json, "extra_special_tokens", source, config.special_tokens);
}

// A string, or a list of named templates.
void read_chat_templates(const nlohmann::json& json, const std::string& source,
                         ChatTemplates& templates) {
  const nlohmann::json* field = find_field(json, "chat_template");
  if (field == nullptr) return;
  if (!field->is_array()) {
    templates.standard = as_string(*field, "chat_template", source);
    return;
  }
  for (const nlohmann::json& entry : *field) {
    const std::string& name = require_string(entry, "name", source);
    if (name == "default") templates.standard = require_string(entry, "template", source);
    if (name == "tool_use") templates.tool_use = require_string(entry, "template", source);
  }
}

void read_added_tokens(const nlohmann::json& json, const std::string& source,
                       std::vector<AddedToken>& out) {
  const nlohmann::json* decoder = find_field(json, "added_tokens_decoder");
  if (decoder == nullptr) return;
  check(decoder->is_object(), "{}: 'added_tokens_decoder' is a {}, not an object", source,
        decoder->type_name());
  for (const auto& [key, value] : decoder->items()) {
    std::int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    check(error == std::errc() && end == key.data() + key.size() && id >= 0,
          "{}: 'added_tokens_decoder' has the key '{}', not a token id", source, key);
    out.push_back(added_token_from_json(value, id, source));
  }
}

// An integer or a list of integers.
std::vector<std::int32_t> read_eos_ids(const fs::path& path) {
  if (!fs::exists(path)) return {};
  const nlohmann::json json = read_json_file(path);
  const nlohmann::json* field = find_field(json, "eos_token_id");
  if (field == nullptr) return {};
  std::vector<std::int32_t> ids;
  if (field->is_array()) {
    for (const nlohmann::json& id : *field) ids.push_back(as_id(id, "eos_token_id", path.string()));
  } else {
    ids.push_back(as_id(*field, "eos_token_id", path.string()));
  }
  return ids;
}

void add_unique(std::vector<std::int32_t>& ids, std::int32_t id) {
  if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
}

}  // namespace

AddedToken added_token_from_json(const nlohmann::json& json, std::int32_t id,
                                 const std::string& source) {
  AddedToken token;
  token.content = require_string(json, "content", source);
  token.id = id;
  token.special = bool_or(json, "special", false, source);
  token.single_word = bool_or(json, "single_word", false, source);
  token.lstrip = bool_or(json, "lstrip", false, source);
  token.rstrip = bool_or(json, "rstrip", false, source);
  token.normalized = bool_or(json, "normalized", !token.special, source);
  return token;
}

TokenizerConfig read_tokenizer_config(const fs::path& directory) {
  TokenizerConfig config;
  const fs::path main = directory / "tokenizer_config.json";
  config.source = main.string();
  if (fs::exists(main)) {
    const nlohmann::json json = read_json_file(main);
    for (const auto& [name, field] :
         {std::pair{"add_bos_token", &config.add_bos_token},
          std::pair{"add_eos_token", &config.add_eos_token}, std::pair{"legacy", &config.legacy}})
      if (find_field(json, name) != nullptr) *field = bool_or(json, name, false, config.source);
    read_named_tokens(json, config.source, config);
    read_added_tokens(json, config.source, config.added_tokens);
    read_chat_templates(json, config.source, config.chat_templates);
  }
  if (const fs::path map = directory / "special_tokens_map.json"; fs::exists(map))
    read_named_tokens(read_json_file(map), map.string(), config);
  if (const fs::path file = directory / "chat_template.json"; fs::exists(file))
    read_chat_templates(read_json_file(file), file.string(), config.chat_templates);
  if (const fs::path file = directory / "chat_template.jinja"; fs::exists(file))
    config.chat_templates.standard = read_whole_file(file, kMaxTemplateBytes);
  if (const fs::path file = directory / "additional_chat_templates" / "tool_use.jinja";
      fs::exists(file))
    config.chat_templates.tool_use = read_whole_file(file, kMaxTemplateBytes);
  config.eos_ids = read_eos_ids(directory / "generation_config.json");
  if (config.eos_ids.empty()) config.eos_ids = read_eos_ids(directory / "config.json");
  return config;
}

void apply_tokenizer_config(const TokenizerConfig& config, TokenizerParts& parts) {
  Vocabulary& vocabulary = *parts.vocabulary;
  for (const AddedToken& token : config.added_tokens) {
    if (vocabulary.find(token.content) >= 0 && vocabulary.is_added(vocabulary.find(token.content)))
      continue;  // the tokenizer file's own entry counts
    vocabulary.add_added(token.content, token.id, token.special);
    parts.added_tokens.push_back(token);
  }
  for (const std::string& content : config.special_tokens) {
    const std::int32_t id = vocabulary.find(content);
    if (id < 0 || vocabulary.is_added(id)) continue;
    vocabulary.add_added(content, id, true);
    parts.added_tokens.push_back({.content = content, .id = id, .special = true});
  }
  if (const std::int32_t id = vocabulary.find(config.bos_token); id >= 0) parts.bos_id = id;
  std::int32_t eos_id = vocabulary.find(config.eos_token);
  if (eos_id < 0 && !parts.eos_ids.empty()) eos_id = parts.eos_ids.front();
  parts.eos_ids.clear();
  if (eos_id >= 0) parts.eos_ids.push_back(eos_id);
  for (const std::int32_t id : config.eos_ids) add_unique(parts.eos_ids, id);
  if (config.add_bos_token) {
    parts.prefix.clear();
    if (*config.add_bos_token && parts.bos_id >= 0) parts.prefix = {parts.bos_id};
  }
  if (config.add_eos_token) {
    parts.suffix.clear();
    if (*config.add_eos_token && eos_id >= 0) parts.suffix = {eos_id};
  }
  parts.chat_templates = config.chat_templates;
}

}  // namespace lockstep
