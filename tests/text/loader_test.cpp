// What load_tokenizer() makes of the files of a directory beside the vocabulary itself, and of
// files that are broken on purpose.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "checkpoint/gguf.h"
#include "corpus.h"
#include "lockstep/error.h"
#include "text/detokenizer.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace lockstep {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

// a, b, c, ab, abc, and two added tokens.
json small_tokenizer() {
  return json::parse(R"({
    "added_tokens": [
      {"id": 5, "content": "<s>", "special": true, "normalized": false},
      {"id": 6, "content": "<tool>", "special": false, "normalized": false}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "ByteLevel"},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "abc": 4},
              "merges": ["a b", ["ab", "c"]]}})");
}

std::unique_ptr<Tokenizer> load(
    const json& tokenizer, const std::vector<std::pair<std::string, std::string>>& files = {}) {
  const std::filesystem::path folder = scratch_dir();
  write_file(folder / "tokenizer.json", tokenizer.dump());
  for (const auto& [name, content] : files) write_file(folder / name, content);
  return load_tokenizer(folder);
}

// Throws the test's failure unless loading is refused with a message that has `text` in it.
void expect_refused(const json& tokenizer, const std::string& text) {
  try {
    load(tokenizer);
    ADD_FAILURE() << "accepted: " << tokenizer.dump().substr(0, 400);
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json"));
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

TEST(Loader, Directories) {
  const std::filesystem::path folder = scratch_dir();
  EXPECT_EQ(load_tokenizer(folder), nullptr) << "no tokenizer in it";
  EXPECT_THROW(load_tokenizer(folder / "absent"), Error);
  write_file(folder / "model.gguf", "GGUF");
  EXPECT_THROW(load_tokenizer(folder / "model.gguf"), Error);
}

TEST(Loader, SmallTokenizer) {
  const auto tokenizer = load(small_tokenizer());
  EXPECT_THAT(tokenizer->encode("abcab<s>b<tool>"), ElementsAre(4, 3, 5, 1, 6));
  EXPECT_THAT(tokenizer->encode("a<s>b", true, false), ElementsAre(3))
      << "characters without a token are dropped, before anything merges";
  EXPECT_EQ(tokenizer->vocab_size(), 7);
  EXPECT_EQ(tokenizer->decode(Ids{5, 4, 6}, true), "abc<tool>");
  EXPECT_EQ(tokenizer->decode(Ids{5, 4, 6}, false), "<s>abc<tool>");
  EXPECT_TRUE(tokenizer->is_special(5));
  EXPECT_FALSE(tokenizer->is_special(6));
  EXPECT_EQ(tokenizer->bos_id(), -1);
  EXPECT_THAT(tokenizer->eos_ids(), IsEmpty());
  EXPECT_EQ(tokenizer->chat_templates().standard, "");
  for (const std::int32_t id : {-1, 7, 2'000'000'000}) {
    EXPECT_THROW(tokenizer->decode(Ids{id}), Error);
    EXPECT_THROW(tokenizer->token(id), Error);
    EXPECT_THROW(tokenizer->is_special(id), Error);
    EXPECT_THROW(Detokenizer(*tokenizer).push(id), Error);
  }
}

TEST(Loader, IdsWithoutToken) {
  json tokenizer = small_tokenizer();
  tokenizer["added_tokens"][1]["id"] = 20;
  const auto loaded = load(tokenizer);
  EXPECT_EQ(loaded->vocab_size(), 21);
  EXPECT_EQ(loaded->token(10), "");
  EXPECT_EQ(loaded->decode(Ids{0, 10, 20}), "a<tool>");
  EXPECT_EQ(loaded->id_of(""), -1);
}

TEST(Loader, ConfigNamesSpecialTokens) {
  const auto tokenizer =
      load(small_tokenizer(),
           {{"tokenizer_config.json", R"({"bos_token": {"content": "<s>"}, "eos_token": "abc",
          "add_bos_token": true, "add_eos_token": true, "pad_token": "not there",
          "additional_special_tokens": ["c"],
          "chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}],
          "added_tokens_decoder": {"7": {"content": "<new>", "special": true}}})"},
            {"generation_config.json", R"({"eos_token_id": [4, 7]})"}});
  EXPECT_EQ(tokenizer->bos_id(), 5);
  EXPECT_THAT(tokenizer->eos_ids(), ElementsAre(4, 7));
  EXPECT_THAT(tokenizer->encode("ab<new>"), ElementsAre(5, 3, 7, 4));
  EXPECT_THAT(tokenizer->encode("ab", false), ElementsAre(3));
  EXPECT_TRUE(tokenizer->is_special(2) && tokenizer->is_special(4) && tokenizer->is_special(7));
  EXPECT_FALSE(tokenizer->is_special(3));
  EXPECT_EQ(tokenizer->chat_templates().standard, "D");
  EXPECT_EQ(tokenizer->chat_templates().tool_use, "T");
}

TEST(Loader, ConfigFallbacks) {
  const auto tokenizer =
      load(small_tokenizer(), {{"special_tokens_map.json", R"({"eos_token": "<s>"})"},
                               {"tokenizer_config.json", R"({"chat_template": "A"})"},
                               {"chat_template.jinja", "B\n"},
                               {"config.json", R"({"eos_token_id": 3})"}});
  EXPECT_THAT(tokenizer->eos_ids(), ElementsAre(5, 3));
  EXPECT_EQ(tokenizer->chat_templates().standard, "B\n");
  EXPECT_THAT(tokenizer->encode("a"), ElementsAre(0));
}

TEST(Loader, BrokenConfigs) {
  for (const auto& [name, content] : std::vector<std::pair<std::string, std::string>>{
           {"tokenizer_config.json", "{"},
           {"tokenizer_config.json", R"({"add_bos_token": 1})"},
           {"tokenizer_config.json", R"({"bos_token": 3})"},
           {"tokenizer_config.json", R"({"chat_template": {}})"},
           {"tokenizer_config.json", R"({"chat_template": [{"name": 3}]})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": []})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": {"x": {"content": "y"}}})"},
           {"tokenizer_config.json", R"({"added_tokens_decoder": {"7": "y"}})"},
           {"tokenizer_config.json", R"({"additional_special_tokens": [[]]})"},
           {"generation_config.json", R"({"eos_token_id": "x"})"},
           {"generation_config.json", R"({"eos_token_id": [-1]})"},
           {"generation_config.json", R"({"eos_token_id": 1.5})"}}) {
    try {
      load(small_tokenizer(), {{name, content}});
      ADD_FAILURE() << "accepted " << name << ": " << content;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(name)) << content;
    }
  }
  // The tokens themselves are the tokenizer's, whichever file names them.
  EXPECT_THROW(load(small_tokenizer(), {{"tokenizer_config.json",
                                         R"({"added_tokens_decoder": {"3": {"content": "y"}}})"}}),
               Error);
  EXPECT_THROW(
      load(small_tokenizer(), {{"tokenizer_config.json",
                                R"({"added_tokens_decoder": {"2000000000": {"content": "y"}}})"}}),
      Error);
}

