#include "text/gguf_vocabulary.h"

#include <algorithm>
#include <cmath>

#include "checkpoint/file.h"
#include "core/check.h"
#include "text/bpe.h"
#include "text/score_bpe.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

// ggml's token types.
constexpr std::int64_t kNormal = 1;
constexpr std::int64_t kUnknown = 2;
constexpr std::int64_t kControl = 3;
constexpr std::int64_t kUserDefined = 4;
constexpr std::int64_t kUnused = 5;
constexpr std::int64_t kByte = 6;

constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kTekkenWords =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// What a name in `tokenizer.ggml.pre` stands for.
struct PreTokenizerKind {
  std::vector<std::string_view> names;
  std::vector<std::string_view> expressions;
  bool ignore_merges = false;
  bool add_bos = false;  // unless the file says otherwise
  bool nfc = false;
};

const PreTokenizerKind& pre_tokenizer_kind(const GgufMetadata& metadata) {
  static const std::vector<PreTokenizerKind> kinds = {
      {.names = {"default", "gpt-2", "phi-2", "olmo"}, .expressions = {kGpt2Words}},
      {.names = {"llama-bpe", "llama3", "llama-v3"},
       .expressions = {kLlama3Words},
       .ignore_merges = true,
       .add_bos = true},
      {.names = {"dbrx", "smaug-bpe"}, .expressions = {kLlama3Words}},
      {.names = {"qwen2", "deepseek-r1-qwen"}, .expressions = {kQwen2Words}, .nfc = true},
      {.names = {"smollm", "starcoder", "refact", "codeshell"},
       .expressions = {R"(\p{N})", kGpt2Words}},
      {.names = {"tekken"}, .expressions = {kTekkenWords}, .ignore_merges = true, .add_bos = true},
  };
  const std::string* name = metadata.string("tokenizer.ggml.pre");
  const std::string_view wanted = name == nullptr ? "default" : std::string_view(*name);
  for (const PreTokenizerKind& kind : kinds)
    if (std::find(kind.names.begin(), kind.names.end(), wanted) != kind.names.end()) return kind;
  fail("{}: the pre-tokenizer {} (tokenizer.ggml.pre) is not supported", metadata.file,
       quote_name(wanted));
}

struct Tokens {
  const std::vector<std::string>* text;
  std::vector<std::int64_t> types;
};

Tokens read_tokens(const GgufMetadata& metadata) {
  Tokens tokens{metadata.strings("tokenizer.ggml.tokens"), {}};
  check(tokens.text != nullptr && !tokens.text->empty(),
        "{}: the vocabulary (tokenizer.ggml.tokens) is missing", metadata.file);
  const std::size_t size = tokens.text->size();
  if (const std::vector<std::int64_t>* types = metadata.integers("tokenizer.ggml.token_type")) {
    check(types->size() == size, "{}: tokenizer.ggml.token_type has {} entries for {} tokens",
          metadata.file, types->size(), size);
    tokens.types = *types;
  } else {
    tokens.types.assign(size, kNormal);
  }
  for (std::size_t i = 0; i < size; ++i) {
    check(tokens.types[i] >= kNormal && tokens.types[i] <= kByte,
          "{}: the token {} has the unknown type {}", metadata.file, i, tokens.types[i]);
    check(is_valid_utf8((*tokens.text)[i]), "{}: the token {} is not UTF-8", metadata.file, i);
  }
  return tokens;
}

// A token id; -1 when the key is absent.
std::int32_t token_id(const GgufMetadata& metadata, const std::string& key,
                      const Vocabulary& vocabulary) {
  const std::optional<std::int64_t> id = metadata.integer(key);
  if (!id) return -1;
  check(*id >= 0 && *id < vocabulary.size(), "{}: {} is {}, not a token id in [0, {})",
        metadata.file, key, *id, vocabulary.size());
  return static_cast<std::int32_t>(*id);
}

// A user-defined token of a SentencePiece vocabulary has its spaces spelled "▁"; text has not.
std::string as_text(std::string_view token, bool sentencepiece) {
  constexpr std::string_view kSpaceSymbol = "\u2581";
  std::string text;
  for (std::size_t i = 0; i < token.size();) {
    if (sentencepiece && token.substr(i).starts_with(kSpaceSymbol)) {
      text += ' ';
      i += kSpaceSymbol.size();
    } else {
      text += token[i++];
    }
  }
  return text;
}

void add_tokens(const GgufMetadata& metadata, const Tokens& tokens, bool sentencepiece,
                TokenizerParts& parts) {
  const std::size_t size = tokens.text->size();
  parts.vocabulary = std::make_shared<Vocabulary>(metadata.file, size);
  parts.vocabulary->extend(static_cast<std::int32_t>(size));
  for (std::size_t i = 0; i < size; ++i) {
    const std::string& token = (*tokens.text)[i];
    if (token.empty()) continue;  // a place that no token has
    const auto id = static_cast<std::int32_t>(i);
    parts.vocabulary->add(token, id);
    const std::int64_t type = tokens.types[i];
    const bool special = type == kControl || type == kUnknown;
    if (!special && type != kUserDefined) continue;
    parts.vocabulary->add_added(token, id, special);
    parts.added_tokens.push_back(
        {.content = special ? token : as_text(token, sentencepiece), .id = id, .special = special});
  }
}

