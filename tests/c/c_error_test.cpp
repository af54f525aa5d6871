// What the C interface does with arguments that it must not be given.
#include <gmock/gmock.h>

#include <functional>
#include <thread>

#include "generate/test_model.h"
#include "lockstep/c/lockstep.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;

constexpr char kNull[] = "lockstep_[a-z_]+: .* is NULL";

void expect_invalid(lockstep_status status, const std::string& regex) {
  EXPECT_EQ(status, LOCKSTEP_INVALID_ARGUMENT);
  EXPECT_THAT(lockstep_last_error(), testing::MatchesRegex(regex));
}

class CErrors : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(lockstep_mesh_tensor_parallel(1, LOCKSTEP_DEVICE_CPU, &mesh_), LOCKSTEP_OK);
    ASSERT_EQ(lockstep_model_load(tiny_.path().c_str(), mesh_, nullptr, &model_), LOCKSTEP_OK);
    ASSERT_EQ(lockstep_generator_new(model_, nullptr, &generator_), LOCKSTEP_OK);
    ASSERT_EQ(lockstep_sampling_params_init(&params_, sizeof params_), LOCKSTEP_OK);
  }

  void TearDown() override {
    lockstep_generator_free(generator_);
    lockstep_model_free(model_);
    lockstep_mesh_free(mesh_);
  }

  // lockstep_generate() of ids_ with params_ fails; returns why.
  std::string failure(lockstep_status expected = LOCKSTEP_INVALID_ARGUMENT) {
    const lockstep_prompt prompt = {nullptr, ids_.data(), ids_.size()};
    auto* completion = reinterpret_cast<lockstep_completion*>(this);
    EXPECT_EQ(lockstep_generate(generator_, &prompt, &params_, nullptr, nullptr, &completion),
              expected);
    EXPECT_EQ(completion, nullptr);
    return lockstep_last_error();
  }

  TinyModel tiny_;
  std::vector<std::int32_t> ids_ = some_ids(3);
  lockstep_mesh* mesh_ = nullptr;
  lockstep_model* model_ = nullptr;
  lockstep_generator* generator_ = nullptr;
  lockstep_sampling_params params_;
};

TEST_F(CErrors, NullForAnArgumentOfAFunctionThatCanFail) {
  lockstep_mesh* mesh = nullptr;
  lockstep_model* model = nullptr;
  lockstep_generator* generator = nullptr;
  lockstep_stream* stream = nullptr;
  lockstep_completion* completion = nullptr;
  const lockstep_token* token = nullptr;
  const char* path = "x";
  const lockstep_prompt prompt = {nullptr, ids_.data(), ids_.size()};
  const std::function<lockstep_status()> calls[] = {
      [] { return lockstep_mesh_tensor_parallel(1, LOCKSTEP_DEVICE_CPU, nullptr); },
      [] { return lockstep_load_options_init(nullptr, 8); },
      [] { return lockstep_generator_options_init(nullptr, 8); },
      [] { return lockstep_sampling_params_init(nullptr, 8); },
      [&] { return lockstep_model_default_sampling(model_, nullptr, sizeof params_); },
      [&] { return lockstep_model_default_sampling(nullptr, &params_, sizeof params_); },
      [&] { return lockstep_model_load(nullptr, mesh_, nullptr, &model); },
      [&] { return lockstep_model_load(path, mesh, nullptr, &model); },
      [&] { return lockstep_model_load(path, mesh_, nullptr, nullptr); },
      [&] { return lockstep_generator_new(nullptr, nullptr, &generator); },
      [&] { return lockstep_generator_new(model_, nullptr, nullptr); },
      [&] { return lockstep_generate(nullptr, &prompt, nullptr, nullptr, nullptr, &completion); },
      [&] {
        return lockstep_generate(generator_, nullptr, nullptr, nullptr, nullptr, &completion);
      },
      [&] { return lockstep_generate(generator_, &prompt, nullptr, nullptr, nullptr, nullptr); },
      [&] { return lockstep_stream_start(nullptr, &prompt, nullptr, &stream); },
      [&] { return lockstep_stream_start(generator_, nullptr, nullptr, &stream); },
      [&] { return lockstep_stream_start(generator_, &prompt, nullptr, nullptr); },
      [&] { return lockstep_stream_next(nullptr, &token); },
      [&] { return lockstep_stream_next(stream, nullptr); },
      [] { return lockstep_stream_cancel(nullptr); },
      [&] { return lockstep_stream_completion(nullptr, &completion); },
      [&] { return lockstep_stream_completion(stream, nullptr); },
  };
  for (const auto& call : calls) expect_invalid(call(), kNull);
}

TEST_F(CErrors, NullForAHandleOfAGetter) {
  const auto null = [](auto value, auto otherwise) {
    EXPECT_EQ(value, otherwise);
    EXPECT_THAT(lockstep_last_error(), testing::MatchesRegex(kNull));
    EXPECT_EQ(lockstep_sampling_params_init(nullptr, 0), LOCKSTEP_INVALID_ARGUMENT);
  };
  null(lockstep_mesh_world_size(nullptr), 0);
  null(lockstep_mesh_description(nullptr), nullptr);
  null(lockstep_model_dtype(nullptr), LOCKSTEP_DTYPE_AUTO);
  null(lockstep_model_vocab_size(nullptr), 0);
  null(lockstep_model_max_length(nullptr), 0);
  null(lockstep_model_has_tokenizer(nullptr), false);
  null(lockstep_generator_max_length(nullptr), 0);
  std::size_t bytes = 7;
  null(lockstep_completion_text(nullptr, &bytes), nullptr);
  EXPECT_EQ(bytes, 0u);
  null(lockstep_completion_num_tokens(nullptr), 0u);
  null(lockstep_completion_token(nullptr, 0), nullptr);
  null(lockstep_completion_finish_reason(nullptr), LOCKSTEP_FINISH_CANCELLED);
  null(lockstep_completion_stop_string(nullptr), nullptr);
  null(lockstep_completion_prompt_tokens(nullptr), 0);
  null(lockstep_completion_timings(nullptr).queue_seconds, 0);
}

