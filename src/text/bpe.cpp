#include "text/bpe.h"

#include <optional>

#include "checkpoint/file.h"
#include "core/check.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

std::array<std::int32_t, 256> find_byte_tokens(const Vocabulary& vocabulary) {
  std::array<std::int32_t, 256> ids{};
  for (std::size_t byte = 0; byte < ids.size(); ++byte)
    ids[byte] = vocabulary.find_encodable(fmt::format("<0x{:02X}>", byte));
  return ids;
}

BpeEncoder::BpeEncoder(std::shared_ptr<const Vocabulary> vocabulary, PreTokenizer pre_tokenizer,
                       BpeOptions options)
    : vocabulary_(std::move(vocabulary)),
      pre_tokenizer_(std::move(pre_tokenizer)),
      options_(std::move(options)) {
  byte_ids_ = find_byte_tokens(*vocabulary_);
  unk_id_ = options_.unk_token.empty() ? -1 : vocabulary_->find_encodable(options_.unk_token);
}

void BpeEncoder::add_merge(std::string_view left, std::string_view right) {
  const auto id_of = [&](std::string_view token) {
    const std::int32_t id = vocabulary_->find_encodable(token);
    if (id < 0)
      fail("{}: merge {}, of {} and {}, needs the token {}, which does not exist",
           vocabulary_->source(), num_merges_, quote_name(left), quote_name(right),
           quote_name(token));
    return id;
  };
  const std::string& prefix = options_.continuing_subword_prefix;
  if (right.size() < prefix.size())
    fail("{}: merge {}, of {} and {}, lacks the prefix {}", vocabulary_->source(), num_merges_,
         quote_name(left), quote_name(right), quote_name(prefix));
  std::string merged(left);
  merged += right.substr(prefix.size());
  const std::int32_t left_id = id_of(left);
  const std::int32_t right_id = id_of(right);
  merges_.insert_or_assign(pair_key(left_id, right_id), Merge{num_merges_, id_of(merged)});
  ++num_merges_;
}

void BpeEncoder::add_merge(std::string_view pair) {
  const std::size_t space = pair.find(' ');
  if (space == std::string_view::npos || pair.find(' ', space + 1) != std::string_view::npos)
    fail("{}: merge {}, {}, is not two tokens with one space between them", vocabulary_->source(),
         num_merges_, quote_name(pair));
  add_merge(pair.substr(0, space), pair.substr(space + 1));
}

bool BpeEncoder::append_bytes(std::string_view character, std::uint32_t begin,
                              std::vector<Symbol>& symbols) const {
  for (const char c : character)
    if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
  for (const char c : character)
    symbols.push_back(
        {.id = byte_ids_[static_cast<unsigned char>(c)], .begin = begin++, .length = 1});
  return true;
}

std::vector<Symbol> BpeEncoder::symbols_of(std::string_view word) const {
  std::vector<Symbol> symbols;
  symbols.reserve(word.size());
  std::optional<Symbol> unknown;  // waits for the unknown characters that follow
  const auto flush = [&] {
    if (unknown) symbols.push_back(*unknown);
    unknown.reset();
  };
  const bool plain =
      options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
  std::string decorated;
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t length = decode_utf8(word, begin).length;
    std::string_view character = word.substr(begin, length);
    if (!plain) {
      decorated = begin > 0 ? options_.continuing_subword_prefix : std::string();
      decorated += character;
      if (begin + length == word.size()) decorated += options_.end_of_word_suffix;
      character = decorated;
    }
    const auto begin32 = static_cast<std::uint32_t>(begin);
    const auto length32 = static_cast<std::uint32_t>(length);
    begin += length;
    if (const std::int32_t id = vocabulary_->find_encodable(character); id >= 0) {
      flush();
      symbols.push_back({.id = id, .begin = begin32, .length = length32});
      continue;
    }
    // Hugging Face does not let byte tokens end a run of unknown characters.
    if (options_.byte_fallback && append_bytes(character, begin32, symbols)) continue;
    if (options_.unk_token.empty()) continue;  // nothing stands for it
    if (unk_id_ < 0)
      fail("{}: the unk_token {}, which '{}' needs, is not in the vocabulary",
           vocabulary_->source(), quote_name(options_.unk_token), character);
    if (unknown && options_.fuse_unk) {
      unknown->length += length32;
    } else {
      flush();
      unknown = Symbol{.id = unk_id_, .begin = begin32, .length = length32};
    }
  }
  flush();
  return symbols;
}

void BpeEncoder::encode(std::string_view text, bool at_start,
                        std::vector<std::int32_t>& ids) const {
  check(text.size() <= kMaxTextBytes,
        "a text of {} bytes is longer than the {} that can be encoded", text.size(), kMaxTextBytes);
  for (const std::string& word : pre_tokenizer_.apply(text, at_start)) {
    if (options_.ignore_merges) {
      if (const std::int32_t id = vocabulary_->find_encodable(word); id >= 0) {
        ids.push_back(id);
        continue;
      }
    }
    std::vector<Symbol> symbols = symbols_of(word);
    link_symbols(symbols);
    merge_symbols(symbols, [this](const Symbol& left, const Symbol& right) {
      const auto it = merges_.find(pair_key(left.id, right.id));
      return it == merges_.end() ? Merge{} : it->second;
    });
    for (const Symbol& symbol : symbols)
      if (symbol.length > 0) ids.push_back(symbol.id);
  }
}

}  // namespace lockstep
