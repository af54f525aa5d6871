// The C interface against the C++ one, on tiny models. That its header is C99 is tested where a
// program in C is built against the installed library (tests/install).
#include "lockstep/c/lockstep.h"

#include <gmock/gmock.h>

#include <memory>
#include <thread>

#include "c/handles.h"
#include "generate/test_model.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using Ids = std::vector<std::int32_t>;

template <auto Free>
struct Deleter {
  template <typename T>
  void operator()(T* handle) const {
    Free(handle);
  }
};
using MeshPtr = std::unique_ptr<lockstep_mesh, Deleter<lockstep_mesh_free>>;
using ModelPtr = std::unique_ptr<lockstep_model, Deleter<lockstep_model_free>>;
using GeneratorPtr = std::unique_ptr<lockstep_generator, Deleter<lockstep_generator_free>>;
using StreamPtr = std::unique_ptr<lockstep_stream, Deleter<lockstep_stream_free>>;
using CompletionPtr = std::unique_ptr<lockstep_completion, Deleter<lockstep_completion_free>>;

// Calls `function` with the address of a handle, expects success, and returns the handle.
template <typename Ptr, typename Function>
Ptr make(Function&& function) {
  typename Ptr::pointer handle = nullptr;
  EXPECT_EQ(function(&handle), LOCKSTEP_OK) << lockstep_last_error();
  EXPECT_STREQ(lockstep_last_error(), "");
  return Ptr(handle);
}

MeshPtr mesh(int ranks) {
  return make<MeshPtr>([&](lockstep_mesh** out) {
    return lockstep_mesh_tensor_parallel(ranks, LOCKSTEP_DEVICE_CPU, out);
  });
}

ModelPtr load(const TinyModel& tiny, int ranks = 2) {
  return make<ModelPtr>([&](lockstep_model** out) {
    return lockstep_model_load(tiny.path().c_str(), mesh(ranks).get(), nullptr, out);
  });
}

GeneratorPtr generator(const ModelPtr& model) {
  return make<GeneratorPtr>(
      [&](lockstep_generator** out) { return lockstep_generator_new(model.get(), nullptr, out); });
}

lockstep_sampling_params default_params() {
  lockstep_sampling_params params;
  EXPECT_EQ(lockstep_sampling_params_init(&params, sizeof params), LOCKSTEP_OK);
  return params;
}

// As greedy() and drawn() of the C++ tests.
lockstep_sampling_params c_greedy(int max_tokens) {
  lockstep_sampling_params params = default_params();
  params.temperature = 0;
  params.max_tokens = max_tokens;
  params.ignore_eos = true;
  return params;
}

lockstep_sampling_params c_drawn(int max_tokens, std::uint64_t seed) {
  lockstep_sampling_params params = c_greedy(max_tokens);
  params.temperature = 1;
  params.has_seed = true;
  params.seed = seed;
  return params;
}

lockstep_prompt prompt_of(const Ids& ids) { return {nullptr, ids.data(), ids.size()}; }

CompletionPtr complete(const GeneratorPtr& generator, const lockstep_prompt& prompt,
                       const lockstep_sampling_params& params) {
  return make<CompletionPtr>([&](lockstep_completion** out) {
    return lockstep_generate(generator.get(), &prompt, &params, nullptr, nullptr, out);
  });
}

Ids ids_of(const CompletionPtr& completion) {
  Ids ids;
  for (std::size_t i = 0; i < lockstep_completion_num_tokens(completion.get()); ++i)
    ids.push_back(lockstep_completion_token(completion.get(), i)->id);
  return ids;
}

TEST(C, VersionIsTheLibrarys) {
  EXPECT_STREQ(lockstep_version(), LOCKSTEP_VERSION);
  EXPECT_EQ(lockstep_git_revision(), git_revision());
  EXPECT_EQ(lockstep_backends(), backends());
}

TEST(C, MeshAndModelSayWhatTheyAre) {
  TinyModel tiny;
  const MeshPtr four = mesh(4);
  EXPECT_EQ(lockstep_mesh_world_size(four.get()), 4);
  EXPECT_STREQ(lockstep_mesh_description(four.get()), "cpu x 4");
  const ModelPtr plain = load(tiny);
  EXPECT_EQ(lockstep_model_vocab_size(plain.get()), 104);
  EXPECT_EQ(lockstep_model_max_length(plain.get()), 128);
  EXPECT_EQ(lockstep_model_dtype(plain.get()), LOCKSTEP_DTYPE_FLOAT32);
  EXPECT_FALSE(lockstep_model_has_tokenizer(plain.get()));
  tiny.add_tokenizer();
  EXPECT_TRUE(lockstep_model_has_tokenizer(load(tiny).get()));
}