TEST(C, FreesNull) {
  lockstep_mesh_free(nullptr);
  lockstep_model_free(nullptr);
  lockstep_generator_free(nullptr);
  lockstep_completion_free(nullptr);
  lockstep_stream_free(nullptr);
}

TEST_F(CErrors, StructsOfAnotherSize) {
  expect_invalid(lockstep_sampling_params_init(&params_, sizeof params_ - 1),
                 "lockstep_sampling_params_init: the struct has .* bytes.*");
  lockstep_load_options load = {};  // not filled in
  lockstep_model* model = nullptr;
  expect_invalid(lockstep_model_load("x", mesh_, &load, &model),
                 "lockstep_model_load: the struct has 0 bytes.*_init function.*");
  lockstep_generator_options sizes = {};
  lockstep_generator* generator = nullptr;
  expect_invalid(lockstep_generator_new(model_, &sizes, &generator),
                 "lockstep_generator_new: the struct has 0 bytes.*");
  params_.struct_size += 8;
  EXPECT_THAT(failure(), HasSubstr("lockstep_generate: the struct has"));
}

TEST_F(CErrors, ListsThatAreNull) {
  params_.num_stop = 1;
  EXPECT_EQ(failure(), "lockstep_generate: stop is NULL, but holds 1 elements");
  params_.num_stop = 0;
  params_.num_stop_token_ids = 2;
  EXPECT_THAT(failure(), HasSubstr("stop_token_ids is NULL"));
  params_.num_stop_token_ids = 0;
  params_.num_logit_bias = 3;
  EXPECT_THAT(failure(), HasSubstr("logit_bias is NULL"));
  params_.num_logit_bias = 0;
  const char* const strings[] = {"a", nullptr};
  params_.stop = strings;
  params_.num_stop = 2;
  EXPECT_EQ(failure(), "lockstep_generate: a string of stop is NULL");
}

TEST_F(CErrors, PromptsNeedOneOfTextAndIds) {
  lockstep_completion* completion = nullptr;
  for (const lockstep_prompt& prompt : {lockstep_prompt{"a", ids_.data(), 1}, lockstep_prompt{}})
    expect_invalid(
        lockstep_generate(generator_, &prompt, nullptr, nullptr, nullptr, &completion),
        "lockstep_generate: a prompt needs either text or ids; the other has to be NULL");
}

TEST_F(CErrors, WhatTheLibraryRefusesIsAnErrorWithItsText) {
  params_.top_p = 0;
  EXPECT_THAT(failure(LOCKSTEP_ERROR), HasSubstr("top_p"));
  ASSERT_EQ(lockstep_sampling_params_init(&params_, sizeof params_), LOCKSTEP_OK);
  params_.logprobs = -2;
  EXPECT_THAT(failure(LOCKSTEP_ERROR), HasSubstr("logprobs"));
  ASSERT_EQ(lockstep_sampling_params_init(&params_, sizeof params_), LOCKSTEP_OK);
  ids_.clear();
  ids_.reserve(1);
  EXPECT_EQ(failure(LOCKSTEP_ERROR), "the prompt is empty");

  lockstep_model* model = nullptr;
  EXPECT_EQ(lockstep_model_load("/no/such/model", mesh_, nullptr, &model), LOCKSTEP_ERROR);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("/no/such/model"));
  lockstep_mesh* mesh = nullptr;
  EXPECT_EQ(lockstep_mesh_tensor_parallel(0, LOCKSTEP_DEVICE_AUTO, &mesh), LOCKSTEP_ERROR);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("from 1 to 64, not 0"));
  expect_invalid(lockstep_mesh_tensor_parallel(1, static_cast<lockstep_device_type>(3), &mesh),
                 ".*device type 3.*");
}

TEST_F(CErrors, ATokenBeyondTheLast) {
  const lockstep_prompt prompt = {nullptr, ids_.data(), ids_.size()};
  params_.max_tokens = 2;
  params_.ignore_eos = true;
  lockstep_completion* completion = nullptr;
  ASSERT_EQ(lockstep_generate(generator_, &prompt, &params_, nullptr, nullptr, &completion),
            LOCKSTEP_OK);
  EXPECT_NE(lockstep_completion_token(completion, 1), nullptr);
  EXPECT_EQ(lockstep_completion_token(completion, 2), nullptr);
  EXPECT_THAT(lockstep_last_error(), HasSubstr("token 2 of a completion of 2"));
  lockstep_completion_free(completion);
}

TEST(C, EveryThreadHasItsOwnError) {
  EXPECT_EQ(lockstep_stream_cancel(nullptr), LOCKSTEP_INVALID_ARGUMENT);
  std::jthread([] { EXPECT_STREQ(lockstep_last_error(), ""); }).join();
  EXPECT_STREQ(lockstep_last_error(), "lockstep_stream_cancel: stream is NULL");
}

}  // namespace
}  // namespace lockstep::test
