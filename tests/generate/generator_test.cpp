// Generator on tiny models: what comes out, and when it ends.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "generate/logprobs.h"
#include "generate/test_model.h"

namespace lockstep::test {
namespace {

using testing::IsEmpty;
using Ids = std::vector<std::int32_t>;

std::string text_of(const std::vector<Token>& tokens) {
  std::string text;
  for (const Token& token : tokens) text += token.text;
  return text;
}

TEST(Generator, TheFirstTokenIsTheModelsMostProbable) {
  // The golden logits' argmax after every beginning of the golden tokens.
  for (const char* name : {"llama", "llama_odd", "qwen2"}) {
    const auto file = golden_model(name) / "expected.safetensors";
    const auto ids = read_tensor<std::int32_t>(file, "input_ids");
    const auto logits = read_tensor<float>(file, "logits");
    const std::size_t vocab_size = logits.size() / ids.size();
    Generator generator(load_golden(name, 2));
    std::vector<Prompt> prompts;
    for (std::size_t length = 1; length <= ids.size(); ++length)
      prompts.emplace_back(Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(length)));
    const auto completions = generator.generate(prompts, greedy(1));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto row = logits.begin() + static_cast<std::ptrdiff_t>(i * vocab_size);
      const auto best = std::max_element(row, row + static_cast<std::ptrdiff_t>(vocab_size)) - row;
      EXPECT_EQ(ids_of(completions[i]), Ids{static_cast<std::int32_t>(best)})
          << name << ", " << i + 1 << " tokens";
    }
  }
}

// Ends of all kinds, more requests than slots, and one slot after the other reused.
TEST(Generator, StepsAheadChangeNothing) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const Model model = tiny.load(2);
  const auto params = [](int i) {
    SamplingParams params = drawn(1 + 7 * i % 40, static_cast<std::uint64_t>(i));
    if (i % 2 == 0) params.ignore_eos = false;
    if (i % 3 == 0) params.stop_token_ids = {tiny_id("a"), tiny_id("b"), tiny_id("c")};
    if (i % 4 == 0) params.logprobs = 3;
    if (i % 5 == 0) params.stop = {"d", "e"};
    if (i % 6 == 0) params.repetition_penalty = 1.3f;
    if (i % 7 == 0) params.top_k = 20;
    return params;
  };
  const auto run = [&](int steps_ahead) {
    Generator generator(model,
                        {.max_batch_size = 3, .prefill_chunk = 5, .steps_ahead = steps_ahead});
    std::vector<TokenStream> streams;
    for (int i = 0; i < 40; ++i)
      streams.push_back(generator.stream(some_ids(1 + i % 13, i), params(i)));
    std::vector<Completion> completions;
    for (TokenStream& stream : streams) completions.push_back(stream.completion());
    return completions;
  };
  const std::vector<Completion> expected = run(0), found = run(1);
  std::set<FinishReason> reasons;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(i);
    reasons.insert(expected[i].finish_reason);
    EXPECT_EQ(found[i].text, expected[i].text);
    EXPECT_EQ(found[i].finish_reason, expected[i].finish_reason);
    EXPECT_EQ(found[i].stop_string, expected[i].stop_string);
    ASSERT_EQ(ids_of(found[i]), ids_of(expected[i]));
    for (std::size_t t = 0; t < expected[i].tokens.size(); ++t) {
      EXPECT_EQ(found[i].tokens[t].logprob, expected[i].tokens[t].logprob);
      EXPECT_EQ(found[i].tokens[t].top_logprobs.size(), expected[i].tokens[t].top_logprobs.size());
    }
  }
  EXPECT_EQ(reasons.size(), 2u);
}

TEST(Generator, LogprobsAreThoseOfTheGoldenLogits) {
  const auto file = golden_model("llama") / "expected.safetensors";
  const auto ids = read_tensor<std::int32_t>(file, "input_ids");
  const auto logits = read_tensor<float>(file, "logits");
  const std::size_t vocab_size = logits.size() / ids.size();
  Generator generator(load_golden("llama", 4));
  SamplingParams params = drawn(1, 3);
  params.logprobs = 6;
  params.temperature = 3;  // log-probabilities are from before temperature and penalties
  params.repetition_penalty = 2;
  for (std::size_t length : {std::size_t{1}, std::size_t{17}, ids.size()}) {
    const std::vector<float> row(logits.data() + (length - 1) * vocab_size,
                                 logits.data() + length * vocab_size);
    double sum = 0;
    for (float logit : row) sum += std::exp(static_cast<double>(logit));
    const Completion completion = generator.generate(
        Ids(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(length)), params);
    const Token& token = completion.tokens.at(0);
    EXPECT_NEAR(*token.logprob, row[static_cast<std::size_t>(token.id)] - std::log(sum), 1e-4);
    ASSERT_EQ(token.top_logprobs.size(), 6u);
    std::vector<float> sorted = row;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    for (std::size_t i = 0; i < 6; ++i) {
      const TokenLogprob& top = token.top_logprobs[i];
      EXPECT_NEAR(top.logprob, sorted[i] - std::log(sum), 1e-4);
      EXPECT_NEAR(row[static_cast<std::size_t>(top.id)], sorted[i], 1e-4);
    }
  }
}

