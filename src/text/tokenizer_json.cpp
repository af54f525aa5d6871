#include "text/tokenizer_json.h"

#include "checkpoint/json.h"
#include "text/bpe.h"
#include "text/json_fields.h"
#include "text/tokenizer_config.h"

namespace lockstep {
namespace {

std::shared_ptr<Vocabulary> read_vocabulary(const nlohmann::json& model,
                                            const nlohmann::json* added_tokens,
                                            const std::string& source) {
  const nlohmann::json& vocab = require_field(model, "vocab", source);
  check(vocab.is_object(), "{}: the 'vocab' of a BPE model is a {}, not an object", source,
        vocab.type_name());
  const std::size_t num_added = added_tokens == nullptr ? 0 : added_tokens->size();
  auto vocabulary = std::make_shared<Vocabulary>(source, vocab.size() + num_added);
  for (const auto& [token, id] : vocab.items()) vocabulary->add(token, as_id(id, token, source));
  return vocabulary;
}

std::vector<AddedToken> read_added_tokens(const nlohmann::json* json, Vocabulary& vocabulary,
                                          const std::string& source) {
  std::vector<AddedToken> tokens;
  if (json == nullptr) return tokens;
  check(json->is_array(), "{}: 'added_tokens' is a {}, not a list", source, json->type_name());
  for (const nlohmann::json& entry : *json) {
    const std::int32_t id = as_id(require_field(entry, "id", source), "added_tokens", source);
    const AddedToken& token = tokens.emplace_back(added_token_from_json(entry, id, source));
    vocabulary.add_added(token.content, id, token.special);
  }
  return tokens;
}

void add_merges(const nlohmann::json& model, const std::string& source, BpeEncoder& encoder) {
  for (const nlohmann::json& merge : require_array(model, "merges", source)) {
    if (merge.is_string()) {
      encoder.add_merge(merge.get_ref<const std::string&>());
      continue;
    }
    check(merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
          "{}: a merge is neither a string nor a pair of strings", source);
    encoder.add_merge(merge[0].get_ref<const std::string&>(),
                      merge[1].get_ref<const std::string&>());
  }
}

std::unique_ptr<BpeEncoder> read_bpe(const nlohmann::json& json, const nlohmann::json& model,
                                     std::shared_ptr<const Vocabulary> vocabulary,
                                     const std::string& source) {
  const nlohmann::json* dropout = find_field(model, "dropout");
  check(dropout == nullptr || (dropout->is_number() && dropout->get<double>() == 0.0),
        "{}: a BPE model with dropout is not supported", source);
  BpeOptions options;
  options.unk_token = string_or(model, "unk_token", "", source);
  options.continuing_subword_prefix = string_or(model, "continuing_subword_prefix", "", source);
  options.end_of_word_suffix = string_or(model, "end_of_word_suffix", "", source);
  options.fuse_unk = bool_or(model, "fuse_unk", false, source);
  options.byte_fallback = bool_or(model, "byte_fallback", false, source);
  options.ignore_merges = bool_or(model, "ignore_merges", false, source);
  PreTokenizer pre_tokenizer;
  if (const nlohmann::json* field = find_field(json, "pre_tokenizer"))
    pre_tokenizer = PreTokenizer::from_json(*field, source);
  auto encoder = std::make_unique<BpeEncoder>(std::move(vocabulary), std::move(pre_tokenizer),
                                              std::move(options));
  add_merges(model, source, *encoder);
  return encoder;
}

// The ids that a TemplateProcessing puts for a special token.
std::vector<std::int32_t> template_ids(const nlohmann::json& json, const std::string& name,
                                       const Vocabulary& vocabulary, const std::string& source) {
  const nlohmann::json& entry =
      require_field(require_field(json, "special_tokens", source), name.c_str(), source);
  std::vector<std::int32_t> ids;
  for (const nlohmann::json& value : require_array(entry, "ids", source)) {
    ids.push_back(as_id(value, name, source));
    check(vocabulary.contains(ids.back()),
          "{}: the post-processor's '{}' has the id {}, which no token has", source, name,
          ids.back());
  }
  return ids;
}

// Wraps what is already in `parts` in what the post-processor puts around a single text.
void add_post_processor(const nlohmann::json& json, const std::string& source,
                        TokenizerParts& parts) {
  const std::string& type = require_string(json, "type", source);
  if (type == "ByteLevel") return;  // adjusts offsets alone
  if (type == "Sequence") {
    for (const nlohmann::json& step : require_array(json, "processors", source))
      add_post_processor(step, source, parts);
    return;
  }
  check(type == "TemplateProcessing", "{}: the post-processor '{}' is not supported", source, type);
  std::vector<std::int32_t> prefix;
  std::vector<std::int32_t> suffix;
  std::size_t num_sequences = 0;
  for (const nlohmann::json& piece : require_array(json, "single", source)) {
    if (find_field(piece, "Sequence") != nullptr) {
      ++num_sequences;
      continue;
    }
    const std::string& name =
        require_string(require_field(piece, "SpecialToken", source), "id", source);
    std::vector<std::int32_t>& side = num_sequences == 0 ? prefix : suffix;
    for (const std::int32_t id : template_ids(json, name, *parts.vocabulary, source))
      side.push_back(id);
  }
  check(num_sequences == 1, "{}: the post-processor's template has the text {} times, not once",
        source, num_sequences);
  parts.prefix.insert(parts.prefix.begin(), prefix.begin(), prefix.end());
  parts.suffix.insert(parts.suffix.end(), suffix.begin(), suffix.end());
}

}  // namespace

TokenizerParts read_tokenizer_json(const std::filesystem::path& path) {
  const std::string source = path.string();
  const nlohmann::json json = read_json_file(path);
  const nlohmann::json& model = require_field(json, "model", source);
  // Old files do not name the type; among the types only BPE has merges.
  const std::string type =
      string_or(model, "type", find_field(model, "merges") != nullptr ? "BPE" : "(none)", source);
  check(type == "BPE", "{}: the tokenizer model '{}' is not supported, only BPE is", source, type);
  TokenizerParts parts;
  const nlohmann::json* added_tokens = find_field(json, "added_tokens");
  parts.vocabulary = read_vocabulary(model, added_tokens, source);
  parts.added_tokens = read_added_tokens(added_tokens, *parts.vocabulary, source);
  if (const nlohmann::json* field = find_field(json, "normalizer"))
    parts.normalizer = Normalizer::from_json(*field, source);
  parts.encoder = read_bpe(json, model, parts.vocabulary, source);
  if (const nlohmann::json* field = find_field(json, "decoder"))
    parts.decoder = Decoder::from_json(*field, source);
  if (const nlohmann::json* field = find_field(json, "post_processor"))
    add_post_processor(*field, source, parts);
  return parts;
}

}  // namespace lockstep
