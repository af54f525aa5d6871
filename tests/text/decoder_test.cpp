#include "text/decoder.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lockstep/error.h"

namespace lockstep {
namespace {

// What each push() and the finish() at the end return.
std::vector<std::string> parts(const Decoder& decoder, const std::vector<std::string>& tokens) {
  std::vector<std::string> out;
  DecoderState state = decoder.start();
  for (const std::string& token : tokens) decoder.push(state, token, out.emplace_back());
  decoder.finish(state, out.emplace_back());
  return out;
}

using Parts = std::vector<std::string>;

TEST(Decoder, ByteLevelHoldsHalfCharacters) {
  const Decoder decoder = Decoder::byte_level();
  EXPECT_EQ(parts(decoder, {"aâ", "ĸ", "ģ", "Ġb"}), (Parts{"a", "", "▁", " b", ""}));
  EXPECT_EQ(parts(decoder, {"â", "ĸ", "x"}), (Parts{"", "", "\uFFFDx", ""}));
  EXPECT_EQ(parts(decoder, {"â", "ĸ"}), (Parts{"", "", "\uFFFD"}));
  EXPECT_EQ(parts(decoder, {"<|im_end|>", "a b"}), (Parts{"<|im_end|>", "a b", ""}));
}

TEST(Decoder, SentencePiece) {
  const Decoder decoder = Decoder::sentencepiece(true);
  EXPECT_EQ(parts(decoder, {"▁The", "▁cat", "▁▁s"}), (Parts{"The", " cat", "  s", ""}));
  EXPECT_EQ(parts(decoder, {"▁", "▁a"}), (Parts{"", " a", ""})) << "one space goes, not two";
  EXPECT_EQ(parts(decoder, {"a", "▁b"}), (Parts{"a", " b", ""}));
  // A run of bytes is text as a whole or not at all.
  EXPECT_EQ(parts(decoder, {"<0xE2>", "<0x96>", "<0x81>", "x"}), (Parts{"", "", "", "▁x", ""}));
  EXPECT_EQ(parts(decoder, {"<0x41>", "<0xFF>", "x"}), (Parts{"", "", "\uFFFD\uFFFDx", ""}));
  EXPECT_EQ(parts(decoder, {"x", "<0x0A>"}), (Parts{"x", "", "\n"}));
  EXPECT_EQ(parts(decoder, {"<0x20>", "<0x20>", "a"}), (Parts{"", "", " a", ""}));
  EXPECT_EQ(parts(Decoder::sentencepiece(false), {"▁a"}), (Parts{" a", ""}));
}

// Across finish() nothing is remembered.
TEST(Decoder, FinishStartsAnew) {
  const Decoder decoder = Decoder::sentencepiece(true);
  DecoderState state = decoder.start();
  for (int i = 0; i < 2; ++i) {
    std::string out;
    decoder.push(state, "▁a", out);
    decoder.push(state, "<0xE2>", out);
    decoder.finish(state, out);
    EXPECT_EQ(out, "a\uFFFD");
  }
}

Decoder from(const std::string& json) {
  return Decoder::from_json(nlohmann::json::parse(json), "test");
}

// Expectations are what Hugging Face's decoders give.
TEST(Decoder, FromJson) {
  EXPECT_EQ(parts(from(R"({"type":"Metaspace","replacement":"▁","prepend_scheme":"first"})"),
                  {"▁▁a", "▁b"}),
            (Parts{"a", " b", ""}));
  EXPECT_EQ(parts(from(R"({"type":"Metaspace","replacement":"▁","add_prefix_space":false})"),
                  {"▁a", "▁b"}),
            (Parts{" a", " b", ""}));
  EXPECT_EQ(parts(Decoder(), {"a", "b"}), (Parts{"a", " b", ""}));
  // Without Fuse, Strip works on each token.
  const std::string strip = R"({"type":"Strip","content":"x","start":1,"stop":2})";
  EXPECT_EQ(parts(from(strip), {"xxaxxx", "xb"}), (Parts{"xax", "b", ""}));
  const Decoder fused = from(R"({"type":"Sequence","decoders":[{"type":"Fuse"},)" + strip + "]}");
  EXPECT_EQ(parts(fused, {"xxa", "xx", "x"}), (Parts{"xa", "", "x", ""}));
  EXPECT_EQ(parts(fused, {"xax", "xb", "x"}), (Parts{"a", "xxb", "", ""}));
}

TEST(Decoder, RefusesOthers) {
  std::string many = R"({"type":"Sequence","decoders":[)";
  for (int i = 0; i < 100; ++i) many += R"({"type":"Fuse"},)";
  many += R"({"type":"Fuse"}]})";
  for (const std::string& json :
       {std::string(R"({"type":"WordPiece"})"), std::string("{}"), std::string("3"), many,
        std::string(R"({"type":"Strip","content":"xx","start":1,"stop":0})"),
        std::string(R"({"type":"Strip","content":"x","start":-1,"stop":0})"),
        std::string(R"({"type":"Metaspace","replacement":""})"),
        std::string(R"({"type":"Sequence","decoders":[{"type":"Fuse"},{"type":"ByteFallback"}]})")})
    EXPECT_THROW(from(json), Error) << json;
}

}  // namespace
}  // namespace lockstep
