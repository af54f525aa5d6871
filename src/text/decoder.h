// Tokens back to text, token by token: the `decoder` of tokenizer.json as a chain of transducers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/regex.h"

namespace lockstep {

// What a chain of steps remembers between tokens. Belongs to one stream.
struct DecoderState {
  struct Step {
    std::string held;       // not yet certain
    std::size_t count = 0;  // tokens, or stripped characters, so far
  };
  std::vector<Step> steps;
};

// Immutable and thread-safe; the state is the caller's. Decoding a list of tokens at once is the
// same as pushing them one by one, so streamed text joins to exactly the decoded text.
class Decoder {
 public:
  // No decoder: the tokens with a space between them, as Hugging Face does it.
  Decoder();
  // Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace; others throw Error naming
  // `source`.
  static Decoder from_json(const nlohmann::json& json, const std::string& source);
  static Decoder byte_level();
  // Llama's: "▁" to a space, byte tokens to text, and the first space dropped when `strip_space`.
  static Decoder sentencepiece(bool strip_space);

  DecoderState start() const { return {std::vector<DecoderState::Step>(steps_.size())}; }
  // Appends to `out` the text that became certain with `token`: whole characters.
  void push(DecoderState& state, std::string_view token, std::string& out) const;
  // Appends what was held back, and starts anew.
  void finish(DecoderState& state, std::string& out) const;

 private:
  enum class Kind : std::uint8_t {
    kJoin,
    kByteLevel,
    kByteFallback,
    kFuse,
    kReplace,
    kStrip,
    kMetaspace,
  };
  struct Step {
    Kind kind;
    std::optional<Regex> pattern = {};  // kReplace
    std::string content = {};           // kReplace: what is put; kStrip, kMetaspace: the character
    std::size_t strip_start = 0;        // kStrip: most characters at either end
    std::size_t strip_stop = 0;
    bool drop_first = false;  // kMetaspace: the first token loses its prefix
    bool fused = false;       // what arrives are parts of one string, not tokens
  };
  void add(const nlohmann::json& json, const std::string& source);
  void add_step(Step step, const std::string& source);
  void feed(std::size_t step, DecoderState& state, std::string_view text, std::string& out) const;
  void flush(std::size_t step, DecoderState& state, std::string& out) const;
  void feed_bytes(std::size_t step, DecoderState& state, std::string_view text,
                  std::string& out) const;
  void feed_byte_fallback(std::size_t step, DecoderState& state, std::string_view text,
                          std::string& out) const;
  void feed_strip(std::size_t step, DecoderState& state, std::string_view text,
                  std::string& out) const;
  std::string metaspace(const Step& step, std::string_view text, bool first) const;

  std::vector<Step> steps_;
};

}  // namespace lockstep
