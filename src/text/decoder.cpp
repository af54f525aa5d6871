#include "text/decoder.h"

#include <algorithm>

#include "text/byte_level.h"
#include "text/json_fields.h"
#include "text/normalizer.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

constexpr std::string_view kSpaceSymbol = "\u2581";  // "▁"
constexpr std::size_t kMaxSteps = 64;

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

// The byte that "<0x0A>" spells; -1 for any other token.
int spelled_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const int high = hex_digit(token[3]);
  const int low = hex_digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

bool is_one_character(std::string_view text) {
  return !text.empty() && decode_utf8(text, 0).valid && decode_utf8(text, 0).length == text.size();
}

// Bytes at the start of `text` that are `count` or fewer repetitions of `unit`.
std::size_t leading(std::string_view text, std::string_view unit, std::size_t count) {
  std::size_t bytes = 0;
  for (; count > 0 && text.substr(bytes).starts_with(unit); --count) bytes += unit.size();
  return bytes;
}

std::size_t trailing(std::string_view text, std::string_view unit, std::size_t count) {
  std::size_t bytes = 0;
  for (; count > 0 && text.substr(0, text.size() - bytes).ends_with(unit); --count)
    bytes += unit.size();
  return bytes;
}

std::size_t size_field(const nlohmann::json& json, const char* name, const std::string& source) {
  const nlohmann::json& field = require_field(json, name, source);
  check(field.is_number_unsigned() && field.get<std::uint64_t>() <= 1024,
        "{}: the decoder's '{}' is {}, not an integer in [0, 1024]", source, name, field.dump());
  return field.get<std::size_t>();
}

}  // namespace

Decoder::Decoder() { steps_.push_back({.kind = Kind::kJoin}); }

Decoder Decoder::byte_level() {
  Decoder decoder;
  decoder.steps_ = {{.kind = Kind::kByteLevel}};
  return decoder;
}

Decoder Decoder::sentencepiece(bool strip_space) {
  Decoder decoder;
  decoder.steps_.clear();
  decoder.add_step({.kind = Kind::kReplace,
                    .pattern = Regex::literal(kSpaceSymbol, "SentencePiece"),
                    .content = " "},
                   "SentencePiece");
  decoder.add_step({.kind = Kind::kByteFallback}, "SentencePiece");
  decoder.add_step({.kind = Kind::kFuse}, "SentencePiece");
  if (strip_space)
    decoder.add_step({.kind = Kind::kStrip, .content = " ", .strip_start = 1}, "SentencePiece");
  return decoder;
}

Decoder Decoder::from_json(const nlohmann::json& json, const std::string& source) {
  Decoder decoder;
  decoder.steps_.clear();
  decoder.add(json, source);
  return decoder;
}

void Decoder::add_step(Step step, const std::string& source) {
  check(steps_.size() < kMaxSteps, "{}: the decoder has more than {} steps", source, kMaxSteps);
  step.fused = std::any_of(steps_.begin(), steps_.end(), [](const Step& s) {
    return s.kind == Kind::kFuse || s.kind == Kind::kByteLevel;
  });
  check(!step.fused || step.kind == Kind::kStrip || step.kind == Kind::kFuse,
        "{}: only 'Strip' is supported behind 'Fuse' or 'ByteLevel' in a decoder", source);
  steps_.push_back(std::move(step));
}

void Decoder::add(const nlohmann::json& json, const std::string& source) {
  const std::string& type = require_string(json, "type", source);
  if (type == "Sequence") {
    for (const nlohmann::json& step : require_array(json, "decoders", source)) add(step, source);
  } else if (type == "ByteLevel") {
    add_step({.kind = Kind::kByteLevel}, source);
  } else if (type == "ByteFallback") {
    add_step({.kind = Kind::kByteFallback}, source);
  } else if (type == "Fuse") {
    add_step({.kind = Kind::kFuse}, source);
  } else if (type == "Replace") {
    add_step({.kind = Kind::kReplace,
              .pattern = pattern_from_json(require_field(json, "pattern", source), source),
              .content = require_string(json, "content", source)},
             source);
  } else if (type == "Strip") {
    add_step({.kind = Kind::kStrip,
              .content = require_string(json, "content", source),
              .strip_start = size_field(json, "start", source),
              .strip_stop = size_field(json, "stop", source)},
             source);
    check(is_one_character(steps_.back().content),
          "{}: the decoder 'Strip' has the content '{}', not one character", source,
          steps_.back().content);
  } else if (type == "Metaspace") {
    const bool add_prefix_space = bool_or(json, "add_prefix_space", true, source);
    const std::string scheme =
        string_or(json, "prepend_scheme", add_prefix_space ? "always" : "never", source);
    add_step({.kind = Kind::kMetaspace,
              .content = require_string(json, "replacement", source),
              .drop_first = scheme != "never"},
             source);
    check(is_one_character(steps_.back().content),
          "{}: the decoder 'Metaspace' has the replacement '{}', not one character", source,
          steps_.back().content);
  } else {
    fail("{}: the decoder '{}' is not supported", source, type);
  }
}

