#include "text/utf8.h"

#include <gtest/gtest.h>

#include "text/byte_level.h"

namespace lockstep {
namespace {

TEST(Utf8, EveryCodePointSurvives) {
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    std::string text;
    append_utf8(c, text);
    const Utf8Step step = decode_utf8(text, 0);
    ASSERT_TRUE(step.valid) << static_cast<std::uint32_t>(c);
    ASSERT_EQ(step.code_point, c);
    ASSERT_EQ(step.length, text.size());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Step part = decode_utf8(std::string_view(text).substr(0, cut), 0);
      ASSERT_FALSE(part.valid);
      ASSERT_TRUE(part.incomplete);
      ASSERT_EQ(part.length, cut);
    }
  }
}

// The examples of the Unicode standard, section 3.9, and what Python's decode(errors="replace")
// makes of other broken sequences.
TEST(Utf8, RepairReplacesMaximalSubparts) {
  const std::string r(kReplacementCharacter);
  EXPECT_EQ(repair_utf8("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(repair_utf8("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(repair_utf8("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(repair_utf8("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
  EXPECT_EQ(repair_utf8("a\xF0\x9F\x98"), "a" + r);
  EXPECT_EQ(repair_utf8("a\xF0\x9F\x98\x80"), "a\xF0\x9F\x98\x80");
  EXPECT_EQ(repair_utf8(""), "");
}

TEST(Utf8, Validity) {
  EXPECT_TRUE(is_valid_utf8("aé▁😀"));
  EXPECT_TRUE(is_valid_utf8(std::string_view("\0", 1)));
  EXPECT_FALSE(is_valid_utf8("\xE2\x96"));
  EXPECT_FALSE(is_valid_utf8("\xC1\xBF"));
  EXPECT_FALSE(is_valid_utf8("\x80"));
}

TEST(ByteLevel, SpellsEveryByteAndBack) {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  const std::string characters = bytes_to_characters(bytes);
  EXPECT_TRUE(is_valid_utf8(characters));
  EXPECT_EQ(characters_to_bytes(characters), bytes);
  EXPECT_EQ(bytes_to_characters(" a\n"), "ĠaĊ");
  EXPECT_EQ(bytes_to_characters("\xAD\xFF"), "Ńÿ");
  EXPECT_EQ(characters_to_bytes("Ġx y"), "Ġx y") << "a space is no such character: taken as it is";
}

}  // namespace
}  // namespace lockstep
