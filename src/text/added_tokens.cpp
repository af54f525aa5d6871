#include "text/added_tokens.h"

#include <algorithm>

#include "text/regex.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

// Whether the character that begins at `position` is what `\w` matches in Rust's regular
// expressions, which Hugging Face uses here.
bool is_word_character(std::string_view text, std::size_t position) {
  static const Regex word(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200c}\x{200d}])", "added tokens");
  const std::string_view character = text.substr(position, decode_utf8(text, position).length);
  return word.find(character, 0).has_value();
}

bool is_blank(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Step step = decode_utf8(text, i);
    if (!is_white_space(step.code_point)) return false;
    i += step.length;
  }
  return true;
}

std::size_t previous_character(std::string_view text, std::size_t position) {
  do --position;
  while (position > 0 && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80);
  return position;
}

}  // namespace

void AddedTokenMatcher::add(const AddedToken& token, std::string_view pattern) {
  if (pattern.empty()) return;
  std::uint64_t node = 0;
  for (const char c : pattern) {
    const std::uint64_t key = node << 8 | static_cast<unsigned char>(c);
    const auto [it, inserted] =
        children_.try_emplace(key, static_cast<std::uint32_t>(nodes_.size()));
    if (inserted) nodes_.push_back(-1);
    node = it->second;
  }
  starts_[static_cast<unsigned char>(pattern[0])] = true;
  if (nodes_[node] >= 0) return;  // two tokens that normalise alike: the first counts
  nodes_[node] = static_cast<std::int32_t>(tokens_.size());
  tokens_.push_back(token);
  blank_.push_back(is_blank(pattern));
}

std::pair<std::size_t, std::int32_t> AddedTokenMatcher::longest(const MarkedText& marked,
                                                                std::size_t begin) const {
  const std::string_view text = marked.bytes();
  bool trusted = true;
  std::pair<std::size_t, std::int32_t> best{begin, -1};
  std::uint64_t node = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    const auto it = children_.find(node << 8 | static_cast<unsigned char>(text[i]));
    if (it == children_.end()) break;
    node = it->second;
    trusted = trusted && marked.trusted(i);
    const std::int32_t index = nodes_[node];
    if (index >= 0 && (trusted || blank_[static_cast<std::size_t>(index)])) best = {i + 1, index};
  }
  return best;
}

std::vector<AddedTokenMatcher::Segment> AddedTokenMatcher::split(const MarkedText& marked,
                                                                 bool parse_special) const {
  const std::string_view text = marked.bytes();
  std::vector<Segment> segments;
  std::size_t done = 0;  // everything before it is in `segments`
  for (std::size_t position = 0; position < text.size();) {
    if (!starts_[static_cast<unsigned char>(text[position])]) {
      ++position;
      continue;
    }
    const auto [match_end, index] = longest(marked, position);
    if (index < 0) {
      ++position;
      continue;
    }
    std::size_t begin = position;
    std::size_t end = match_end;
    position = match_end;  // also when the match is discarded
    const AddedToken& token = tokens_[static_cast<std::size_t>(index)];
    if (token.special && !parse_special) continue;
    if (token.single_word &&
        ((begin > 0 && is_word_character(text, previous_character(text, begin))) ||
         (end < text.size() && is_word_character(text, end))))
      continue;
    if (token.lstrip) {
      while (begin > done) {
        const std::size_t before = previous_character(text, begin);
        if (!is_white_space(decode_utf8(text, before).code_point)) break;
        begin = before;
      }
      begin = std::max(begin, done);
    }
    if (token.rstrip) {
      while (end < text.size()) {
        const Utf8Step step = decode_utf8(text, end);
        if (!is_white_space(step.code_point)) break;
        end += step.length;
      }
    }
    if (done < begin) segments.push_back({-1, done, begin});
    segments.push_back({token.id, begin, end});
    done = std::max(done, end);
  }
  if (done < text.size()) segments.push_back({-1, done, text.size()});
  return segments;
}

}  // namespace lockstep
