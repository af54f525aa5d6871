// Generator: cancellation, company, wrong use and failing ranks.
#include <gmock/gmock.h>

#include <atomic>
#include <limits>
#include <thread>

#include "generate/test_model.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using Ids = std::vector<std::int32_t>;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The first of `whole`, and not all of them.
void expect_cut_short(const Completion& completion, const Ids& whole) {
  EXPECT_EQ(completion.finish_reason, FinishReason::kCancelled);
  const Ids ids = ids_of(completion);
  ASSERT_LT(ids.size(), whole.size());
  EXPECT_TRUE(std::equal(ids.begin(), ids.end(), whole.begin()));
}

class CancelTest : public testing::Test {
 protected:
  CancelTest() : model_(load_golden("llama", 2)) {
    Generator generator(model_);
    whole_ = ids_of(generator.generate(some_ids(30), greedy(90)));
  }

  Model model_;
  Ids whole_;
};

TEST_F(CancelTest, CancelWhileItGenerates) {
  Generator generator(model_);
  int cut_short = 0;
  for (int i = 0; i < 20; ++i) {
    TokenStream stream = generator.stream(some_ids(30), greedy(90));
    ASSERT_EQ(stream.next()->id, whole_[0]);
    stream.cancel();
    const Completion& completion = stream.completion();
    if (completion.finish_reason == FinishReason::kLength) continue;  // it was done even before
    expect_cut_short(completion, whole_);
    ++cut_short;
  }
  EXPECT_GT(cut_short, 0);
  EXPECT_EQ(ids_of(generator.generate(some_ids(30), greedy(90))), whole_);
}