TEST(C, GeneratesWhatTheInterfaceOfCppDoes) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const GeneratorPtr c = generator(load(tiny));  // outlives the handle of its model
  Generator cpp(tiny.load(2));
  for (std::uint64_t seed = 0; seed < 3; ++seed) {
    const CompletionPtr found = complete(c, {"abc", nullptr, 0}, c_drawn(20, seed));
    const Completion expected = cpp.generate("abc", drawn(20, seed));
    EXPECT_EQ(ids_of(found), test::ids_of(expected));
    std::size_t bytes = 0;
    EXPECT_EQ(lockstep_completion_text(found.get(), &bytes), expected.text);
    EXPECT_EQ(bytes, expected.text.size());
    EXPECT_EQ(lockstep_completion_text(found.get(), nullptr), expected.text);
    EXPECT_EQ(lockstep_completion_finish_reason(found.get()), LOCKSTEP_FINISH_LENGTH);
    EXPECT_STREQ(lockstep_completion_stop_string(found.get()), "");
    EXPECT_EQ(lockstep_completion_prompt_tokens(found.get()), 3);
    EXPECT_GT(lockstep_completion_timings(found.get()).decode_seconds, 0);
    for (std::size_t i = 0; i < 20; ++i) {
      const lockstep_token* token = lockstep_completion_token(found.get(), i);
      EXPECT_EQ(std::string(token->text, token->text_bytes), expected.tokens[i].text);
      EXPECT_FALSE(token->has_logprob);
      EXPECT_EQ(token->num_top_logprobs, 0u);
    }
  }
}

TEST(C, EverySamplingParameterArrives) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const GeneratorPtr c = generator(load(tiny));
  Generator cpp(tiny.load(2));
  const Ids prompt = some_ids(5);
  // One change at a time, and what it is in C++; each gives another completion than none.
  using Change = std::pair<void (*)(lockstep_sampling_params&), void (*)(SamplingParams&)>;
  static const lockstep_logit_bias kBias[] = {{40, 50.0f}, {41, 49.0f}};
  static const std::int32_t kStopIds[] = {7, tiny_id("b"), tiny_id("END"), 61, 33, 80, 22};
  static const char* const kStop[] = {"zz", "a"};
  const Change changes[] = {
      {[](auto& p) { p.temperature = 30; }, [](auto& p) { p.temperature = 30; }},
      {[](auto& p) { p.top_p = 0.1f; }, [](auto& p) { p.top_p = 0.1f; }},
      {[](auto& p) { p.top_k = 2; }, [](auto& p) { p.top_k = 2; }},
      {[](auto& p) { p.min_p = 0.9f; }, [](auto& p) { p.min_p = 0.9f; }},
      {[](auto& p) { p.repetition_penalty = 9; }, [](auto& p) { p.repetition_penalty = 9; }},
      {[](auto& p) { p.presence_penalty = -2; }, [](auto& p) { p.presence_penalty = -2; }},
      {[](auto& p) { p.frequency_penalty = -2; }, [](auto& p) { p.frequency_penalty = -2; }},
      {[](auto& p) { p.max_tokens = 7; }, [](auto& p) { p.max_tokens = 7; }},
      {[](auto& p) { p.seed = 9; }, [](auto& p) { p.seed = 9; }},
      {[](auto& p) { p.logit_bias = kBias, p.num_logit_bias = 2; },
       [](auto& p) {
         p.logit_bias = {{40, 50.0f}, {41, 49.0f}};
       }},
      {[](auto& p) { p.stop_token_ids = kStopIds, p.num_stop_token_ids = std::size(kStopIds); },
       [](auto& p) {
         p.stop_token_ids = {std::begin(kStopIds), std::end(kStopIds)};
       }},
      {[](auto& p) { p.stop = kStop, p.num_stop = 2; },
       [](auto& p) {
         p.stop = {"zz", "a"};
       }}};
  const Completion plain = cpp.generate(prompt, drawn(60, 3));
  for (std::size_t i = 0; i < std::size(changes); ++i) {
    lockstep_sampling_params params = c_drawn(60, 3);
    SamplingParams expected_params = drawn(60, 3);
    changes[i].first(params);
    changes[i].second(expected_params);
    const Completion expected = cpp.generate(prompt, expected_params);
    EXPECT_NE(test::ids_of(expected), test::ids_of(plain)) << "change " << i;
    EXPECT_EQ(ids_of(complete(c, prompt_of(prompt), params)), test::ids_of(expected))
        << "change " << i;
  }
}