std::unique_ptr<BpeEncoder> make_bpe(const GgufMetadata& metadata, const PreTokenizerKind& kind,
                                     const TokenizerParts& parts) {
  auto encoder = std::make_unique<BpeEncoder>(
      parts.vocabulary, PreTokenizer::byte_level(kind.expressions, metadata.file),
      BpeOptions{.ignore_merges = kind.ignore_merges});
  const std::vector<std::string>* merges = metadata.strings("tokenizer.ggml.merges");
  check(merges != nullptr, "{}: tokenizer.ggml.merges is missing", metadata.file);
  for (const std::string& merge : *merges) encoder->add_merge(merge);
  return encoder;
}

std::unique_ptr<ScoreBpeEncoder> make_score_bpe(const GgufMetadata& metadata, const Tokens& tokens,
                                                bool add_space_prefix,
                                                const TokenizerParts& parts) {
  const std::vector<double>* scores = metadata.numbers("tokenizer.ggml.scores");
  check(scores != nullptr, "{}: tokenizer.ggml.scores is missing", metadata.file);
  check(scores->size() == tokens.types.size(),
        "{}: tokenizer.ggml.scores has {} entries for {} tokens", metadata.file, scores->size(),
        tokens.types.size());
  std::vector<ScoredPiece> pieces;
  for (std::size_t i = 0; i < scores->size(); ++i) {
    check(std::isfinite((*scores)[i]), "{}: the score of the token {} is not finite", metadata.file,
          i);
    const std::int64_t type = tokens.types[i];
    if ((*tokens.text)[i].empty() || (type != kNormal && type != kUserDefined && type != kUnused))
      continue;
    pieces.push_back(
        {.id = static_cast<std::int32_t>(i), .score = (*scores)[i], .unused = type == kUnused});
  }
  std::int32_t unk_id = token_id(metadata, "tokenizer.ggml.unknown_token_id", *parts.vocabulary);
  for (std::size_t i = 0; unk_id < 0 && i < tokens.types.size(); ++i)
    if (tokens.types[i] == kUnknown) unk_id = static_cast<std::int32_t>(i);
  return std::make_unique<ScoreBpeEncoder>(parts.vocabulary, pieces, unk_id, add_space_prefix);
}

// The ends of text and of a turn: what the metadata names, or else the usual names of control
// tokens.
std::vector<std::int32_t> find_eos_ids(const GgufMetadata& metadata, const Tokens& tokens,
                                       const Vocabulary& vocabulary) {
  std::vector<std::int32_t> ids;
  const auto add = [&](std::int32_t id) {
    if (id >= 0 && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  };
  add(token_id(metadata, "tokenizer.ggml.eos_token_id", vocabulary));
  const std::int32_t eot = token_id(metadata, "tokenizer.ggml.eot_token_id", vocabulary);
  add(eot);
  add(token_id(metadata, "tokenizer.ggml.eom_token_id", vocabulary));
  if (eot >= 0) return ids;
  for (const std::string_view name : {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"}) {
    const std::int32_t id = vocabulary.find(name);
    if (id >= 0 && tokens.types[static_cast<std::size_t>(id)] == kControl) add(id);
  }
  return ids;
}

}  // namespace

TokenizerParts read_gguf_vocabulary(const GgufMetadata& metadata) {
  const std::string* model = metadata.string("tokenizer.ggml.model");
  check(model != nullptr, "{}: the kind of vocabulary (tokenizer.ggml.model) is missing",
        metadata.file);
  const bool sentencepiece = *model == "llama";
  check(sentencepiece || *model == "gpt2",
        "{}: the kind of vocabulary {} (tokenizer.ggml.model) is not supported, only 'gpt2' and "
        "'llama' are",
        metadata.file, quote_name(*model));
  TokenizerParts parts;
  const Tokens tokens = read_tokens(metadata);
  add_tokens(metadata, tokens, sentencepiece, parts);
  bool add_bos = true;
  if (sentencepiece) {
    const bool prefix = metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
    parts.encoder = make_score_bpe(metadata, tokens, prefix, parts);
    parts.decoder = Decoder::sentencepiece(prefix);
  } else {
    const PreTokenizerKind& kind = pre_tokenizer_kind(metadata);
    add_bos = kind.add_bos;
    if (kind.nfc) parts.normalizer = Normalizer::unicode(UnicodeForm::kNfc);
    parts.encoder = make_bpe(metadata, kind, parts);
    parts.decoder = Decoder::byte_level();
  }
  parts.bos_id = token_id(metadata, "tokenizer.ggml.bos_token_id", *parts.vocabulary);
  parts.eos_ids = find_eos_ids(metadata, tokens, *parts.vocabulary);
  if (metadata.boolean("tokenizer.ggml.add_bos_token").value_or(add_bos) && parts.bos_id >= 0)
    parts.prefix = {parts.bos_id};
  const std::int32_t eos = token_id(metadata, "tokenizer.ggml.eos_token_id", *parts.vocabulary);
  if (metadata.boolean("tokenizer.ggml.add_eos_token").value_or(false) && eos >= 0)
    parts.suffix = {eos};
  if (const std::string* text = metadata.string("tokenizer.chat_template"))
    parts.chat_templates.standard = *text;
  if (const std::string* text = metadata.string("tokenizer.chat_template.tool_use"))
    parts.chat_templates.tool_use = *text;
  return parts;
}

}  // namespace lockstep