void Decoder::push(DecoderState& state, std::string_view token, std::string& out) const {
  feed(0, state, token, out);
}

void Decoder::finish(DecoderState& state, std::string& out) const {
  for (std::size_t i = 0; i < steps_.size(); ++i) flush(i, state, out);
  state = start();
}

void Decoder::feed(std::size_t index, DecoderState& state, std::string_view text,
                   std::string& out) const {
  if (index == steps_.size()) {
    out += text;
    return;
  }
  const Step& step = steps_[index];
  switch (step.kind) {
    case Kind::kJoin:
      if (state.steps[index].count++ > 0) feed(index + 1, state, " ", out);
      return feed(index + 1, state, text, out);
    case Kind::kByteLevel:
      return feed_bytes(index, state, characters_to_bytes(text), out);
    case Kind::kByteFallback:
      return feed_byte_fallback(index, state, text, out);
    case Kind::kFuse:
      return feed(index + 1, state, text, out);
    case Kind::kReplace:
      return feed(index + 1, state, replace_all(text, *step.pattern, step.content), out);
    case Kind::kStrip:
      return feed_strip(index, state, text, out);
    case Kind::kMetaspace:
      return feed(index + 1, state, metaspace(step, text, state.steps[index].count++ == 0), out);
  }
}

void Decoder::flush(std::size_t index, DecoderState& state, std::string& out) const {
  std::string held = std::move(state.steps[index].held);
  state.steps[index].held.clear();
  if (held.empty()) return;
  switch (steps_[index].kind) {
    case Kind::kByteLevel:
      return feed(index + 1, state, kReplacementCharacter, out);
    case Kind::kByteFallback: {
      // A run of byte tokens is text only as a whole.
      if (is_valid_utf8(held)) return feed(index + 1, state, held, out);
      for (std::size_t i = 0; i < held.size(); ++i)
        feed(index + 1, state, kReplacementCharacter, out);
      return;
    }
    default:
      return;  // kStrip: what it held was at the end
  }
}

// Emits whole characters, U+FFFD for what cannot become one, and holds the rest.
void Decoder::feed_bytes(std::size_t index, DecoderState& state, std::string_view bytes,
                         std::string& out) const {
  std::string pending = std::move(state.steps[index].held);
  pending += bytes;
  std::string text;
  std::size_t i = 0;
  while (i < pending.size()) {
    const Utf8Step step = decode_utf8(pending, i);
    if (step.incomplete) break;
    text += step.valid ? std::string_view(pending).substr(i, step.length) : kReplacementCharacter;
    i += step.length;
  }
  state.steps[index].held = pending.substr(i);
  feed(index + 1, state, text, out);
}

void Decoder::feed_byte_fallback(std::size_t index, DecoderState& state, std::string_view text,
                                 std::string& out) const {
  if (const int byte = spelled_byte(text); byte >= 0) {
    state.steps[index].held.push_back(static_cast<char>(byte));
    return;
  }
  flush(index, state, out);
  feed(index + 1, state, text, out);
}

void Decoder::feed_strip(std::size_t index, DecoderState& state, std::string_view text,
                         std::string& out) const {
  const Step& step = steps_[index];
  if (!step.fused) {
    text.remove_prefix(leading(text, step.content, step.strip_start));
    text.remove_suffix(trailing(text, step.content, step.strip_stop));
    return feed(index + 1, state, text, out);
  }
  DecoderState::Step& memory = state.steps[index];
  if (text.empty()) return;
  if (memory.count < step.strip_start) {
    const std::size_t bytes = leading(text, step.content, step.strip_start - memory.count);
    memory.count += bytes / step.content.size();
    text.remove_prefix(bytes);
    if (text.empty()) return;
    memory.count = step.strip_start;  // the start is over
  }
  std::string pending = std::move(memory.held);
  pending += text;
  const std::size_t hold = trailing(pending, step.content, step.strip_stop);
  memory.held = pending.substr(pending.size() - hold);
  pending.resize(pending.size() - hold);
  feed(index + 1, state, pending, out);
}

std::string Decoder::metaspace(const Step& step, std::string_view text, bool first) const {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = decode_utf8(text, i).length;
    const std::string_view character = text.substr(i, length);
    if (character != step.content) {
      out += character;
    } else if (!first || !step.drop_first) {
      out += ' ';
    }
    i += length;
  }
  return out;
}

}  // namespace lockstep
