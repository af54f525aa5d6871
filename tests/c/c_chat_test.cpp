// Conversations through the C interface against the C++ one.
#include <gmock/gmock.h>

#include "generate/test_model.h"
#include "lockstep/c/lockstep.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

// Shows every field of every message and option.
constexpr char kTemplate[] =
    R"({"chat_template": "{% for m in messages %}{{ m.role }}.{{ m.content }}.{{ m.name }}.)"
    R"({{ m.tool_call_id }}.{{ m.tool_calls }}.{{ m.reasoning_content }}\n{% endfor %}{{ tools }}.)"
    R"({{ word }}{% if add_generation_prompt %}END{% endif %}"})";

class CChat : public testing::Test {
 protected:
  void SetUp() override {
    tiny_.add_tokenizer();
    tiny_.write("tokenizer_config.json", kTemplate);
    lockstep_mesh* mesh = nullptr;
    ASSERT_EQ(lockstep_mesh_tensor_parallel(2, LOCKSTEP_DEVICE_CPU, &mesh), LOCKSTEP_OK);
    EXPECT_EQ(lockstep_model_load(tiny_.path().c_str(), mesh, nullptr, &model_), LOCKSTEP_OK)
        << lockstep_last_error();
    lockstep_mesh_free(mesh);
    ASSERT_EQ(lockstep_generator_new(model_, nullptr, &generator_), LOCKSTEP_OK);
    ASSERT_EQ(lockstep_chat_options_init(&options_, sizeof options_), LOCKSTEP_OK);
  }

  void TearDown() override {
    lockstep_generator_free(generator_);
    lockstep_model_free(model_);
  }

  // Text and ids.
  std::pair<std::string, Ids> render(const std::vector<lockstep_chat_message>& messages,
                                     const lockstep_chat_options* options) {
    lockstep_rendered_chat* chat = nullptr;
    EXPECT_EQ(lockstep_model_render_chat(model_, messages.data(), messages.size(), options, &chat),
              LOCKSTEP_OK)
        << lockstep_last_error();
    std::size_t bytes = 0, num_ids = 0;
    const char* text = lockstep_rendered_chat_text(chat, &bytes);
    const std::int32_t* ids = lockstep_rendered_chat_ids(chat, &num_ids);
    const std::pair<std::string, Ids> result = {{text, bytes}, {ids, ids + num_ids}};
    lockstep_rendered_chat_free(chat);
    return result;
  }

  TinyModel tiny_;
  lockstep_model* model_ = nullptr;
  lockstep_generator* generator_ = nullptr;
  lockstep_chat_options options_;
};

TEST_F(CChat, EveryFieldArrives) {
  EXPECT_TRUE(lockstep_model_has_chat_template(model_));
  const Model cpp = tiny_.load(1);
  const std::string call = R"([{"type": "function", "function": {"name": "f", "arguments": {}}}])";
  const std::vector<lockstep_chat_message> messages = {
      {"user", "abc", "bob", nullptr, nullptr, nullptr},
      {"assistant", nullptr, nullptr, nullptr, call.c_str(), "hm"},
      {"tool", "bc", nullptr, "id", nullptr, nullptr}};
  const std::vector<ChatMessage> expected_messages = {
      {.role = "user", .content = "abc", .name = "bob"},
      {.role = "assistant", .content = "", .tool_calls = call, .reasoning_content = "hm"},
      {.role = "tool", .content = "bc", .tool_call_id = "id"}};
  const auto compare = [&](const lockstep_chat_options* options, const ChatOptions& cpp_options) {
    const RenderedChat expected = cpp.render_chat(expected_messages, cpp_options);
    const auto [text, ids] = render(messages, options);
    EXPECT_EQ(text, expected.text);
    EXPECT_EQ(ids, expected.ids);
    return text;
  };
  EXPECT_THAT(compare(nullptr, {}), testing::EndsWith("END"));
  compare(&options_, {});
  options_.add_generation_prompt = false;
  options_.tools = R"([{"type": "function"}])";
  options_.variables = R"({"word": "z"})";
  const std::string text = compare(&options_, {.add_generation_prompt = false,
                                               .tools = R"([{"type": "function"}])",
                                               .variables = R"({"word": "z"})"});
  EXPECT_THAT(text, HasSubstr("z"));
  EXPECT_THAT(text, testing::Not(HasSubstr("END")));
  options_.chat_template = "only this";
  EXPECT_EQ(render(messages, &options_).first, "only this");
}