TEST(Generator, LogprobsOnlyForWhoAsksForThem) {
  Generator generator(load_golden("llama"));
  SamplingParams params = greedy(5);
  params.logprobs = 0;
  TokenStream with = generator.stream(some_ids(3), params);
  TokenStream without = generator.stream(some_ids(4), greedy(5));
  for (const Token& token : with.completion().tokens) {
    EXPECT_TRUE(token.logprob.has_value());
    EXPECT_THAT(token.top_logprobs, IsEmpty());
  }
  for (const Token& token : without.completion().tokens) EXPECT_FALSE(token.logprob.has_value());
}

TEST(Logprobs, EqualOnesAreInTheOrderOfTheirIds) {
  Token token;
  token.id = 2;
  const std::vector<float> logits = {1, 5, 0, 5, 1};
  add_logprobs(token, logits, 4, nullptr);
  Ids ids;
  for (const TokenLogprob& top : token.top_logprobs) ids.push_back(top.id);
  EXPECT_EQ(ids, (Ids{1, 3, 0, 4}));
  const double log_sum = std::log(2 * std::exp(5.0) + 2 * std::exp(1.0) + 1);
  EXPECT_FLOAT_EQ(*token.logprob, static_cast<float>(-log_sum));
  EXPECT_FLOAT_EQ(token.top_logprobs[0].logprob, static_cast<float>(5 - log_sum));

  Token few;
  add_logprobs(few, logits, 20, nullptr);
  EXPECT_EQ(few.top_logprobs.size(), 5u);
}

TEST(Generator, TheSameTokensOnAnyNumberOfRanks) {
  for (const char* name : {"llama", "llama_odd"}) {
    const auto tokens = [&](int ranks) {
      Generator generator(load_golden(name, ranks));
      std::vector<Ids> all;
      for (int i = 0; i < 4; ++i) {
        SamplingParams params = drawn(60, 100 + static_cast<std::uint64_t>(i));
        if (i == 0) params = greedy(60);
        if (i == 2) params.top_p = 0.9f;
        if (i == 3) params.top_k = 20, params.min_p = 0.01f, params.frequency_penalty = 0.5f;
        all.push_back(ids_of(generator.generate(some_ids(1 + 5 * i, i), params)));
      }
      return all;
    };
    const std::vector<Ids> one = tokens(1);
    for (const Ids& ids : one) EXPECT_EQ(ids.size(), 60u);
    for (int ranks : {2, 3, 4, 8}) EXPECT_EQ(tokens(ranks), one) << name << ", " << ranks;
  }
}

TEST(Generator, SeedsDecideWhatIsDrawn) {
  Generator generator(load_golden("llama"));
  std::set<Ids> texts;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Ids ids = ids_of(generator.generate(some_ids(3), drawn(20, seed)));
    EXPECT_EQ(ids_of(generator.generate(some_ids(3), drawn(20, seed))), ids);
    texts.insert(ids);
  }
  EXPECT_EQ(texts.size(), 20u);
  SamplingParams unseeded = drawn(40, 0);
  unseeded.seed.reset();
  EXPECT_NE(ids_of(generator.generate(some_ids(3), unseeded)),
            ids_of(generator.generate(some_ids(3), unseeded)));
  // So small a temperature is greedy; dividing by it would overflow.
  SamplingParams cold = drawn(40, 1);
  cold.temperature = 1e-42f;
  EXPECT_EQ(ids_of(generator.generate(some_ids(3), cold)),
            ids_of(generator.generate(some_ids(3), greedy(40))));
}

