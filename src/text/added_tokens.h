// Added tokens: found in text as they stand, before anything else happens to it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "text/marked_text.h"

namespace lockstep {

// The fields are those of tokenizer.json.
struct AddedToken {
  std::string content = {};
  std::int32_t id = 0;
  bool special = false;
  bool single_word = false;  // only where no word character is next to it
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // and after it
  bool normalized = false;   // is looked for in normalised text
};

// Finds tokens from left to right, the longest at each place. Immutable and thread-safe once
// filled.
class AddedTokenMatcher {
 public:
  struct Segment {
    std::int32_t id;  // -1: text between tokens
    std::size_t begin;
    std::size_t end;
  };

  // Looks for `pattern`, which is token.content or its normalised form.
  void add(const AddedToken& token, std::string_view pattern);

  // All of `text` (valid UTF-8) in order, without empty segments of text. Special tokens count as
  // text unless `parse_special`. Where bytes are not trusted, no token is found but those of white
  // space alone, which control nothing.
  std::vector<Segment> split(const MarkedText& text, bool parse_special) const;

 private:
  // The longest pattern at `begin`: its end, and the token's index or -1.
  std::pair<std::size_t, std::int32_t> longest(const MarkedText& text, std::size_t begin) const;

  std::vector<AddedToken> tokens_;
  std::vector<bool> blank_;                 // for each token, whether it is white space alone
  std::vector<std::int32_t> nodes_ = {-1};  // a trie: the index of the token that ends here, or -1
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // (node << 8 | byte) to node
  std::array<bool, 256> starts_{};                             // first bytes of patterns
};

}  // namespace lockstep
