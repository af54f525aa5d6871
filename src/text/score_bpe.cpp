#include "text/score_bpe.h"

#include <algorithm>

#include "core/check.h"
#include "text/bpe.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

constexpr std::string_view kSpaceSymbol = "\u2581";  // "▁"
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

}  // namespace

ScoreBpeEncoder::ScoreBpeEncoder(std::shared_ptr<const Vocabulary> vocabulary,
                                 const std::vector<ScoredPiece>& pieces, std::int32_t unk_id,
                                 bool add_space_prefix)
    : vocabulary_(std::move(vocabulary)),
      pieces_(static_cast<std::size_t>(vocabulary_->size())),
      byte_ids_(find_byte_tokens(*vocabulary_)),
      unk_id_(unk_id),
      add_space_prefix_(add_space_prefix) {
  // Merging goes by order alone, so that equal scores share a rank.
  std::vector<double> scores;
  for (const ScoredPiece& piece : pieces) scores.push_back(piece.score);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
  for (const ScoredPiece& piece : pieces) {
    const auto rank =
        std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>()) -
        scores.begin();
    pieces_[static_cast<std::size_t>(piece.id)] = {static_cast<std::int32_t>(rank), piece.unused};
  }
}

std::int32_t ScoreBpeEncoder::find(std::string_view text) const {
  const std::int32_t id = vocabulary_->find_encodable(text);
  return id >= 0 && pieces_[static_cast<std::size_t>(id)].rank >= 0 ? id : -1;
}

void ScoreBpeEncoder::emit(std::string_view piece, std::int32_t id, const Splits& splits,
                           std::vector<std::int32_t>& ids) const {
  if (id >= 0) {
    const auto split = splits.find(id);
    if (!pieces_[static_cast<std::size_t>(id)].unused || split == splits.end()) {
      ids.push_back(id);
      return;
    }
    const std::string_view left = piece.substr(0, split->second);
    const std::string_view right = piece.substr(split->second);
    emit(left, find(left), splits, ids);
    emit(right, find(right), splits, ids);
    return;
  }
  const bool has_bytes = std::all_of(piece.begin(), piece.end(), [this](char c) {
    return byte_ids_[static_cast<unsigned char>(c)] >= 0;
  });
  if (has_bytes) {
    for (const char c : piece) ids.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  } else if (unk_id_ >= 0 && (ids.empty() || ids.back() != unk_id_)) {
    ids.push_back(unk_id_);  // one for a run of unknown characters
  }
}

void ScoreBpeEncoder::encode(std::string_view text, bool /*at_start*/,
                             std::vector<std::int32_t>& ids) const {
  check(text.size() <= kMaxTextBytes,
        "a text of {} bytes is longer than the {} that can be encoded", text.size(), kMaxTextBytes);
  std::string word(add_space_prefix_ ? kSpaceSymbol : "");
  word.reserve(text.size() + 16);
  for (const char c : text) c == ' ' ? word += kSpaceSymbol : word += c;

  std::vector<Symbol> symbols;
  for (std::size_t begin = 0; begin < word.size();) {
    const std::size_t length = decode_utf8(word, begin).length;
    symbols.push_back({.id = find(std::string_view(word).substr(begin, length)),
                       .begin = static_cast<std::uint32_t>(begin),
                       .length = static_cast<std::uint32_t>(length)});
    begin += length;
  }
  link_symbols(symbols);
  Splits splits;
  merge_symbols(symbols, [&](const Symbol& left, const Symbol& right) {
    const std::int32_t id =
        find(std::string_view(word).substr(left.begin, left.length + right.length));
    if (id < 0) return Merge{};
    const Piece& piece = pieces_[static_cast<std::size_t>(id)];
    if (piece.unused) splits[id] = left.length;
    return Merge{piece.rank, id};
  });
  std::vector<std::int32_t> out;  // so that an unknown run does not join what stands before
  for (const Symbol& symbol : symbols)
    if (symbol.length > 0)
      emit(std::string_view(word).substr(symbol.begin, symbol.length), symbol.id, splits, out);
  ids.insert(ids.end(), out.begin(), out.end());
}

}  // namespace lockstep
