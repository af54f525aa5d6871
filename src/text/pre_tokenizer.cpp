#include "text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

SplitBehavior behavior_from_json(const nlohmann::json& json, const std::string& source) {
  const std::string& name = require_string(json, "behavior", source);
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  fail("{}: the split behavior '{}' is not supported", source, name);
}

struct Span {
  std::size_t begin;
  std::size_t end;
  bool is_match;
};

// The spans that are left when matches join a neighbour as `behavior` says.
std::vector<Span> merge_spans(const std::vector<Span>& spans, SplitBehavior behavior) {
  std::vector<Span> out;
  bool previous_match = false;
  const auto visit = [&](const Span& span) {
    const bool join = behavior == SplitBehavior::kContiguous ? span.is_match == previous_match
                                                             : span.is_match && !previous_match;
    if (join && !out.empty()) {
      out.back().begin = std::min(out.back().begin, span.begin);
      out.back().end = std::max(out.back().end, span.end);
    } else {
      out.push_back(span);
    }
    previous_match = span.is_match;
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return spans;
    case SplitBehavior::kRemoved:
      std::copy_if(spans.begin(), spans.end(), std::back_inserter(out),
                   [](const Span& span) { return !span.is_match; });
      return out;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious:
      std::for_each(spans.begin(), spans.end(), visit);
      return out;
    case SplitBehavior::kMergedWithNext:
      std::for_each(spans.rbegin(), spans.rend(), visit);
      std::reverse(out.begin(), out.end());
      return out;
  }
  return out;
}

}  // namespace

PreTokenizer PreTokenizer::from_json(const nlohmann::json& json, const std::string& source) {
  PreTokenizer result;
  result.add(json, source);
  return result;
}

PreTokenizer PreTokenizer::byte_level(const std::vector<std::string_view>& expressions,
                                      const std::string& source) {
  PreTokenizer result;
  for (const std::string_view expression : expressions)
    result.add_split(expression, SplitBehavior::kIsolated, source);
  result.steps_.push_back({.kind = Kind::kByteLevel});
  return result;
}

void PreTokenizer::add_split(std::string_view expression, SplitBehavior behavior,
                             const std::string& source, bool invert) {
  steps_.push_back({.kind = Kind::kSplit,
                    .pattern = Regex(expression, source),
                    .behavior = behavior,
                    .invert = invert});
}

void PreTokenizer::add_byte_level(const nlohmann::json& json, const std::string& source) {
  if (bool_or(json, "add_prefix_space", true, source))
    steps_.push_back({.kind = Kind::kPrefixSpace});
  if (bool_or(json, "use_regex", true, source))
    add_split(kGpt2Words, SplitBehavior::kIsolated, source);
  steps_.push_back({.kind = Kind::kByteLevel});
}

void PreTokenizer::add_metaspace(const nlohmann::json& json, const std::string& source) {
  Step step{.kind = Kind::kMetaspace, .replacement = require_string(json, "replacement", source)};
  check(!step.replacement.empty() &&
            decode_utf8(step.replacement, 0).length == step.replacement.size(),
        "{}: the Metaspace replacement '{}' is not one character", source, step.replacement);
  // Files from before `prepend_scheme` say `add_prefix_space`.
  const bool add_prefix_space = bool_or(json, "add_prefix_space", true, source);
  const std::string scheme =
      string_or(json, "prepend_scheme", add_prefix_space ? "always" : "never", source);
  if (scheme == "always") {
    step.prepend = Prepend::kAlways;
  } else if (scheme == "first") {
    step.prepend = Prepend::kFirst;
  } else if (scheme != "never") {
    fail("{}: the prepend_scheme '{}' is not supported", source, scheme);
  }
  step.behavior = SplitBehavior::kMergedWithNext;
  if (bool_or(json, "split", true, source)) step.pattern = Regex::literal(step.replacement, source);
  steps_.push_back(std::move(step));
}

void PreTokenizer::add(const nlohmann::json& json, const std::string& source) {
  const std::string& type = require_string(json, "type", source);
  if (type == "Sequence") {
    for (const nlohmann::json& step : require_array(json, "pretokenizers", source))
      add(step, source);
  } else if (type == "ByteLevel") {
    add_byte_level(json, source);
  } else if (type == "Split") {
    steps_.push_back({.kind = Kind::kSplit,
                      .pattern = pattern_from_json(require_field(json, "pattern", source), source),
                      .behavior = behavior_from_json(json, source),
                      .invert = bool_or(json, "invert", false, source)});
  } else if (type == "Digits") {
    const bool individual = bool_or(json, "individual_digits", false, source);
    add_split(R"(\p{N})", individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
              source);
  } else if (type == "Punctuation") {
    const SplitBehavior behavior = find_field(json, "behavior") == nullptr
                                       ? SplitBehavior::kIsolated
                                       : behavior_from_json(json, source);
    add_split(R"([\p{P}$+<=>^`|~])", behavior, source);
  } else if (type == "Metaspace") {
    add_metaspace(json, source);
  } else if (type == "Whitespace") {
    add_split(R"(\w+|[^\w\s]+)", SplitBehavior::kRemoved, source, true);
  } else if (type == "WhitespaceSplit") {
    add_split(R"(\s)", SplitBehavior::kRemoved, source);
  } else {
    fail("{}: the pre-tokenizer '{}' is not supported", source, type);
  }
}

void PreTokenizer::split(const Step& step, std::string_view word, std::vector<std::string>& out) {
  std::vector<Span> spans;
  std::size_t position = 0;
  const auto put = [&](std::size_t begin, std::size_t end, bool is_match) {
    if (begin != end || is_match) spans.push_back({begin, end, is_match != step.invert});
  };
  step.pattern->for_each_match(word, [&](std::size_t begin, std::size_t end) {
    put(position, begin, false);
    put(begin, end, true);
    position = end;
  });
  put(position, word.size(), false);
  for (const Span& span : merge_spans(spans, step.behavior))
    if (span.begin != span.end) out.emplace_back(word.substr(span.begin, span.end - span.begin));
}

std::vector<std::string> PreTokenizer::apply(std::string_view text, bool at_start) const {
  std::vector<std::string> words;
  if (!text.empty()) words.emplace_back(text);
  std::vector<std::string> next;
  for (const Step& step : steps_) {
    if (step.kind == Kind::kByteLevel) {
      for (std::string& word : words) word = bytes_to_characters(word);
      continue;
    }
    if (step.kind == Kind::kPrefixSpace) {
      for (std::string& word : words)
        if (!word.starts_with(' ')) word.insert(0, 1, ' ');
      continue;
    }
    next.clear();
    for (std::string& word : words) {
      if (step.kind == Kind::kMetaspace) {
        const bool first = at_start && &word == words.data();
        std::string spelled;
        for (const char c : word) c == ' ' ? spelled += step.replacement : spelled += c;
        const bool wanted =
            step.prepend == Prepend::kAlways || (step.prepend == Prepend::kFirst && first);
        if (wanted && !spelled.starts_with(step.replacement)) spelled.insert(0, step.replacement);
        word = std::move(spelled);
      }
      if (step.pattern) {
        split(step, word, next);
      } else if (!word.empty()) {
        next.push_back(std::move(word));
      }
    }
    std::swap(words, next);
  }
  return words;
}

}  // namespace lockstep