TEST(Generator, ABatchIsItsPromptsOneByOneWhateverTheLimits) {
  const Model model = load_golden("mistral_window", 2);
  std::vector<Prompt> prompts;
  std::vector<Ids> alone;
  Generator single(model, {.max_batch_size = 1});
  for (int i = 0; i < 7; ++i) {
    prompts.emplace_back(some_ids(1 + 7 * i, i));
    alone.push_back(ids_of(single.generate(prompts.back(), drawn(30, 5))));
  }
  for (int max_batch_size : {1, 3, 16})
    for (int prefill_chunk : {1, 5, 512}) {
      Generator generator(model,
                          {.max_batch_size = max_batch_size, .prefill_chunk = prefill_chunk});
      std::vector<Ids> together;
      for (const Completion& completion : generator.generate(prompts, drawn(30, 5)))
        together.push_back(ids_of(completion));
      EXPECT_EQ(together, alone) << "batches of " << max_batch_size << ", chunks of "
                                 << prefill_chunk;
    }
  EXPECT_THAT(single.generate(std::vector<Prompt>{}), IsEmpty());
}

TEST(Generator, AStreamIsARangeOfTheSameTokens) {
  TinyModel tiny;
  tiny.add_tokenizer();
  Generator generator(tiny.load(2));
  const Completion whole = generator.generate("abc", drawn(50, 9));
  EXPECT_EQ(whole.text, text_of(whole.tokens));
  EXPECT_FALSE(whole.text.empty());
  EXPECT_EQ(whole.prompt_tokens, 3);

  std::vector<Token> tokens;
  for (const Token& token : generator.stream("abc", drawn(50, 9))) tokens.push_back(token);
  EXPECT_EQ(text_of(tokens), whole.text);
  ASSERT_EQ(tokens.size(), whole.tokens.size());
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(tokens[i].id, whole.tokens[i].id);
    EXPECT_EQ(tokens[i].text, whole.tokens[i].text);
  }

  TokenStream stream = generator.stream("abc", drawn(50, 9));
  EXPECT_EQ(stream.next()->id, whole.tokens[0].id);
  EXPECT_EQ(stream.completion().text, whole.text);  // all of it, also what next() gave
  std::size_t left = 0;
  while (stream.next()) ++left;
  EXPECT_EQ(left, 49u);
  EXPECT_EQ(stream.next(), std::nullopt);
}

TEST(Generator, MaxTokensAndMaxLength) {
  const Model model = load_golden("llama");  // 128 positions
  Generator generator(model);
  EXPECT_EQ(generator.options().max_length, 128);
  for (int max_tokens : {1, 2, 33}) {
    const Completion completion = generator.generate(some_ids(4), greedy(max_tokens));
    EXPECT_EQ(std::ssize(completion.tokens), max_tokens);
    EXPECT_EQ(completion.finish_reason, FinishReason::kLength);
    EXPECT_EQ(completion.prompt_tokens, 4);
    EXPECT_EQ(completion.text, "");
  }
  EXPECT_EQ(generator.generate(some_ids(100), greedy(1 << 30)).tokens.size(), 28u);
  EXPECT_EQ(generator.generate(some_ids(127), greedy(50)).tokens.size(), 1u);

  Generator shorter(model, {.max_length = 21});  // not a multiple of a block of the cache
  const Completion cut = shorter.generate(some_ids(4), greedy(50));
  EXPECT_EQ(cut.finish_reason, FinishReason::kLength);
  EXPECT_EQ(cut.tokens.size(), 17u);
  EXPECT_EQ(ids_of(cut), ids_of(generator.generate(some_ids(4), greedy(17))));
}

TEST(Generator, EndTokens) {
  TinyModel tiny;
  tiny.add_tokenizer();
  tiny.write("generation_config.json", R"({"eos_token_id": [2, 77]})");
  Generator generator(tiny.load(3));
  SamplingParams params;
  params.temperature = 0;
  params.max_tokens = 10;
  for (std::int32_t end : {2, 77}) {  // of config.json, of generation_config.json
    params.logit_bias = {{end, 1000.0f}};
    const Completion completion = generator.generate("abc", params);
    EXPECT_EQ(ids_of(completion), Ids{end});
    EXPECT_EQ(completion.finish_reason, FinishReason::kStop);
    EXPECT_EQ(completion.text, end == 2 ? "" : "<77>");  // special tokens are not shown
    EXPECT_EQ(completion.stop_string, "");
    params.ignore_eos = true;
    EXPECT_EQ(generator.generate("abc", params).tokens.size(), 10u);
    params.ignore_eos = false;
  }
  params.logit_bias = {{50, 1000.0f}};
  params.stop_token_ids = {3, 50};
  EXPECT_EQ(ids_of(generator.generate("abc", params)), Ids{50});
  params.ignore_eos = true;  // does not concern stop_token_ids
  EXPECT_EQ(ids_of(generator.generate("abc", params)), Ids{50});
}