TEST_F(CancelTest, CancelInTheMiddleOfThePrompt) {
  Generator generator(model_, {.max_batch_size = 1, .prefill_chunk = 1});
  Hold hold(model_);
  TokenStream stream = generator.stream(some_ids(30), greedy(90));
  stream.cancel();
  hold.release();
  EXPECT_EQ(stream.completion().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(stream.next(), std::nullopt);
  EXPECT_EQ(ids_of(generator.generate(some_ids(30), greedy(90))), whole_);
}

TEST_F(CancelTest, CancelInTheQueue) {
  Generator generator(model_, {.max_batch_size = 1});
  Hold hold(model_);
  TokenStream first = generator.stream(some_ids(30), greedy(90));
  TokenStream second = generator.stream(some_ids(30), greedy(90));
  TokenStream third = generator.stream(some_ids(30), greedy(90));
  second.cancel();
  hold.release();
  EXPECT_EQ(second.next(), std::nullopt);
  EXPECT_EQ(second.completion().finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(second.completion().prompt_tokens, 30);
  EXPECT_EQ(ids_of(first.completion()), whole_);
  EXPECT_EQ(ids_of(third.completion()), whole_);
}

TEST_F(CancelTest, WhoIsCancelledInTheQueueDoesNotWaitForASlot) {
  Generator generator(model_, {.max_batch_size = 1});
  int at_once = 0;
  for (int i = 0; i < 20; ++i) {
    TokenStream running = generator.stream(some_ids(30), greedy(90));
    TokenStream waiting = generator.stream(some_ids(30), greedy(90));
    waiting.cancel();
    waiting.completion();
    running.cancel();
    at_once += running.completion().finish_reason == FinishReason::kCancelled;
  }
  EXPECT_GT(at_once, 0);
}

TEST_F(CancelTest, DestroyingAStreamCancelsIt) {
  Generator generator(model_, {.max_batch_size = 1});
  Hold hold(model_);
  std::vector<TokenStream> streams;
  for (int i = 0; i < 20; ++i) streams.push_back(generator.stream(some_ids(30), greedy(90)));
  TokenStream last = generator.stream(some_ids(30), greedy(90));
  streams.clear();
  hold.release();
  EXPECT_EQ(ids_of(last.completion()), whole_);
  last = generator.stream(some_ids(30), greedy(90));
  EXPECT_EQ(last.next()->id, whole_[0]);
  last = generator.stream(some_ids(30), greedy(1));  // the one before is cancelled
  EXPECT_EQ(ids_of(last.completion()), Ids{whole_[0]});
}

TEST_F(CancelTest, AStopTokenCancelsAWholeBatch) {
  Generator generator(model_, {.max_batch_size = 2});
  std::stop_source source;
  // So many that they cannot be done before the stop is seen.
  const std::vector<Prompt> prompts(40, some_ids(30));
  std::vector<Completion> completions;
  Hold hold(model_);
  std::jthread caller(
      [&] { completions = generator.generate(prompts, greedy(90), source.get_token()); });
  source.request_stop();
  hold.release();
  caller.join();
  ASSERT_EQ(completions.size(), prompts.size());
  expect_cut_short(completions.back(), whole_);
  // A stop that was requested before.
  completions = generator.generate(prompts, greedy(90), source.get_token());
  ASSERT_EQ(completions.size(), prompts.size());
  expect_cut_short(completions.back(), whole_);
  // One that never is.
  EXPECT_EQ(ids_of(generator.generate(some_ids(30), greedy(90), std::stop_source().get_token())),
            whole_);
}

TEST_F(CancelTest, DestroyingTheGeneratorCancelsWhatRunsAndWhatWaits) {
  std::vector<TokenStream> streams;
  {
    Generator generator(model_, {.max_batch_size = 2});
    for (int i = 0; i < 40; ++i) streams.push_back(generator.stream(some_ids(30), greedy(90)));
    EXPECT_EQ(streams[0].next()->id, whole_[0]);
  }
  for (TokenStream& stream : streams) {
    const Completion& completion = stream.completion();
    if (completion.finish_reason != FinishReason::kLength) expect_cut_short(completion, whole_);
  }
  EXPECT_EQ(streams.back().completion().tokens.size(), 0u);
  Generator next(model_);
  EXPECT_EQ(ids_of(next.generate(some_ids(30), greedy(90))), whole_);
}

TEST_F(CancelTest, StreamsAndGeneratorsCanBeMoved) {
  Generator first(model_);
  TokenStream stream = first.stream(some_ids(30), greedy(90));
  Generator second = std::move(first);
  TokenStream moved = std::move(stream);
  EXPECT_EQ(ids_of(moved.completion()), whole_);
  EXPECT_EQ(ids_of(second.generate(some_ids(30), greedy(90))), whole_);
  EXPECT_THAT(error_of([&] { first.generate(some_ids(3)); }), HasSubstr("was moved from"));
  EXPECT_THAT(error_of([&] { stream.next(); }), HasSubstr("was moved from"));
  EXPECT_THAT(error_of([&] { stream.completion(); }), HasSubstr("was moved from"));
}

TEST(GeneratorCompany, CallersOfSeveralThreadsGetWhatTheyGetAlone) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const Model model = tiny.load(2);
  constexpr int kCallers = 5, kRequests = 4;
  const auto prompt = [](int i) { return std::string("abc xyz").substr(0, 1 + i % 7); };
  const auto params = [](int i) {
    SamplingParams params = drawn(10 + i, static_cast<std::uint64_t>(i));
    if (i % 3 == 0) params.temperature = 0;
    if (i % 4 == 0) params.logprobs = 2;
    if (i % 5 == 0) params.stop = {"q"};
    return params;
  };
  std::vector<std::string> alone;
  Generator single(model, {.max_batch_size = 1});
  for (int i = 0; i < kCallers * kRequests; ++i)
    alone.push_back(single.generate(prompt(i), params(i)).text);

  for (int steps_ahead : {0, 1}) {
    Generator shared(model, {.max_batch_size = 3, .prefill_chunk = 4, .steps_ahead = steps_ahead});
    std::vector<std::string> together(alone.size());
    {
      std::vector<std::jthread> callers;
      for (int caller = 0; caller < kCallers; ++caller)
        callers.emplace_back([&, caller] {
          for (int i = caller; i < kCallers * kRequests; i += kCallers) {
            { TokenStream given_up = shared.stream(prompt(i), params(i)); }
            for (const Token& token : shared.stream(prompt(i), params(i)))
              together[static_cast<std::size_t>(i)] += token.text;
          }
        });
    }
    EXPECT_EQ(together, alone);
  }
}

TEST(GeneratorCompany, TwoGeneratorsOfOneModel) {
  const Model model = load_golden("llama", 2);
  Generator a(model), b(model, {.max_batch_size = 1});
  TokenStream from_a = a.stream(some_ids(9), greedy(60));
  TokenStream from_b = b.stream(some_ids(9), greedy(60));
  EXPECT_EQ(ids_of(from_a.completion()), ids_of(from_b.completion()));
}

TEST(GeneratorErrors, BadPrompts) {
  TinyModel tiny;
  const Model without = tiny.load(), odd = load_golden("llama_odd");
  tiny.add_tokenizer();
  Generator plain(without, {.max_length = 40}), generator(tiny.load());
  const auto error = [](Generator& generator, const Prompt& prompt) {
    return error_of([&] { generator.generate(prompt, greedy(3)); });
  };
  EXPECT_EQ(error(plain, "abc"), "this model has no tokenizer: give the prompt as token ids");
  EXPECT_EQ(error(plain, Ids{}), "the prompt is empty");
  EXPECT_EQ(error(generator, ""), "the prompt is empty");
  EXPECT_EQ(error(plain, Ids{5, 104}), "token id 104 is outside of the vocabulary of 104");
  EXPECT_EQ(error(plain, Ids{-1}), "token id -1 is outside of the vocabulary of 104");
  EXPECT_EQ(error(plain, some_ids(40)),
            "the prompt has 40 tokens, and max_length is 40: there is no room for a new token");
  EXPECT_EQ(plain.generate(some_ids(39), greedy(3)).tokens.size(), 1u);
  EXPECT_THAT(error(generator, std::string(1000, 'a')), HasSubstr("the prompt has 1000 tokens"));
  // One bad prompt of a batch; the generator goes on.
  EXPECT_EQ(error_of([&] {
              plain.generate(std::vector<Prompt>{some_ids(3), Ids{}}, greedy(3));
            }),
            "the prompt is empty");
  EXPECT_EQ(plain.generate(some_ids(3), greedy(3)).tokens.size(), 3u);
}

TEST(GeneratorErrors, BadParamsAreNamed) {
  const Model model = load_golden("llama");
  Generator generator(model);
  const auto expect = [&](const std::string& message, const auto& change) {
    SamplingParams params;
    change(params);
    EXPECT_THAT(error_of([&] { generator.generate(some_ids(3), params); }), HasSubstr(message));
    EXPECT_THAT(error_of([&] { generator.stream(some_ids(3), params); }), HasSubstr(message));
  };
  expect("temperature is -1", [](auto& p) { p.temperature = -1; });
  expect("temperature is nan", [](auto& p) { p.temperature = kNan; });
  expect("temperature is inf", [](auto& p) { p.temperature = INFINITY; });
  expect("top_p is 0", [](auto& p) { p.top_p = 0; });
  expect("top_p is 1.5", [](auto& p) { p.top_p = 1.5f; });
  expect("top_p is nan", [](auto& p) { p.top_p = kNan; });
  expect("top_k is -2", [](auto& p) { p.top_k = -2; });
  expect("min_p is -0.5", [](auto& p) { p.min_p = -0.5f; });
  expect("min_p is 2", [](auto& p) { p.min_p = 2; });
  expect("repetition_penalty is 0", [](auto& p) { p.repetition_penalty = 0; });
  expect("repetition_penalty is 1e-30", [](auto& p) { p.repetition_penalty = 1e-30f; });
  expect("repetition_penalty is nan", [](auto& p) { p.repetition_penalty = kNan; });
  expect("presence_penalty is 3", [](auto& p) { p.presence_penalty = 3; });
  expect("frequency_penalty is -3", [](auto& p) { p.frequency_penalty = -3; });
  expect("max_tokens is 0", [](auto& p) { p.max_tokens = 0; });
  expect("logprobs is 21", [](auto& p) { p.logprobs = 21; });
  expect("logprobs is -1", [](auto& p) { p.logprobs = -1; });
  expect("a stop string is empty", [](auto& p) { p.stop = {"a", ""}; });
  expect("stop strings need a tokenizer", [](auto& p) { p.stop = {"a"}; });
  expect("logit_bias' token id 104", [](auto& p) { p.logit_bias = {{104, 1.0f}}; });
  expect("logit_bias' token id -1", [](auto& p) { p.logit_bias = {{-1, 1.0f}}; });
  expect("the logit bias of token 4 is nan", [](auto& p) { p.logit_bias = {{4, kNan}}; });
  expect("the logit bias of token 4 is inf", [](auto& p) { p.logit_bias = {{4, INFINITY}}; });
  expect("1025 logit biases", [](auto& p) {
    for (int id = 0; id < 1025; ++id) p.logit_bias[id] = 1;
  });

  const auto options_error = [&](const GeneratorOptions& options) {
    return error_of([&] { Generator(model, options); });
  };
  EXPECT_THAT(options_error({.max_batch_size = 0}), HasSubstr("max_batch_size is 0"));
  EXPECT_THAT(options_error({.max_batch_size = 5000}), HasSubstr("max_batch_size is 5000"));
  EXPECT_THAT(options_error({.max_length = -1}), HasSubstr("max_length is -1"));
  EXPECT_THAT(options_error({.max_length = 129}), HasSubstr("the model has 128 positions"));
  EXPECT_THAT(options_error({.prefill_chunk = 0}), HasSubstr("prefill_chunk is 0"));
  EXPECT_THAT(options_error({.steps_ahead = 2}), HasSubstr("steps_ahead is 2"));
  EXPECT_THAT(options_error({.steps_ahead = -1}), HasSubstr("steps_ahead is -1"));
}

class FailingRankTest : public testing::TestWithParam<std::tuple<int, int>> {};

// Token 50's embedding is no number, and so is what follows from it.
TEST_P(FailingRankTest, EveryRunningRequestGetsTheErrorAndTheNextOnesDoNot) {
  constexpr std::int32_t kPoison = 50;
  TinyModel tiny;
  tiny.poison_embedding(kPoison);
  const auto [ranks, steps_ahead] = GetParam();
  const Model model = tiny.load(ranks);
  SamplingParams params = greedy(80);
  params.logit_bias = {{kPoison, -INFINITY}};
  Ids prompt = some_ids(20);
  std::replace(prompt.begin(), prompt.end(), kPoison, 51);
  Ids poisoned = prompt;
  poisoned.back() = kPoison;

  Generator generator(model, {.max_batch_size = 2, .steps_ahead = steps_ahead});
  const Ids alone = ids_of(generator.generate(prompt, params));
  ASSERT_EQ(alone.size(), 80u);
  const char* const expected =
      "rank [0-9] \\(cpu:[0-9]\\) failed in run: the logit of token [0-9]+ is not a number";
  for (int round = 0; round < 3; ++round) {
    Hold hold(model);
    TokenStream good = generator.stream(prompt, params);
    TokenStream bad = generator.stream(poisoned, params);
    TokenStream waiting = generator.stream(prompt, params);
    hold.release();
    EXPECT_THAT(error_of([&] { bad.completion(); }), MatchesRegex(expected));
    EXPECT_THAT(error_of([&] { bad.next(); }), MatchesRegex(expected));
    std::size_t count = 0;  // what it was given before stays
    EXPECT_THAT(error_of([&] {
                  for (const Token& token : good) EXPECT_EQ(token.id, alone[count++]);
                }),
                MatchesRegex(expected));
    EXPECT_LT(count, alone.size());
    EXPECT_EQ(ids_of(waiting.completion()), alone);
    EXPECT_THAT(error_of([&] { generator.generate(poisoned, params); }), MatchesRegex(expected));
    EXPECT_EQ(ids_of(generator.generate(prompt, params)), alone);
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, FailingRankTest,
                         testing::Combine(testing::Values(1, 2, 4, 8), testing::Values(0, 1)));

}  // namespace
}  // namespace lockstep::test
