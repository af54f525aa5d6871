// Regular expressions of tokenizer files, run by PCRE2.
//
// The files are written for Oniguruma (Ruby syntax), which Hugging Face's tokenizers use. A pattern
// is translated to PCRE2 where the two differ; what has no exact counterpart is refused. Immutable
// and thread-safe. Matching runs with bounded steps, stack and heap.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace lockstep {

class Regex {
 public:
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  // `source` (a file's name) is named in errors. Throws Error for a pattern that is malformed, too
  // large, or uses what cannot be translated.
  Regex(std::string_view pattern, const std::string& source);
  // Matches exactly `text`.
  static Regex literal(std::string_view text, const std::string& source);

  // The first match that begins at or after `start`; what stands before `start` is visible to
  // look-behind. `text` must be valid UTF-8 and `start` at a character. Throws Error when the
  // limits are exceeded.
  std::optional<Match> find(std::string_view text, std::size_t start) const;

  // Calls visit(begin, end) for all matches from left to right. They do not overlap; an empty match
  // right behind another match does not count.
  template <typename Visit>
  void for_each_match(std::string_view text, const Visit& visit) const {
    std::size_t position = 0;
    std::optional<std::size_t> last_end;
    while (position <= text.size()) {
      const std::optional<Match> match = find(text, position);
      if (!match) return;
      if (match->begin == match->end && last_end == match->end) {
        position = next_character(text, position);
        continue;
      }
      visit(match->begin, match->end);
      position = match->end;
      last_end = match->end;
    }
  }

 private:
  struct Code;  // a compiled pattern
  Regex(std::string_view pattern, bool is_literal, const std::string& source);
  static std::size_t next_character(std::string_view text, std::size_t position);

  std::shared_ptr<const Code> code_;
  std::string pattern_;  // for errors
  std::string source_;
};

// The PCRE2 pattern that matches what `pattern` matches in Oniguruma. Throws Error as the
// constructor does.
std::string translate_regex(std::string_view pattern, const std::string& source);

}  // namespace lockstep