TEST(C, TextParametersArrive) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const GeneratorPtr c = generator(load(tiny));
  const auto text = [&](const lockstep_sampling_params& params) {
    return std::string(
        lockstep_completion_text(complete(c, {"abc", nullptr, 0}, params).get(), nullptr));
  };
  // "a", then the end token and "a" again.
  const lockstep_logit_bias a[] = {{tiny_id("a"), 100}}, end[] = {{2, 100}};
  const char* const stop[] = {"aa"};
  lockstep_sampling_params params = c_greedy(5);
  params.logit_bias = a;
  params.num_logit_bias = 1;
  EXPECT_EQ(text(params), "aaaaa");
  params.stop = stop;
  params.num_stop = 1;
  EXPECT_EQ(text(params), "");
  params.include_stop_str_in_output = true;
  EXPECT_EQ(text(params), "aa");
  const CompletionPtr stopped = complete(c, {"abc", nullptr, 0}, params);
  EXPECT_EQ(lockstep_completion_finish_reason(stopped.get()), LOCKSTEP_FINISH_STOP);
  EXPECT_STREQ(lockstep_completion_stop_string(stopped.get()), "aa");

  params = c_greedy(3);
  params.logit_bias = end;
  params.num_logit_bias = 1;
  EXPECT_EQ(text(params), "");
  params.skip_special_tokens = false;
  EXPECT_EQ(text(params), "</s></s></s>");
  params.ignore_eos = false;
  EXPECT_EQ(ids_of(complete(c, {"abc", nullptr, 0}, params)), Ids{2});
}

TEST(C, Logprobs) {
  TinyModel tiny;
  tiny.add_tokenizer();
  lockstep_sampling_params params = c_greedy(4);
  params.logprobs = 3;
  const CompletionPtr found = complete(generator(load(tiny)), {"abc", nullptr, 0}, params);
  SamplingParams cpp_params = greedy(4);
  cpp_params.logprobs = 3;
  const Completion expected = Generator(tiny.load(2)).generate("abc", cpp_params);
  for (std::size_t i = 0; i < 4; ++i) {
    const lockstep_token* token = lockstep_completion_token(found.get(), i);
    EXPECT_TRUE(token->has_logprob);
    EXPECT_EQ(token->logprob, expected.tokens[i].logprob);
    ASSERT_EQ(token->num_top_logprobs, 3u);
    for (std::size_t k = 0; k < 3; ++k) {
      const TokenLogprob& top = expected.tokens[i].top_logprobs[k];
      EXPECT_EQ(token->top_logprobs[k].id, top.id);
      EXPECT_EQ(token->top_logprobs[k].logprob, top.logprob);
      EXPECT_EQ(token->top_logprobs[k].token, top.token);
    }
  }
}

TEST(C, DefaultsAreThoseOfCppAndOfTheModel) {
  const lockstep_sampling_params params = default_params();
  EXPECT_EQ(params.temperature, 1);
  EXPECT_EQ(params.max_tokens, 16);
  EXPECT_EQ(params.logprobs, -1);
  EXPECT_FALSE(params.has_seed);
  EXPECT_TRUE(params.skip_special_tokens);
  EXPECT_EQ(params.stop, nullptr);

  TinyModel tiny;
  tiny.write("generation_config.json", R"({"temperature": 0.0, "max_new_tokens": 9})");
  const ModelPtr model = load(tiny);
  lockstep_sampling_params of_model;
  ASSERT_EQ(lockstep_model_default_sampling(model.get(), &of_model, sizeof of_model), LOCKSTEP_OK);
  EXPECT_EQ(of_model.temperature, 0);
  EXPECT_EQ(of_model.max_tokens, 9);

  // They are what generate() takes when it is given none.
  const Ids ids = some_ids(4);
  const lockstep_prompt prompt = prompt_of(ids);
  const GeneratorPtr c = generator(model);
  const auto completion = make<CompletionPtr>([&](lockstep_completion** out) {
    return lockstep_generate(c.get(), &prompt, nullptr, nullptr, nullptr, out);
  });
  of_model.ignore_eos = false;
  EXPECT_EQ(ids_of(completion), ids_of(complete(c, prompt, of_model)));

  lockstep_load_options options;
  ASSERT_EQ(lockstep_load_options_init(&options, sizeof options), LOCKSTEP_OK);
  options.use_generation_config = false;
  const auto without = make<ModelPtr>([&](lockstep_model** out) {
    return lockstep_model_load(tiny.path().c_str(), mesh(1).get(), &options, out);
  });
  ASSERT_EQ(lockstep_model_default_sampling(without.get(), &of_model, sizeof of_model),
            LOCKSTEP_OK);
  EXPECT_EQ(of_model.temperature, 1);
}