TEST(Loader, PostProcessor) {
  json tokenizer = small_tokenizer();
  tokenizer["post_processor"] = json::parse(R"({"type": "Sequence", "processors": [
      {"type": "ByteLevel"},
      {"type": "TemplateProcessing",
       "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                  {"SpecialToken": {"id": "end", "type_id": 0}}],
       "special_tokens": {"<s>": {"ids": [5]}, "end": {"ids": [6, 5]}}}]})");
  const auto loaded = load(tokenizer);
  EXPECT_THAT(loaded->encode("a"), ElementsAre(5, 0, 6, 5));
  EXPECT_THAT(loaded->encode(""), ElementsAre(5, 6, 5));
  EXPECT_THAT(loaded->encode("", false), IsEmpty());

  json broken = tokenizer;
  broken["post_processor"]["processors"][1]["special_tokens"]["<s>"]["ids"] = {7};
  expect_refused(broken, "7");
  broken = tokenizer;
  broken["post_processor"]["processors"][1]["special_tokens"].erase("end");
  expect_refused(broken, "end");
  broken = tokenizer;
  broken["post_processor"]["processors"][1]["single"].erase(1);
  expect_refused(broken, "0 times");
  broken["post_processor"] = {{"type", "BertProcessing"}};
  expect_refused(broken, "BertProcessing");
}