TEST(Generator, EndTokensOfGenerationConfigCountWithoutATokenizerAndWithoutItsDefaults) {
  TinyModel tiny;
  tiny.write("generation_config.json", R"({"eos_token_id": 77, "temperature": 0.5})");
  LoadOptions options;
  options.use_generation_config = false;
  Generator generator(tiny.load(1, options));
  SamplingParams params;
  params.logit_bias = {{77, 1000.0f}};
  EXPECT_EQ(generator.generate(some_ids(3), params).tokens.size(), 1u);
}

TEST(Generator, AStopStringEndsTheTextWhereverItsTokensBorder) {
  TinyModel tiny;
  tiny.add_tokenizer();
  Generator generator(tiny.load(2));
  SamplingParams params = drawn(60, 21);
  const Completion whole = generator.generate("abc", params);
  ASSERT_GT(whole.text.size(), 40u);
  for (std::size_t begin = 0; begin + 5 < whole.text.size(); begin += 3) {
    params.stop = {"never in it", whole.text.substr(begin, 5)};
    const std::size_t at = whole.text.find(params.stop[1]);
    Completion completion = generator.generate("abc", params);
    EXPECT_EQ(completion.finish_reason, FinishReason::kStop);
    EXPECT_EQ(completion.stop_string, params.stop[1]);
    EXPECT_EQ(completion.text, whole.text.substr(0, at)) << params.stop[1];
    EXPECT_EQ(completion.text, text_of(completion.tokens));
    params.include_stop_str_in_output = true;
    EXPECT_EQ(generator.generate("abc", params).text, whole.text.substr(0, at + 5));
    params.include_stop_str_in_output = false;
  }
  // What might have become a stop string is in the text at last.
  params.stop = {whole.text.substr(whole.text.size() - 4) + "and more"};
  EXPECT_EQ(generator.generate("abc", params).text, whole.text);
}

TEST(Generator, PaddingOfTheVocabularyIsNoText) {
  TinyModel tiny;
  tiny.add_tokenizer();
  Generator generator(tiny.load());
  SamplingParams params = greedy(4);
  params.logprobs = 2;
  params.logit_bias = {{kTinyTokens + 3, 1000.0f}};
  const Completion completion = generator.generate("abc", params);
  EXPECT_EQ(ids_of(completion), Ids(4, kTinyTokens + 3));
  EXPECT_EQ(completion.text, "");
}

TEST(Generator, AFullLogitBias) {
  Generator generator(load_golden("llama", 2));
  SamplingParams params = drawn(10, 1);
  for (std::int32_t id = 0; id < 104; ++id)
    if (id != 60) params.logit_bias[id] = -INFINITY;
  EXPECT_EQ(ids_of(generator.generate(some_ids(3), params)), Ids(10, 60));
  params.logit_bias[60] = -INFINITY;  // nothing is left: that is nobody else's business
  EXPECT_EQ(generator.generate(some_ids(3), params).tokens.size(), 10u);
}

TEST(Generator, DefaultsAreTheModels) {
  TinyModel tiny;
  tiny.write("generation_config.json", R"({"temperature": 0, "max_new_tokens": 3})");
  Generator generator(tiny.load());
  const Completion completion = generator.generate(some_ids(5));
  EXPECT_LE(completion.tokens.size(), 3u);
  EXPECT_EQ(ids_of(completion)[0], ids_of(generator.generate(some_ids(5), greedy(1)))[0]);
}

TEST(Generator, TimingsAddUp) {
  Generator generator(load_golden("llama"));
  const Timings timings = generator.generate(some_ids(5), greedy(20)).timings;
  EXPECT_GE(timings.queue_seconds, 0);
  EXPECT_GT(timings.prefill_seconds, 0);
  EXPECT_GT(timings.decode_seconds, 0);
}

TEST(Generator, FinishReasonsHaveNames) {
  EXPECT_EQ(name_of(FinishReason::kStop), "stop");
  EXPECT_EQ(name_of(FinishReason::kLength), "length");
  EXPECT_EQ(name_of(FinishReason::kCancelled), "cancelled");
}

}  // namespace
}  // namespace lockstep::test
