#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lockstep/error.h"
#include "text/pre_tokenizer.h"

namespace lockstep {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<std::string> found;
  Regex(pattern, "test").for_each_match(text, [&](std::size_t begin, std::size_t end) {
    found.push_back(text.substr(begin, end - begin));
  });
  return found;
}

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Regex, MatchesAsOnigurumaDoes) {
  // Unicode's White_Space: with U+0085, without U+180E (which PCRE2's own \s has).
  EXPECT_THAT(matches(R"(\s)", "a\u0085\u180e\u3000b"), ElementsAre("\u0085", "\u3000"));
  // Vertical tab alone, not PCRE2's class of vertical spaces.
  EXPECT_THAT(matches(R"(\v)", "\n\x0b\u2028"), ElementsAre("\x0b"));
  EXPECT_THAT(matches(R"(\d+)", "1٣x²"), ElementsAre("1٣"));
  EXPECT_THAT(matches(R"(\w+)", "a_é́²Ⓐ-½ௐ৴"), ElementsAre("a_é́²Ⓐ", "½ௐ"));
  // The Script property, not Script_Extensions: U+3001 is Common though Han uses it.
  EXPECT_THAT(matches(R"(\p{Han}+)", "漢、字"), ElementsAre("漢", "字"));
  EXPECT_THAT(matches(R"(\p{^L}+)", "a1b"), ElementsAre("1"));
  EXPECT_THAT(matches(R"((?i:'s|'t)|\u0041\x{42})", "'S'ſ AB"), ElementsAre("'S", "'ſ", "AB"));
  // Ruby's ^ and $ are at every line.
  EXPECT_THAT(matches(R"(^.|.$)", "ab\ncd"), ElementsAre("a", "b", "c", "d"));
  EXPECT_THAT(matches(R"([]a])", "a]b"), ElementsAre("a", "]"));
  EXPECT_THAT(matches(R"((?<=a)b|(?<!a)c)", "abac c"), ElementsAre("b", "c"));
}

TEST(Regex, EmptyMatches) {
  EXPECT_THAT(matches("x*", "axé"), ElementsAre("", "x", ""));
  EXPECT_THAT(matches("", "é"), ElementsAre("", ""));
}

TEST(Regex, LiteralsAreNoPatterns) {
  const Regex regex = Regex::literal("a.*[", "test");
  EXPECT_FALSE(regex.find("abc[", 0));
  EXPECT_EQ(regex.find("xa.*[", 0)->begin, 1u);
}

TEST(Regex, RefusesWhatItCannotTranslate) {
  for (const char* pattern : {R"([a&&b])",
                              R"([a[bc]])",
                              R"(\h)",
                              R"(\b)",
                              R"(\R)",
                              R"((?<name>a))",
                              R"(a\1)",
                              R"(\k<a>)",
                              R"(a{2}+)",
                              R"(\p{L}{2}+)",
                              R"(a{,2})",
                              R"((?m:a))",
                              R"(a(?i)b)",
                              R"((*UTF))",
                              R"([\W])",
                              R"(\x{110000})",
                              R"(\x{}a)",
                              R"(\xff)",
                              R"(\u12)",
                              R"(\p{L)",
                              R"(\pL)",
                              R"(\p{a=b})",
                              R"(\p{NoSuchScript})",
                              "(",
                              "a)",
                              "[a",
                              "\\",
                              "(?:a{1000}){1000}{1000}",
                              "*"})
    EXPECT_THROW(Regex(pattern, "file.json"), Error) << pattern;
  EXPECT_THROW(Regex(std::string(20000, 'a'), "file.json"), Error);
  try {
    Regex("a[b", "file.json");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("file.json"));
    EXPECT_THAT(error.what(), HasSubstr("a[b"));
  }
}

// No match is found, but only after more steps than anybody can wait for.
TEST(Regex, RunawayPatternsEnd) {
  const std::string text = std::string(5000, 'a') + "c";
  for (const char* pattern : {"(?:a+)+[bd]", "(?:a|a)+[bd]", "(?:a*)*[bd]", "(?:a{1,30})+[bd]"}) {
    const Regex regex(pattern, "file.json");
    try {
      regex.find(text, 0);
      ADD_FAILURE() << pattern;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("file.json"));
    }
  }
}

// The expressions of real tokenizers go through long texts of any kind.
TEST(Regex, LongTexts) {
  for (const char* unit : {"a", " ", "\n", "é", "漢", "1", "-", " \n", "a ", "\u0301"}) {
    std::string text;
    while (text.size() < 300'000) text += unit;
    std::size_t total = 0;
    const auto words = PreTokenizer::byte_level(
        {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{M}]*[\p{Ll}\p{M}]+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
         kGpt2Words},
        "test");
    for (const std::string& word : words.apply(text, true)) total += word.size();
    EXPECT_GE(total, text.size()) << unit;
  }
}

}  // namespace
}  // namespace lockstep
