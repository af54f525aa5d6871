// Cuts text into words, within which byte-pair encoding works: the `pre_tokenizer` of
// tokenizer.json.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace lockstep {

// GPT-2's word expression, which ByteLevel uses on its own.
inline constexpr std::string_view kGpt2Words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// What happens to a match (see Hugging Face's SplitDelimiterBehavior).
enum class SplitBehavior : std::uint8_t {
  kRemoved,
  kIsolated,
  kMergedWithPrevious,
  kMergedWithNext,
  kContiguous,
};

// Immutable and thread-safe. The default leaves text in one piece.
class PreTokenizer {
 public:
  // Sequence, ByteLevel, Split, Digits, Punctuation, Metaspace, Whitespace, WhitespaceSplit; others
  // throw Error naming `source`.
  static PreTokenizer from_json(const nlohmann::json& json, const std::string& source);
  // Each expression isolates its matches, in this order; then bytes are spelled as characters.
  static PreTokenizer byte_level(const std::vector<std::string_view>& expressions,
                                 const std::string& source);

  // The words of `text`, none of them empty. `at_start`: `text` begins where the whole input does.
  std::vector<std::string> apply(std::string_view text, bool at_start) const;

 private:
  enum class Kind : std::uint8_t { kSplit, kByteLevel, kPrefixSpace, kMetaspace };
  enum class Prepend : std::uint8_t { kNever, kFirst, kAlways };
  struct Step {
    Kind kind;
    std::optional<Regex> pattern = {};  // kSplit; kMetaspace where it splits
    SplitBehavior behavior = SplitBehavior::kIsolated;
    bool invert = false;           // kSplit: what lies between the matches counts as the match
    std::string replacement = {};  // kMetaspace: stands for a space
    Prepend prepend = Prepend::kNever;
  };
  void add(const nlohmann::json& json, const std::string& source);
  void add_split(std::string_view expression, SplitBehavior behavior, const std::string& source,
                 bool invert = false);
  void add_byte_level(const nlohmann::json& json, const std::string& source);
  void add_metaspace(const nlohmann::json& json, const std::string& source);
  static void split(const Step& step, std::string_view word, std::vector<std::string>& out);

  std::vector<Step> steps_;
};

}  // namespace lockstep
