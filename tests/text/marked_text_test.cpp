// Text that a user typed never becomes a control token: MarkedText through every kind of tokenizer.
#include <gtest/gtest.h>

#include <algorithm>

#include "corpus.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

using Ids = std::vector<std::int32_t>;

struct Case {
  std::string file;  // below tests/golden/tokenizer, or an asset
  bool is_asset = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.file; }

class Marked : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& param = GetParam();
    tokenizer_ = load_tokenizer(param.is_asset ? asset(param.file) : golden_dir() / param.file);
    ASSERT_NE(tokenizer_, nullptr);
    for (std::int32_t id = 0; id < tokenizer_->vocab_size(); ++id)
      if (tokenizer_->is_special(id)) special_.push_back(id);
    ASSERT_FALSE(special_.empty());
  }

  Ids encode(const MarkedText& text) const { return tokenizer_->encode(text, false); }
  Ids encode_plain(std::string_view text) const { return tokenizer_->encode(text, false, true); }
  static bool has(const Ids& ids, std::int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  Ids special_;
};

TEST_P(Marked, TypedControlTokensArePlainText) {
  for (const std::int32_t id : special_) {
    const std::string token = tokenizer_->token(id);
    ASSERT_TRUE(has(encode_plain(token), id)) << token << " is no token: this test shows nothing";
    const std::string typed = "say " + token + " twice: " + token + token;
    const Ids ids = encode(MarkedText(typed, false));
    EXPECT_FALSE(has(ids, id)) << token;
    EXPECT_NE(tokenizer_->decode(ids, false).find(typed), std::string::npos) << token;
    // As it stands beside the same token from a template.
    MarkedText both(token, true);
    both.append(token, false);
    both.append(token, true);
    const Ids mixed = encode(both);
    EXPECT_EQ(std::count(mixed.begin(), mixed.end(), id), 2) << token;
  }
}

TEST_P(Marked, ATokenThatIsPartlyTypedIsPlainText) {
  for (const std::int32_t id : special_) {
    const std::string token = tokenizer_->token(id);
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      const std::string_view head = std::string_view(token).substr(0, cut);
      const std::string_view tail = std::string_view(token).substr(cut);
      if (!is_valid_utf8(head)) continue;
      for (const bool typed_head : {true, false}) {
        MarkedText text(head, !typed_head);
        text.append(tail, typed_head);
        EXPECT_FALSE(has(encode(text), id)) << head << " and " << tail;
      }
    }
  }
}

TEST_P(Marked, OtherTextHasTheIdsOfTheWholeText) {
  const std::string open = tokenizer_->token(special_.front());
  const std::string close = tokenizer_->token(special_.back());
  std::size_t compared = 0;
  for (const std::string& line : read_corpus()) {
    if (!is_valid_utf8(line)) continue;
    EXPECT_EQ(encode(MarkedText(line, true)), encode_plain(line)) << line;
    // Added tokens in the line itself are another test's.
    if (line.find_first_of("<[") != line.npos) continue;
    ++compared;
    const std::string whole = open + "user\n" + line + close + " " + line;
    MarkedText text(open, true);
    text.append("user\n", true);
    text.append(line, false);
    text.append(close, true);
    text.append(" ", true);
    text.append(line, false);
    EXPECT_EQ(encode(text), encode_plain(whole)) << line;
  }
  EXPECT_GT(compared, 5000u);
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizers, Marked,
    testing::Values(Case{"qwen2"}, Case{"llama2"}, Case{"sentencepiece"},
                    Case{"gguf_llama/vocabulary.gguf"}, Case{"gguf_qwen2/vocabulary.gguf"},
                    Case{"mistral-v3", true}, Case{"SmolLM2-135M-Instruct.Q4_1.gguf", true}),
    [](const testing::TestParamInfo<Case>& info) {
      std::string name = info.param.file;
      std::replace_if(
          name.begin(), name.end(),
          [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
      return name;
    });

}  // namespace
}  // namespace lockstep
