#include "text/normalizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "lockstep/error.h"

namespace lockstep {
namespace {

// What Python's unicodedata.normalize() gives.
TEST(Normalizer, UnicodeForms) {
  const std::string text = "e\u0301 \u00e9 ﬁ \u1e9b\u0323 \uac00\u1100\u1161 q\u0307\u0323 Å";
  EXPECT_EQ(normalize_unicode(text, UnicodeForm::kNfc),
            "\u00e9 \u00e9 ﬁ \u1e9b\u0323 \uac00\uac00 q\u0323\u0307 \u00c5");
  EXPECT_EQ(normalize_unicode(text, UnicodeForm::kNfd),
            "e\u0301 e\u0301 ﬁ \u017f\u0323\u0307 \u1100\u1161\u1100\u1161 q\u0323\u0307 A\u030a");
  EXPECT_EQ(normalize_unicode(text, UnicodeForm::kNfkc),
            "\u00e9 \u00e9 fi \u1e69 \uac00\uac00 q\u0323\u0307 \u00c5");
  EXPECT_EQ(normalize_unicode(text, UnicodeForm::kNfkd),
            "e\u0301 e\u0301 fi s\u0323\u0307 \u1100\u1161\u1100\u1161 q\u0323\u0307 A\u030a");
  EXPECT_EQ(normalize_unicode("\ufdfa", UnicodeForm::kNfkc), "صلى الله عليه وسلم");
  EXPECT_EQ(normalize_unicode(std::string("a\0b", 3), UnicodeForm::kNfc), std::string("a\0b", 3));
}

// Half a million marks in the wrong order; a quadratic sort would not come back.
TEST(Normalizer, LongRunsOfMarks) {
  std::string text = "a";
  std::string expected = "a";
  for (int i = 0; i < 250'000; ++i) text += "\u0316\u0334";
  for (int i = 0; i < 250'000; ++i) expected += "\u0334";
  for (int i = 0; i < 250'000; ++i) expected += "\u0316";
  EXPECT_EQ(normalize_unicode(text, UnicodeForm::kNfc), expected);
}

std::string apply(const char* json, std::string_view text) {
  return Normalizer::from_json(nlohmann::json::parse(json), "test")
      .apply(MarkedText(text, true))
      .bytes();
}

TEST(Normalizer, Steps) {
  EXPECT_EQ(apply(R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
                      {"type":"Replace","pattern":{"String":" "},"content":"▁"}]})",
                  "a b"),
            "▁a▁b");
  EXPECT_EQ(apply(R"({"type":"Prepend","prepend":"x"})", ""), "");
  EXPECT_EQ(apply(R"({"type":"Replace","pattern":{"Regex":"a+"},"content":"."})", "baac"), "b.c");
  EXPECT_EQ(apply(R"({"type":"Strip","strip_left":true,"strip_right":true})", " \u3000a b\n"),
            "a b");
  EXPECT_EQ(apply(R"({"type":"Strip","strip_left":true,"strip_right":false})", "  a "), "a ");
  EXPECT_EQ(apply(R"({"type":"Strip","strip_left":false,"strip_right":true})", " a "), " a");
  EXPECT_EQ(apply(R"({"type":"Strip"})", " \n"), "");
}

TEST(Normalizer, RefusesOthers) {
  for (const char* json :
       {R"({"type":"Lowercase"})", R"({"type":"Precompiled"})", R"({})", R"([])", R"({"type":3})",
        R"({"type":"Replace","content":"x"})", R"({"type":"Replace","pattern":{},"content":"x"})",
        R"({"type":"Sequence"})", R"({"type":"Sequence","normalizers":[1]})",
        R"({"type":"Prepend"})"})
    EXPECT_THROW(apply(json, "a"), Error) << json;
}

}  // namespace
}  // namespace lockstep