TEST_F(CChat, AnswersAsTheInterfaceOfCppDoes) {
  Generator cpp(tiny_.load(2));
  const lockstep_chat_message message = {"user", "abc", nullptr, nullptr, nullptr, nullptr};
  lockstep_sampling_params params;
  ASSERT_EQ(lockstep_sampling_params_init(&params, sizeof params), LOCKSTEP_OK);
  params.max_tokens = 9;
  params.has_seed = true;
  params.seed = 3;
  params.ignore_eos = true;
  const Completion expected = cpp.chat({{.role = "user", .content = "abc"}}, drawn(9, 3));

  std::string streamed;
  const lockstep_token_callback callback = [](const lockstep_token* token, void* text) {
    static_cast<std::string*>(text)->append(token->text, token->text_bytes);
    return false;
  };
  lockstep_completion* completion = nullptr;
  ASSERT_EQ(
      lockstep_chat(generator_, &message, 1, &params, nullptr, callback, &streamed, &completion),
      LOCKSTEP_OK)
      << lockstep_last_error();
  EXPECT_EQ(lockstep_completion_text(completion, nullptr), expected.text);
  EXPECT_EQ(lockstep_completion_prompt_tokens(completion), expected.prompt_tokens);
  EXPECT_EQ(streamed, expected.text);
  lockstep_completion_free(completion);

  lockstep_stream* stream = nullptr;
  ASSERT_EQ(lockstep_stream_start_chat(generator_, &message, 1, &params, &options_, &stream),
            LOCKSTEP_OK);
  ASSERT_EQ(lockstep_stream_completion(stream, &completion), LOCKSTEP_OK);
  EXPECT_EQ(lockstep_completion_text(completion, nullptr), expected.text);
  lockstep_completion_free(completion);
  lockstep_stream_free(stream);
}

TEST_F(CChat, WrongArguments) {
  const lockstep_chat_message message = {"user", "abc", nullptr, nullptr, nullptr, nullptr};
  lockstep_completion* completion = nullptr;
  lockstep_stream* stream = nullptr;
  lockstep_rendered_chat* chat = nullptr;
  const auto expect_invalid = [](lockstep_status status, const std::string& message) {
    EXPECT_EQ(status, LOCKSTEP_INVALID_ARGUMENT);
    EXPECT_THAT(lockstep_last_error(), HasSubstr(message));
  };
  const auto run = [&](lockstep_generator* generator, const lockstep_chat_message* messages,
                       lockstep_completion** out) {
    return lockstep_chat(generator, messages, 1, nullptr, nullptr, nullptr, nullptr, out);
  };
  expect_invalid(run(nullptr, &message, &completion), "lockstep_chat: generator is NULL");
  expect_invalid(run(generator_, nullptr, &completion), "messages is NULL");
  expect_invalid(run(generator_, &message, nullptr), "completion is NULL");
  const lockstep_chat_message nobody = {};
  expect_invalid(run(generator_, &nobody, &completion), "a message's role is NULL");
  expect_invalid(lockstep_stream_start_chat(nullptr, &message, 1, nullptr, nullptr, &stream),
                 "generator is NULL");
  expect_invalid(lockstep_stream_start_chat(generator_, &message, 1, nullptr, nullptr, nullptr),
                 "stream is NULL");
  expect_invalid(lockstep_model_render_chat(nullptr, &message, 1, nullptr, &chat), "model is NULL");
  expect_invalid(lockstep_model_render_chat(model_, &message, 1, nullptr, nullptr), "chat is NULL");
  options_.struct_size = 3;
  expect_invalid(lockstep_model_render_chat(model_, &message, 1, &options_, &chat), "3 bytes");
  expect_invalid(lockstep_chat_options_init(nullptr, sizeof options_), "is NULL");
  EXPECT_FALSE(lockstep_model_has_chat_template(nullptr));
  std::size_t size = 7;
  EXPECT_EQ(lockstep_rendered_chat_text(nullptr, &size), nullptr);
  EXPECT_EQ(size, 0u);
  EXPECT_EQ(lockstep_rendered_chat_ids(nullptr, &size), nullptr);
  lockstep_rendered_chat_free(nullptr);

  ASSERT_EQ(lockstep_chat_options_init(&options_, sizeof options_), LOCKSTEP_OK);
  options_.tools = "{";
  EXPECT_EQ(lockstep_model_render_chat(model_, &message, 1, &options_, &chat), LOCKSTEP_ERROR);
}

}  // namespace
}  // namespace lockstep::test