TEST(C, LoadAndGeneratorOptionsArrive) {
  TinyModel tiny;
  lockstep_load_options options;
  ASSERT_EQ(lockstep_load_options_init(&options, sizeof options), LOCKSTEP_OK);
  options.dtype = LOCKSTEP_DTYPE_BFLOAT16;
  options.dummy_weights = true;
  options.dummy_seed = 5;
  const auto model = make<ModelPtr>([&](lockstep_model** out) {
    return lockstep_model_load(tiny.path().c_str(), mesh(2).get(), &options, out);
  });
  EXPECT_EQ(lockstep_model_dtype(model.get()), LOCKSTEP_DTYPE_BFLOAT16);

  lockstep_generator_options sizes;
  ASSERT_EQ(lockstep_generator_options_init(&sizes, sizeof sizes), LOCKSTEP_OK);
  EXPECT_EQ(sizes.max_batch_size, GeneratorOptions().max_batch_size);
  EXPECT_EQ(sizes.prefill_chunk, GeneratorOptions().prefill_chunk);
  sizes.max_length = 21;
  const auto c = make<GeneratorPtr>(
      [&](lockstep_generator** out) { return lockstep_generator_new(model.get(), &sizes, out); });
  EXPECT_EQ(lockstep_generator_max_length(c.get()), 21);

  LoadOptions cpp;
  cpp.dtype = DType::kBFloat16;
  cpp.dummy_weights = true;
  cpp.dummy_seed = 5;
  const Ids prompt = some_ids(4);
  const CompletionPtr found = complete(c, prompt_of(prompt), c_greedy(50));
  EXPECT_EQ(ids_of(found), test::ids_of(Generator(tiny.load(2, cpp)).generate(prompt, greedy(17))));

  sizes.steps_ahead = 7;
  lockstep_generator* none = nullptr;
  EXPECT_EQ(lockstep_generator_new(model.get(), &sizes, &none), LOCKSTEP_ERROR);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("steps_ahead is 7"));
  sizes.max_batch_size = 0;
  EXPECT_EQ(lockstep_generator_new(model.get(), &sizes, &none), LOCKSTEP_ERROR);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("max_batch_size is 0"));
}

TEST(C, MemoryIsCheckedUnlessTold) {
  TinyModel tiny;
  lockstep_load_options options;
  ASSERT_EQ(lockstep_load_options_init(&options, sizeof options), LOCKSTEP_OK);
  options.planned_batch_size = 2'000'000'000;
  options.planned_length = 128;
  const auto load = [&](lockstep_model** out) {
    return lockstep_model_load(tiny.path().c_str(), mesh(1).get(), &options, out);
  };
  lockstep_model* none = nullptr;
  EXPECT_EQ(load(&none), LOCKSTEP_ERROR);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("sequences of 128 tokens"));
  options.check_memory = false;
  make<ModelPtr>(load);
}

TEST(C, ProgressIsCalledAndCanStopTheLoading) {
  TinyModel tiny;
  lockstep_load_options options;
  ASSERT_EQ(lockstep_load_options_init(&options, sizeof options), LOCKSTEP_OK);
  std::pair<std::uint64_t, std::uint64_t> last;
  options.progress = [](std::uint64_t done, std::uint64_t total, void* data) {
    *static_cast<std::pair<std::uint64_t, std::uint64_t>*>(data) = {done, total};
    return false;
  };
  options.progress_user_data = &last;
  const auto load = [&](lockstep_model** out) {
    return lockstep_model_load(tiny.path().c_str(), mesh(3).get(), &options, out);
  };
  make<ModelPtr>(load);
  EXPECT_GT(last.second, 0u);
  EXPECT_EQ(last.first, last.second);

  options.progress = [](std::uint64_t, std::uint64_t, void*) { return true; };
  lockstep_model* none = nullptr;
  EXPECT_EQ(load(&none), LOCKSTEP_ERROR);
  EXPECT_EQ(none, nullptr);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("stopped by the progress callback"));
}

