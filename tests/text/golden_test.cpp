// Every tokenizer of tests/golden/tokenizer/ and of scripts/test-assets.sh against its reference,
// on the whole corpus. The golden files are made by scripts/golden/make_tokenizer_golden.py, which
// says what is in them.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "corpus.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

using Ids = std::vector<std::int32_t>;

const std::vector<std::string>& corpus() {
  static const std::vector<std::string> lines = read_corpus();
  return lines;
}

class Fnv1a {
 public:
  void add(std::string_view bytes) {
    for (const char c : bytes) value_ = (value_ ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  }
  void add(std::uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8)
      value_ = (value_ ^ ((number >> shift) & 0xFFu)) * 0x100000001B3u;
  }
  void add_ids(const Ids& ids) {
    add(static_cast<std::uint32_t>(ids.size()));
    for (const std::int32_t id : ids) add(static_cast<std::uint32_t>(id));
  }
  void add_text(const std::string& text) {
    add(static_cast<std::uint32_t>(text.size()));
    add(text);
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325u;
};

std::string stream(const Tokenizer& tokenizer, const Ids& ids, bool skip_special_tokens) {
  Detokenizer detokenizer(tokenizer, skip_special_tokens);
  std::string joined;
  for (const std::int32_t id : ids) {
    const std::string part = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(part)) << part;
    joined += part;
  }
  const std::string rest = detokenizer.finish();
  EXPECT_TRUE(is_valid_utf8(rest)) << rest;
  return joined + rest;
}

std::uint64_t hash_line(const Tokenizer& tokenizer, const std::string& line) {
  const Ids first = tokenizer.encode(line);
  const Ids second = tokenizer.encode(line, false, false);
  Fnv1a hash;
  hash.add_ids(first);
  hash.add_ids(second);
  hash.add_text(stream(tokenizer, first, true));
  hash.add_text(stream(tokenizer, second, false));
  return hash.value();
}

struct Case {
  std::string golden;  // folder of the golden data
  std::string file;    // what to load, within that folder
  bool is_asset = false;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.golden; }

class Golden : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const Case& param = GetParam();
    folder_ = golden_dir() / (param.is_asset ? "assets" : "") / param.golden;
    tokenizer_ = load_tokenizer(param.is_asset ? asset(param.golden) : folder_ / param.file);
    ASSERT_NE(tokenizer_, nullptr);
    golden_ = nlohmann::json::parse(read_bytes(folder_ / "samples.json"));
  }

  std::filesystem::path folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  nlohmann::json golden_;
};

// First, so that a difference shows in ids before it shows in a hash.
TEST_P(Golden, SampledIds) {
  int mismatches = 0;
  for (const auto& [key, value] : golden_["samples"].items()) {
    const std::string& line = corpus().at(std::stoul(key));
    const Ids ids = tokenizer_->encode(line);
    EXPECT_EQ(ids, value.get<Ids>()) << "line " << key << ": " << line;
    if (ids != value.get<Ids>() && ++mismatches > 5) break;
  }
}

TEST_P(Golden, EveryLine) {
  const std::string hashes = read_bytes(folder_ / "hashes.bin");
  ASSERT_GE(corpus().size(), 10000u);
  ASSERT_EQ(hashes.size(), corpus().size() * 8);
  std::vector<std::size_t> wrong;
  for (std::size_t i = 0; i < corpus().size(); ++i) {
    std::uint64_t expected = 0;
    for (std::size_t byte = 8; byte-- > 0;)
      expected = expected << 8 | static_cast<unsigned char>(hashes[i * 8 + byte]);
    if (hash_line(*tokenizer_, corpus()[i]) != expected) wrong.push_back(i);
  }
  EXPECT_EQ(wrong.size(), 0u);
  for (std::size_t i = 0; i < std::min<std::size_t>(wrong.size(), 10); ++i)
    ADD_FAILURE() << "line " << wrong[i] << ": " << corpus()[wrong[i]] << "\nids "
                  << testing::PrintToString(tokenizer_->encode(corpus()[wrong[i]]));
}

TEST_P(Golden, RandomIds) {
  for (const auto& entry : golden_["random"]) {
    const Ids ids = entry["ids"].get<Ids>();
    for (const bool skip : {false, true}) {
      const std::string expected = entry[skip ? "skipped" : "kept"];
      EXPECT_EQ(tokenizer_->decode(ids, skip), expected) << entry["ids"];
      EXPECT_EQ(stream(*tokenizer_, ids, skip), expected) << entry["ids"];
    }
  }
}

// The reverse of spelling: every token has its own id.
TEST_P(Golden, Vocabulary) {
  for (std::int32_t id = 0; id < tokenizer_->vocab_size(); ++id) {
    const std::string token = tokenizer_->token(id);
    if (token.empty()) continue;
    EXPECT_EQ(tokenizer_->id_of(token), id) << token;
  }
  EXPECT_EQ(tokenizer_->id_of("no such token"), -1);
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizers, Golden,
    testing::Values(Case{"gpt2", ""}, Case{"llama3", ""}, Case{"qwen2", ""}, Case{"smollm2", ""},
                    Case{"splits", ""}, Case{"metaspace_unk", ""}, Case{"llama2", ""},
                    Case{"llama2_metaspace", ""}, Case{"sentencepiece", ""},
                    Case{"sentencepiece_new", ""}, Case{"gguf_llama", "vocabulary.gguf"},
                    Case{"gguf_llama3", "vocabulary.gguf"}, Case{"gguf_qwen2", "vocabulary.gguf"},
                    Case{"gguf_tekken", "vocabulary.gguf"}, Case{"mistral-v1", "", true},
                    Case{"mistral-v3", "", true},
                    Case{"SmolLM2-135M-Instruct.Q4_1.gguf", "", true}),
    [](const testing::TestParamInfo<Case>& info) {
      std::string name = info.param.golden;
      for (char& c : name)
        if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
      return name;
    });

TEST(Golden, ManyThreads) {
  const auto tokenizer = load_tokenizer(golden_dir() / "splits");
  std::vector<std::vector<Ids>> results(4);
  std::vector<std::thread> threads;
  for (auto& result : results)
    threads.emplace_back([&] {
      for (std::size_t i = 0; i < 400; ++i) result.push_back(tokenizer->encode(corpus()[i * 25]));
    });
  for (std::thread& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

}  // namespace
}  // namespace lockstep