TEST(Loader, UnsupportedComponentsAreNamed) {
  for (const auto& [field, type] :
       std::vector<std::pair<std::string, std::string>>{{"normalizer", "Precompiled"},
                                                        {"pre_tokenizer", "UnicodeScripts"},
                                                        {"decoder", "CTC"}}) {
    json tokenizer = small_tokenizer();
    tokenizer[field] = {{"type", type}};
    expect_refused(tokenizer, type);
  }
  json tokenizer = small_tokenizer();
  tokenizer["model"]["type"] = "Unigram";
  expect_refused(tokenizer, "Unigram");
  tokenizer = small_tokenizer();
  tokenizer["model"]["dropout"] = 0.1;
  expect_refused(tokenizer, "dropout");
}

TEST(Loader, BrokenVocabularies) {
  const auto with = [](const std::string& pointer, const json& value) {
    json tokenizer = small_tokenizer();
    tokenizer[json::json_pointer(pointer)] = value;
    return tokenizer;
  };
  expect_refused(with("/model/vocab/b", 0), "two tokens");
  expect_refused(with("/model/vocab/b", -1), "-1");
  expect_refused(with("/model/vocab/b", 1.5), "1.5");
  expect_refused(with("/model/vocab/b", "x"), "'b'");
  expect_refused(with("/model/vocab/b", 2147483647), "2147483647");
  expect_refused(with("/model/vocab/b", 18446744073709551615u), "18446744073709551615");
  expect_refused(with("/model/vocab", json::array()), "vocab");
  expect_refused(with("/model/vocab", json::object()), "does not exist");
  expect_refused(with("/model", 3), "(none)");
  expect_refused(with("/model/merges", 3), "merges");
  expect_refused(with("/model/merges/0", "a x"), "\"x\"");
  expect_refused(with("/model/merges/0", "b a"), "\"ba\"");
  expect_refused(with("/model/merges/0", "ab"), "one space");
  expect_refused(with("/model/merges/0", "a b c"), "one space");
  expect_refused(with("/model/merges/0", json::array({"a"})), "pair");
  expect_refused(with("/model/merges/0", json::array({"a", 3})), "pair");
  expect_refused(with("/added_tokens/0/id", 3), "two tokens");
  expect_refused(with("/added_tokens/0/content", "ab"), "two ids");
  expect_refused(with("/added_tokens/0/content", 3), "content");
  expect_refused(with("/added_tokens/0/special", 3), "special");
  expect_refused(with("/added_tokens", 3), "added_tokens");
  expect_refused(with("/pre_tokenizer", json::parse(R"({"type": "Split", "behavior": "Isolated",
      "pattern": {"Regex": "(a"}, "invert": false})")),
                 "(a");
  json unknown = with("/model/unk_token", "<none>");
  EXPECT_THROW(load(unknown)->encode("x"), Error);
}

