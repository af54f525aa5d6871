// What happens to text before it is cut into words: the `normalizer` of tokenizer.json.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/marked_text.h"
#include "text/regex.h"

namespace lockstep {

enum class UnicodeForm : std::uint8_t { kNfc, kNfd, kNfkc, kNfkd };

// Unicode normalisation (UAX #15) of valid UTF-8, in O(n log n).
std::string normalize_unicode(std::string_view text, UnicodeForm form);

// Immutable and thread-safe. The default changes nothing.
class Normalizer {
 public:
  Normalizer() = default;
  static Normalizer unicode(UnicodeForm form);
  // Sequence, NFC, NFD, NFKC, NFKD, Prepend, Replace, Strip; others throw Error naming `source`.
  static Normalizer from_json(const nlohmann::json& json, const std::string& source);

  bool is_identity() const { return steps_.empty(); }
  // What comes from bytes that are not trusted is not trusted either.
  MarkedText apply(const MarkedText& text) const;

 private:
  enum class Kind : std::uint8_t { kUnicode, kPrepend, kReplace, kStrip };
  struct Step {
    Kind kind;
    UnicodeForm form = UnicodeForm::kNfc;
    std::string content = {};  // prepended, or put in place of a match
    std::optional<Regex> pattern = {};
    bool strip_left = false;
    bool strip_right = false;
  };
  void add(const nlohmann::json& json, const std::string& source);

  std::vector<Step> steps_;
};

// A pattern of tokenizer.json: {"String": literal} or {"Regex": expression}.
Regex pattern_from_json(const nlohmann::json& json, const std::string& source);

// `text` with every match of `pattern` replaced by `content`.
std::string replace_all(std::string_view text, const Regex& pattern, std::string_view content);

}  // namespace lockstep
