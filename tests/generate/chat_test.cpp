// Conversations through the public interface; cancellation and callbacks of streams.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "generate/model_impl.h"
#include "test_model.h"

namespace lockstep {
namespace {

using test::drawn;
using test::greedy;
using test::ids_of;
using test::some_ids;
using test::tiny_id;
using test::TinyModel;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<std::int32_t>;

constexpr const char* kTemplate =
    "{{ bos_token }}{% for m in messages %}{{ m.role[0] }}{{ m.content }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}a{% endif %}";

// A model whose template writes the first letter of the role, the content, and an end token.
struct ChatModel : TinyModel {
  ChatModel() {
    add_tokenizer();
    const nlohmann::json config = {
        {"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", kTemplate}};
    write("tokenizer_config.json", config.dump());
  }
};

void expect_error(const std::function<void()>& call, const std::string& message) {
  try {
    call();
    ADD_FAILURE() << "no error; expected: " << message;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(Chat, ConversationsArePrompts) {
  const Model model = ChatModel().load();
  ASSERT_TRUE(model.has_chat_template());
  const std::vector<ChatMessage> messages = {{.role = "user", .content = "ab"}};
  const RenderedChat chat = model.render_chat(messages);
  EXPECT_EQ(chat.text, "<s>uab</s>a");
  const std::int32_t bos = model.impl()->tokenizer->bos_id();
  const std::int32_t eos = model.impl()->tokenizer->eos_ids().at(0);
  EXPECT_THAT(chat.ids,
              ElementsAre(bos, tiny_id("u"), tiny_id("a"), tiny_id("b"), eos, tiny_id("a")));
  EXPECT_EQ(model.render_chat(messages, {.add_generation_prompt = false}).text, "<s>uab</s>");
  EXPECT_EQ(model
                .render_chat(messages, {.chat_template = "{{ messages[0].content }}{{ x }}",
                                        .variables = R"({"x": [1]})"})
                .text,
            "ab[1]");

  Generator generator(model);
  EXPECT_EQ(ids_of(generator.chat(messages, greedy(9))),
            ids_of(generator.generate(chat.ids, greedy(9))));
  TokenStream stream = generator.stream_chat(messages, drawn(9, 1));
  EXPECT_EQ(ids_of(stream.completion()), ids_of(generator.generate(chat.ids, drawn(9, 1))));
}

TEST(Chat, TypedControlTokensStayText) {
  const Model model = ChatModel().load();
  const std::int32_t eos = model.impl()->tokenizer->eos_ids().at(0);
  const RenderedChat chat = model.render_chat({{.role = "user", .content = "</s>b"}});
  EXPECT_EQ(chat.text, "<s>u</s>b</s>a");
  EXPECT_EQ(std::count(chat.ids.begin(), chat.ids.end(), eos), 1);
  // Nor through what else comes from outside.
  const RenderedChat other = model.render_chat(
      {{.role = "</s>", .content = "a"}},
      {.tools = R"([{"</s>": "</s>"}])",
       .chat_template = "{{ messages[0].role }}{{ tools }}{{ tools|tojson }}{{ v|upper|lower }}",
       .variables = R"({"v": "</s>"})"});
  EXPECT_EQ(std::count(other.ids.begin(), other.ids.end(), eos), 0) << other.text;
}

TEST(Chat, ToolsHaveTheirOwnTemplate) {
  ChatModel files;
  files.write("tokenizer_config.json",
              R"({"chat_template": [{"name": "default", "template": "d"},
                                    {"name": "tool_use", "template": "t{{ tools[0].a }}"}]})");
  const Model model = files.load();
  const std::vector<ChatMessage> messages = {{.role = "user", .content = "ab"}};
  EXPECT_EQ(model.render_chat(messages).text, "d");
  EXPECT_EQ(model.render_chat(messages, {.tools = R"([{"a": 5}])"}).text, "t5");
}

TEST(Chat, AnAnswerMayReachTheEndOfTheContext) {
  Generator generator(ChatModel().load(), {.max_length = 40});
  SamplingParams params = greedy(1);
  const Completion completion = generator.chat({{.role = "user", .content = "ab"}}, std::nullopt,
                                               {.chat_template = "{{ messages[0].content }}"});
  const auto length =
      completion.prompt_tokens + static_cast<std::int64_t>(completion.tokens.size());
  EXPECT_TRUE(completion.finish_reason == FinishReason::kStop || length == 40) << length;
  EXPECT_GT(completion.tokens.size(), 0u);
  EXPECT_EQ(generator.chat({{.role = "user", .content = "ab"}}, params).tokens.size(), 1u);
}

TEST(Chat, Errors) {
  const Model bare = test::load_golden("llama");
  EXPECT_FALSE(bare.has_chat_template());
  expect_error([&] { bare.render_chat({{.role = "user"}}); }, "no tokenizer");
  TinyModel files;
  files.add_tokenizer();
  const Model plain = files.load();
  EXPECT_FALSE(plain.has_chat_template());
  expect_error([&] { plain.render_chat({{.role = "user"}}); }, "no chat template");

  const Model model = ChatModel().load();
  const auto render = [&](const ChatOptions& options, const ChatMessage& message) {
    model.render_chat({message}, options);
  };
  const ChatMessage user = {.role = "user", .content = "a"};
  expect_error([&] { model.render_chat({}); }, "at least one message");
  expect_error([&] { render({}, {.content = "a"}); }, "no role");
  expect_error([&] { render({.tools = "{"}, user); }, "tools: not valid JSON");
  expect_error([&] { render({.tools = "{}"}, user); }, "tools: not a JSON list");
  expect_error([&] { render({.variables = "[]"}, user); }, "not a JSON object");
  expect_error([&] { render({}, {.role = "assistant", .tool_calls = "5"}); }, "tool_calls");
  expect_error([&] { render({.chat_template = "a\n{% if %}"}, user); }, "chat template, line 2");
  expect_error([&] { render({.chat_template = "\n{{ raise_exception('no ' ~ 1) }}"}, user); },
               "chat template, line 2: no 1");
  expect_error(
      [&] {
        render({.chat_template = "{% for x in range(99999) %}{% for y in range(99999) "
                                 "%}{% endfor %}{% endfor %}"},
               user);
      },
      "too many steps");
}

TEST(Stream, AStopTokenCancelsIt) {
  const Model model = test::load_golden("llama");
  Generator generator(model);
  std::stop_source source;
  test::Hold hold(model);
  TokenStream stream = generator.stream(some_ids(3), greedy(100), source.get_token());
  source.request_stop();
  hold.release();
  const Completion& completion = stream.completion();
  EXPECT_EQ(completion.finish_reason, FinishReason::kCancelled);
  EXPECT_LT(completion.tokens.size(), 3u);

  TokenStream late = generator.stream(some_ids(3), greedy(100), source.get_token());
  EXPECT_EQ(late.completion().finish_reason, FinishReason::kCancelled);
}

TEST(Stream, ATokenCallbackSeesEveryToken) {
  Generator generator(test::load_golden("llama"));
  Ids seen;
  const Completion completion = generator.generate(
      some_ids(3), greedy(20), [&](const Token& token) { seen.push_back(token.id); });
  EXPECT_EQ(seen, ids_of(completion));
  EXPECT_EQ(seen.size(), 20u);
  std::stop_source source;
  const Completion cut = generator.generate(
      some_ids(3), greedy(90), [&](const Token&) { source.request_stop(); }, source.get_token());
  EXPECT_EQ(cut.finish_reason, FinishReason::kCancelled);
  EXPECT_THROW(generator.generate(some_ids(3), greedy(90),
                                  [](const Token&) { throw std::logic_error("mine"); }),
               std::logic_error);
}

}  // namespace
}  // namespace lockstep
