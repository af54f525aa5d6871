// load_model: generation_config.json, dummy weights, errors.
#include <gmock/gmock.h>

#include <mutex>

#include "generate/test_model.h"

namespace lockstep::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(LoadModel, SaysWhatItLoaded) {
  const Model model = load_golden("llama_bf16", 2);
  EXPECT_EQ(to_string(model.mesh()), "cpu x 2");
  EXPECT_EQ(model.dtype(), DType::kBFloat16);
  EXPECT_EQ(model.max_length(), 128);
  EXPECT_FALSE(model.has_tokenizer());
  TinyModel tiny;
  tiny.add_tokenizer();
  LoadOptions options;
  options.dtype = DType::kFloat16;
  EXPECT_TRUE(tiny.load(1, options).has_tokenizer());
  EXPECT_EQ(tiny.load(1, options).dtype(), DType::kFloat16);
}

TEST(LoadModel, ProgressEndsAtTheTotal) {
  for (int ranks : {1, 3}) {
    std::uint64_t done = 0, total = 0;
    std::mutex mutex;
    LoadOptions options;
    options.progress = [&](std::uint64_t now, std::uint64_t all) {
      ASSERT_TRUE(mutex.try_lock());  // one call at a time
      EXPECT_GT(now, done);
      done = now;
      total = all;
      mutex.unlock();
    };
    load_model(golden_model("llama_odd"), cpu_mesh(ranks), options);
    EXPECT_EQ(done, total);
    EXPECT_GT(total, 0u);
  }
}

TEST(LoadModel, GenerationConfigOverlaysTheDefaults) {
  TinyModel tiny;
  tiny.write("generation_config.json",
             R"({"temperature": 0.25, "top_p": 0.5, "top_k": 9, "min_p": 0.125,
                 "repetition_penalty": 1.5, "max_new_tokens": 77, "do_sample": true,
                 "eos_token_id": null, "transformers_version": "5.0.0"})");
  const SamplingParams params = tiny.load().default_sampling();
  EXPECT_EQ(params.temperature, 0.25f);
  EXPECT_EQ(params.top_p, 0.5f);
  EXPECT_EQ(params.top_k, 9);
  EXPECT_EQ(params.min_p, 0.125f);
  EXPECT_EQ(params.repetition_penalty, 1.5f);
  EXPECT_EQ(params.max_tokens, 77);

  LoadOptions options;
  options.use_generation_config = false;
  const SamplingParams plain = tiny.load(1, options).default_sampling();
  EXPECT_EQ(plain.temperature, 1.0f);
  EXPECT_EQ(plain.top_p, 1.0f);
  EXPECT_EQ(plain.max_tokens, SamplingParams{}.max_tokens);
}

TEST(LoadModel, GenerationConfigMayLeaveOutAnythingAndHoldNulls) {
  TinyModel tiny;
  for (const char* text : {"{}", R"({"temperature": null, "top_k": null, "eos_token_id": []})"}) {
    tiny.write("generation_config.json", text);
    EXPECT_EQ(tiny.load().default_sampling().temperature, 1.0f);
    EXPECT_EQ(tiny.load().default_sampling().top_k, 0);
  }
}

TEST(LoadModel, ABadGenerationConfigIsAnErrorThatNamesTheFile) {
  TinyModel tiny;
  const std::pair<const char*, const char*> cases[] = {
      {"[]", "not a JSON object"},
      {"{", "generation_config.json"},
      {R"({"temperature": "hot"})", "\"temperature\" is not a number"},
      {R"({"temperature": -1})", "temperature is -1"},
      {R"({"top_p": 0})", "top_p is 0"},
      {R"({"top_p": 1e300})", "top_p is inf"},
      {R"({"top_k": 2.5})", "\"top_k\" is no integer of 32 bits"},
      {R"({"top_k": 1e300})", "\"top_k\" is no integer of 32 bits"},
      {R"({"top_k": 4294967297})", "\"top_k\" is no integer of 32 bits"},
      {R"({"top_k": -2})", "top_k is -2"},
      {R"({"max_new_tokens": 18446744073709551617})", "no integer of 32 bits"},
      {R"({"max_new_tokens": 18446744073709551615})", "no integer of 32 bits"},
      {R"({"max_new_tokens": 0})", "max_tokens is 0"},
      {R"({"repetition_penalty": 0})", "repetition_penalty is 0"},
      {R"({"eos_token_id": 104})", "\"eos_token_id\" 104 is outside of the vocabulary of 104"},
      {R"({"eos_token_id": [2, -1]})", "\"eos_token_id\" -1"},
      {R"({"eos_token_id": "</s>"})", "\"eos_token_id\" is no integer"},
  };
  for (const auto& [text, message] : cases) {
    tiny.write("generation_config.json", text);
    EXPECT_THAT(error_of([&] { tiny.load(); }),
                AllOf(HasSubstr("generation_config.json: "), HasSubstr(message)))
        << text;
  }
}

TEST(LoadModel, DummyWeightsNeedAConfigAloneAndAreTheSameAtEveryDegree) {
  LoadOptions options;
  options.dummy_weights = true;
  options.dtype = DType::kFloat32;
  const auto ids = [&](int ranks, std::uint64_t seed) {
    options.dummy_seed = seed;
    Generator generator(
        load_model(golden_model("llama") / "config.json", cpu_mesh(ranks), options));
    return ids_of(generator.generate(some_ids(5), greedy(40)));
  };
  const auto one = ids(1, 0);
  EXPECT_EQ(one.size(), 40u);
  for (int ranks : {2, 4, 8}) EXPECT_EQ(ids(ranks, 0), one) << ranks;
  EXPECT_NE(ids(1, 1), one);
}

TEST(LoadModel, WhatCannotBeLoadedIsAnErrorThatNamesIt) {
  EXPECT_THAT(error_of([] { load_model("/no/such/model", cpu_mesh(1)); }),
              HasSubstr("/no/such/model"));
  EXPECT_THAT(error_of([] { load_golden("llama", 9); }),
              HasSubstr("9 ranks for a model with 8 query heads"));
  LoadOptions options;
  options.dtype = DType::kInt32;
  EXPECT_THAT(error_of([&] { TinyModel().load(1, options); }),
              HasSubstr("weights cannot be kept as int32"));
  TinyModel truncated;
  truncated.write("model.safetensors",
                  read_file(golden_model("llama") / "model.safetensors").substr(0, 20000));
  EXPECT_THAT(error_of([&] { truncated.load(2); }), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace lockstep::test
