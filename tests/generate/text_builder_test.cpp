// TextBuilder: what is released when, and where stop strings end the text.
#include "generate/text_builder.h"

#include <gtest/gtest.h>

#include "generate/test_model.h"

namespace lockstep::test {
namespace {

class TextBuilderTest : public testing::Test {
 protected:
  TextBuilderTest() {
    model_.add_tokenizer();
    tokenizer_ = load_tokenizer(model_.path());
  }

  // What each push() gives, then what finish() gives.
  std::vector<std::string> pieces(const std::vector<std::string>& tokens) {
    TextBuilder builder(tokenizer_.get(), params_);
    std::vector<std::string> result;
    for (const std::string& token : tokens) result.push_back(builder.push(tiny_id(token)));
    result.push_back(builder.finish());
    stopped_by_ = builder.stopped_by() ? *builder.stopped_by() : "";
    return result;
  }

  using Pieces = std::vector<std::string>;
  TinyModel model_;
  std::unique_ptr<Tokenizer> tokenizer_;
  SamplingParams params_;
  std::string stopped_by_;
};

TEST_F(TextBuilderTest, WithoutStopStringsEveryTokensTextComesAtOnce) {
  EXPECT_EQ(pieces({"a", "ab", " ", "END"}), (Pieces{"a", "ab", " ", "END", ""}));
  EXPECT_EQ(stopped_by_, "");
}

TEST_F(TextBuilderTest, HalfACharacterIsWithheld) {
  EXPECT_EQ(pieces({"a", "\xc3", "\xa9", "b"}), (Pieces{"a", "", "é", "b", ""}));
  EXPECT_EQ(pieces({"\xf0", "\x9f", "\x98", "\x80"}), (Pieces{"", "", "", "😀", ""}));
  EXPECT_EQ(pieces({"a", "\xc3"}), (Pieces{"a", "", "\ufffd"}));
}

TEST_F(TextBuilderTest, AStopStringWithinOneToken) {
  params_.stop = {"b"};
  EXPECT_EQ(pieces({"x", "abc"}), (Pieces{"x", "a", ""}));
  EXPECT_EQ(stopped_by_, "b");
}

TEST_F(TextBuilderTest, AStopStringAcrossTokens) {
  params_.stop = {"abcd"};
  EXPECT_EQ(pieces({"x", "a", "bc", "d", "z"}), (Pieces{"x", "", "", "", "", ""}));
  EXPECT_EQ(stopped_by_, "abcd");
}

TEST_F(TextBuilderTest, WhatTurnsOutToBeNoStopStringIsReleased) {
  params_.stop = {"abcd"};
  EXPECT_EQ(pieces({"a", "bc", "x", "a"}), (Pieces{"", "", "abcx", "", "a"}));
  EXPECT_EQ(stopped_by_, "");
  // After a false start the true one is found: "ababcd".
  EXPECT_EQ(pieces({"ab", "ab", "c", "d"}), (Pieces{"", "ab", "", "", ""}));
  EXPECT_EQ(stopped_by_, "abcd");
}

TEST_F(TextBuilderTest, AStopStringThatOverlapsItself) {
  params_.stop = {"aab"};
  EXPECT_EQ(pieces({"a", "a", "a", "a", "b", "c"}), (Pieces{"", "", "a", "a", "", "", ""}));
  EXPECT_EQ(stopped_by_, "aab");
}

TEST_F(TextBuilderTest, OfSeveralStopStringsTheEarliestCounts) {
  params_.stop = {"c", "bc", "abcz"};
  EXPECT_EQ(pieces({"x", "abc"}), (Pieces{"x", "a", ""}));
  EXPECT_EQ(stopped_by_, "bc");
  // "ab" may become "abcz", and "a" of it is certain only when it does not.
  EXPECT_EQ(pieces({"ab", "b", "c"}), (Pieces{"", "ab", "", ""}));
  EXPECT_EQ(stopped_by_, "bc");
}

TEST_F(TextBuilderTest, OfTwoThatBeginTogetherTheFirstGivenCounts) {
  params_.stop = {"ab", "abc"};
  pieces({"abc"});
  EXPECT_EQ(stopped_by_, "ab");
  params_.stop = {"abc", "ab"};
  pieces({"abc"});
  EXPECT_EQ(stopped_by_, "abc");
}

TEST_F(TextBuilderTest, TheStopStringItselfOnRequest) {
  params_.stop = {"bc"};
  params_.include_stop_str_in_output = true;
  EXPECT_EQ(pieces({"a", "b", "c", "d"}), (Pieces{"a", "", "bc", "", ""}));
  EXPECT_EQ(pieces({"abc", "d"}), (Pieces{"abc", "", ""}));
}

TEST_F(TextBuilderTest, AStopStringOfSeveralBytesInSeveralTokens) {
  params_.stop = {"é"};
  EXPECT_EQ(pieces({"a", "\xc3", "\xa9", "b"}), (Pieces{"a", "", "", "", ""}));
  EXPECT_EQ(stopped_by_, "é");
}

TEST_F(TextBuilderTest, WhatIsLeftAtTheEndMayHoldAStopString) {
  params_.stop = {"\ufffd"};
  EXPECT_EQ(pieces({"a", "\xc3"}), (Pieces{"a", "", ""}));
  EXPECT_EQ(stopped_by_, "\ufffd");
}

TEST_F(TextBuilderTest, SpecialTokens) {
  EXPECT_EQ(pieces({"a", "</s>", "b"}), (Pieces{"a", "", "b", ""}));
  params_.skip_special_tokens = false;
  EXPECT_EQ(pieces({"a", "</s>", "b"}), (Pieces{"a", "</s>", "b", ""}));
  params_.stop = {"/s>b"};
  EXPECT_EQ(pieces({"a", "</s>", "b"}), (Pieces{"a", "<", "", ""}));
}

TEST_F(TextBuilderTest, IdsThatNoTokenHasAreNoText) {
  TextBuilder builder(tokenizer_.get(), params_);
  EXPECT_EQ(builder.push(kTinyTokens), "");
  EXPECT_EQ(builder.push(1 << 20), "");
  EXPECT_EQ(builder.push(tiny_id("a")), "a");
}

TEST_F(TextBuilderTest, WithoutATokenizerThereIsNoText) {
  TextBuilder builder(nullptr, params_);
  EXPECT_EQ(builder.push(5), "");
  EXPECT_EQ(builder.finish(), "");
  EXPECT_EQ(builder.stopped_by(), nullptr);
}

}  // namespace
}  // namespace lockstep::test