TEST(Loader, BrokenJson) {
  const std::filesystem::path folder = scratch_dir();
  const std::string good = small_tokenizer().dump();
  const auto refused = [&](const std::string& content) {
    write_file(folder / "tokenizer.json", content);
    EXPECT_THROW(load_tokenizer(folder), Error) << content.substr(0, 200);
  };
  for (std::size_t size = 0; size < good.size(); ++size) refused(good.substr(0, size));
  refused(std::string(100'000, '['));
  refused(R"({"model": {"type": "BPE", "vocab": {"a": 0, "a": 1}, "merges": []}})");
  refused("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\xff\": 0}, \"merges\": []}}");
  std::string nested;
  for (int i = 0; i < 60; ++i) nested += R"({"type":"Sequence","normalizers":[)";
  refused(R"({"normalizer":)" + nested);
}

// Bytes changed at random: an error or a tokenizer that works, never a crash.
TEST(Loader, MutatedFiles) {
  std::mt19937 random(1);
  const std::filesystem::path folder = scratch_dir();
  for (const auto& [source, name] : std::vector<std::pair<std::string, std::string>>{
           {"sentencepiece/tokenizer.model", "tokenizer.model"},
           {"gguf_llama/vocabulary.gguf", "vocabulary.gguf"},
           {"gguf_qwen2/vocabulary.gguf", "vocabulary.gguf"},
           {"splits/tokenizer.json", "tokenizer.json"},
           {"llama2/tokenizer.json", "tokenizer.json"}}) {
    const std::string good = read_bytes(golden_dir() / source);
    std::filesystem::remove_all(folder);
    std::filesystem::create_directories(folder);
    for (int i = 0; i < 60; ++i) {
      std::string bytes = good;
      const int changes = 1 + static_cast<int>(random() % 4);
      for (int c = 0; c < changes; ++c) {
        // The head and the tail hold most of what is not vocabulary.
        const std::size_t range =
            i % 2 == 0 ? bytes.size() : std::min<std::size_t>(600, bytes.size());
        const std::size_t at = i % 4 == 1 ? bytes.size() - 1 - random() % range : random() % range;
        bytes[at] = static_cast<char>(random());
      }
      if (i % 8 == 7) bytes.resize(random() % bytes.size());
      write_file(folder / name, bytes);
      try {
        const auto tokenizer = load_tokenizer(name == "vocabulary.gguf" ? folder / name : folder);
        const Ids ids = tokenizer->encode("The cat, 12 <s> é 漢 \xff x");
        tokenizer->decode(ids);
      } catch (const Error&) {
      }
    }
  }
}

TEST(Loader, SentencePieceIsRefusedWithRules) {
  const std::filesystem::path folder = scratch_dir();
  const std::string model = read_bytes(golden_dir() / "sentencepiece/tokenizer.model");
  // normalizer_spec { precompiled_charsmap: "xyz" }
  write_file(folder / "tokenizer.model", model + std::string("\x1a\x05\x12\x03xyz", 7));
  EXPECT_THROW(load_tokenizer(folder), Error);
  write_file(folder / "tokenizer.model", model + "\x1a\x7f");
  EXPECT_THROW(load_tokenizer(folder), Error);
  write_file(folder / "tokenizer.model", "");
  EXPECT_THROW(load_tokenizer(folder), Error);
  write_file(folder / "tokenizer.model", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
  EXPECT_THROW(load_tokenizer(folder), Error);
}

TEST(Loader, RealSpecialTokens) {
  const auto mistral = load_tokenizer(asset("mistral-v3"));
  EXPECT_EQ(mistral->bos_id(), 1);
  EXPECT_THAT(mistral->eos_ids(), ElementsAre(2));
  EXPECT_TRUE(mistral->is_special(mistral->id_of("[INST]")));
  EXPECT_EQ(mistral->vocab_size(), 32768);
  const auto smollm2 = load_tokenizer(asset("SmolLM2-135M-Instruct.Q4_1.gguf"));
  EXPECT_EQ(smollm2->bos_id(), 1);
  EXPECT_THAT(smollm2->eos_ids(), ElementsAre(2));
  EXPECT_EQ(smollm2->token(2), "<|im_end|>");
  EXPECT_THAT(smollm2->chat_templates().standard, HasSubstr("<|im_start|>"));
  EXPECT_EQ(smollm2->vocab_size(), 49152);
}

// A `llama` vocabulary: "▁", a, b, ab (unused), a user-defined token with a space in it, bytes.
GgufMetadata llama_metadata() {
  GgufMetadata metadata;
  metadata.file = "test.gguf";
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>", "▁", "a",
                                     "b",     "ab",  "▁▁X",  "é", "<|im_end|>"};
  std::vector<std::int64_t> types = {2, 3, 3, 1, 1, 1, 5, 4, 1, 3};
  std::vector<double> scores(tokens.size(), 0.0);
  scores[6] = 1.0;
  metadata.values_ = {{"tokenizer.ggml.model", std::string("llama")},
                      {"tokenizer.ggml.tokens", tokens},
                      {"tokenizer.ggml.token_type", types},
                      {"tokenizer.ggml.scores", scores},
                      {"tokenizer.ggml.bos_token_id", std::int64_t{1}},
                      {"tokenizer.ggml.eos_token_id", std::int64_t{2}}};
  return metadata;
}

TEST(Gguf, TokenTypesAndFlags) {
  GgufMetadata metadata = llama_metadata();
  PipelineTokenizer tokenizer(read_gguf_vocabulary(metadata));
  EXPECT_THAT(tokenizer.encode("ab", true, true), ElementsAre(1, 3, 4, 5))
      << "an unused piece is taken apart again";
  EXPECT_THAT(tokenizer.encode("a  Xb", true, true), ElementsAre(1, 3, 4, 7, 3, 5));
  EXPECT_THAT(tokenizer.encode("</s>a漢字b", true, true), ElementsAre(1, 2, 3, 4, 0, 5))
      << "one <unk> for a run";
  EXPECT_THAT(tokenizer.encode("a</s>", false, false), ElementsAre(3, 4, 0));
  EXPECT_THAT(tokenizer.eos_ids(), ElementsAre(2, 9));
  EXPECT_EQ(tokenizer.decode(Ids{1, 3, 4, 7, 5}, true), "a  Xb");

  metadata.values_["tokenizer.ggml.add_bos_token"] = false;
  metadata.values_["tokenizer.ggml.add_eos_token"] = true;
  metadata.values_["tokenizer.ggml.add_space_prefix"] = false;
  metadata.values_["tokenizer.ggml.eot_token_id"] = std::int64_t{8};
  PipelineTokenizer other(read_gguf_vocabulary(metadata));
  EXPECT_THAT(other.encode("a", true, true), ElementsAre(4, 2));
  EXPECT_THAT(other.eos_ids(), ElementsAre(2, 8));
  EXPECT_EQ(other.decode(Ids{3, 4}, true), " a");
}

TEST(Gguf, Refused) {
  const auto refused = [](const std::string& key, const GgufMetadata::Value& value,
                          const std::string& text) {
    GgufMetadata metadata = llama_metadata();
    metadata.values_[key] = value;
    try {
      read_gguf_vocabulary(metadata);
      ADD_FAILURE() << "accepted " << key;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("test.gguf"));
      EXPECT_THAT(error.what(), HasSubstr(text));
    }
  };
  refused("tokenizer.ggml.model", std::string("bert"), "bert");
  refused("tokenizer.ggml.model", std::string("gpt2"), "merges");
  refused("tokenizer.ggml.model", std::int64_t{3}, "tokenizer.ggml.model");
  refused("tokenizer.ggml.tokens", std::vector<std::string>{}, "tokens");
  refused("tokenizer.ggml.tokens", std::vector<std::string>{"a", "a"}, "");
  refused("tokenizer.ggml.token_type", std::vector<std::int64_t>{1}, "token_type");
  refused("tokenizer.ggml.token_type", std::vector<std::int64_t>(10, 9), "type 9");
  refused("tokenizer.ggml.scores", std::vector<double>{1}, "scores");
  refused("tokenizer.ggml.scores", std::vector<double>(10, std::nan("")), "finite");
  refused("tokenizer.ggml.bos_token_id", std::int64_t{10}, "bos_token_id");
  refused("tokenizer.ggml.eos_token_id", std::int64_t{-1}, "eos_token_id");
  GgufMetadata metadata = llama_metadata();
  metadata.values_["tokenizer.ggml.tokens"] = std::vector<std::string>(10, "\xff");
  EXPECT_THROW(read_gguf_vocabulary(metadata), Error);
  metadata = llama_metadata();
  metadata.values_["tokenizer.ggml.model"] = std::string("gpt2");
  metadata.values_["tokenizer.ggml.pre"] = std::string("unheard-of");
  EXPECT_THROW(read_gguf_vocabulary(metadata), Error);
}

// One word of a megabyte: merging is not quadratic.
TEST(Loader, LongWords) {
  for (const char* name : {"llama2", "gpt2", "sentencepiece", "gguf_llama/vocabulary.gguf"}) {
    const auto tokenizer = load_tokenizer(golden_dir() / name);
    for (const std::string unit : {"a", "the", "é", "ab漢", "="}) {
      std::string text;
      while (text.size() < 400'000) text += unit;
      const Ids ids = tokenizer->encode(text, false);
      EXPECT_EQ(tokenizer->decode(ids), text) << name << unit;
    }
  }
}

}  // namespace
}  // namespace lockstep