TEST(C, ACallbackSeesEveryTokenAndCanStop) {
  TinyModel tiny;
  tiny.add_tokenizer();
  const GeneratorPtr c = generator(load(tiny));
  const lockstep_prompt prompt = {"abc", nullptr, 0};
  const lockstep_sampling_params params = c_drawn(40, 1);
  struct Seen {
    std::string text;
    std::size_t tokens = 0, stop_at = 1000;
  };
  const lockstep_token_callback callback = [](const lockstep_token* token, void* data) {
    Seen& seen = *static_cast<Seen*>(data);
    seen.text.append(token->text, token->text_bytes);
    return ++seen.tokens == seen.stop_at;
  };
  Seen seen;
  const auto run = [&](lockstep_completion** out) {
    return lockstep_generate(c.get(), &prompt, &params, callback, &seen, out);
  };
  const CompletionPtr whole = make<CompletionPtr>(run);
  EXPECT_EQ(seen.tokens, 40u);
  EXPECT_EQ(seen.text, lockstep_completion_text(whole.get(), nullptr));

  seen = {.text = {}, .tokens = 0, .stop_at = 5};
  const CompletionPtr stopped = make<CompletionPtr>(run);
  EXPECT_EQ(seen.tokens, 5u);
  const Ids all = ids_of(whole), some = ids_of(stopped);
  ASSERT_GE(some.size(), 5u);
  EXPECT_EQ(some, Ids(all.begin(), all.begin() + std::ssize(some)));
  EXPECT_EQ(lockstep_completion_finish_reason(stopped.get()),
            some.size() < all.size() ? LOCKSTEP_FINISH_CANCELLED : LOCKSTEP_FINISH_LENGTH);
}

TEST(C, AnExceptionOfACallbackIsAnError) {
  TinyModel tiny;
  const GeneratorPtr c = generator(load(tiny));
  const Ids ids = some_ids(3);
  const lockstep_prompt prompt = prompt_of(ids);
  lockstep_completion* none = nullptr;
  const auto run = [&](lockstep_token_callback callback) {
    EXPECT_EQ(lockstep_generate(c.get(), &prompt, nullptr, callback, nullptr, &none),
              LOCKSTEP_ERROR);
    return std::string(lockstep_last_error());
  };
  EXPECT_EQ(run([](auto, auto) -> bool { throw std::runtime_error("mine"); }), "mine");
  EXPECT_THAT(run([](auto, auto) -> bool { throw 1; }), StartsWith("lockstep_generate: "));
}

TEST(C, StreamsGiveTheSameTokensThenTheEnd) {
  TinyModel tiny;
  tiny.add_tokenizer();
  GeneratorPtr c = generator(load(tiny));
  const lockstep_prompt prompt = {"abc", nullptr, 0};
  const lockstep_sampling_params params = c_drawn(20, 4);
  const CompletionPtr expected = complete(c, prompt, params);
  const auto stream = make<StreamPtr>(
      [&](lockstep_stream** out) { return lockstep_stream_start(c.get(), &prompt, &params, out); });
  Ids ids;
  std::string text;
  const lockstep_token* token = nullptr;
  while (lockstep_stream_next(stream.get(), &token) == LOCKSTEP_OK) {
    ids.push_back(token->id);
    text.append(token->text, token->text_bytes);
  }
  EXPECT_EQ(ids, ids_of(expected));
  EXPECT_EQ(text, lockstep_completion_text(expected.get(), nullptr));
  EXPECT_EQ(lockstep_stream_next(stream.get(), &token), LOCKSTEP_END);
  EXPECT_EQ(token, nullptr);
  c.reset();  // the stream can still be read
  const auto completion = make<CompletionPtr>(
      [&](lockstep_completion** out) { return lockstep_stream_completion(stream.get(), out); });
  EXPECT_EQ(ids_of(completion), ids);
}

TEST(C, AnotherThreadCancelsAStream) {
  TinyModel tiny;
  const ModelPtr model = load(tiny);
  const GeneratorPtr c = generator(model);
  const Ids ids = some_ids(3);
  const lockstep_prompt prompt = prompt_of(ids);
  const lockstep_sampling_params params = c_greedy(100);
  Hold hold(model->value);
  const auto stream = make<StreamPtr>(
      [&](lockstep_stream** out) { return lockstep_stream_start(c.get(), &prompt, &params, out); });
  std::jthread other([&] {
    EXPECT_EQ(lockstep_stream_cancel(stream.get()), LOCKSTEP_OK);
    hold.release();
  });
  const auto completion = make<CompletionPtr>(
      [&](lockstep_completion** out) { return lockstep_stream_completion(stream.get(), out); });
  EXPECT_EQ(lockstep_completion_finish_reason(completion.get()), LOCKSTEP_FINISH_CANCELLED);
  EXPECT_LE(lockstep_completion_num_tokens(completion.get()), 1u);  // of a step on its way
}

}  // namespace
}  // namespace lockstep::test
