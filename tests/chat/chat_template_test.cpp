// Conversations with the templates of many models against what Jinja2 makes of them: see
// scripts/golden/make_chat_golden.py.
#include "chat/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "checkpoint/gguf.h"
#include "text/read_file.h"

namespace lockstep {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

// 2026-03-07 09:05:03, a Saturday, as in scripts/golden/jinja_reference.py.
std::tm golden_time() {
  std::tm now{};
  now.tm_sec = 3;
  now.tm_min = 5;
  now.tm_hour = 9;
  now.tm_mday = 7;
  now.tm_mon = 2;
  now.tm_year = 126;
  now.tm_wday = 6;
  now.tm_yday = 65;
  return now;
}

std::filesystem::path asset(const std::string& name) {
  return std::filesystem::path(LOCKSTEP_SOURCE_DIR) / ".cache" / name;
}

std::string template_source(const std::string& name) {
  if (name != "smollm2")
    return read_whole_file(asset("chat-templates/" + name + ".jinja"), 1 << 20);
  const GgufHeader header = read_gguf_header(asset("SmolLM2-135M-Instruct.Q4_1.gguf"));
  return *header.metadata.string("tokenizer.chat_template");
}

std::string text_or_json(const Json& object, const char* key) {
  if (!object.contains(key)) return {};
  return object[key].is_string() ? object[key].get<std::string>() : object[key].dump();
}

std::vector<ChatMessage> messages_of(const Json& json) {
  std::vector<ChatMessage> messages;
  for (const Json& message : json)
    messages.push_back({.role = message["role"],
                        .content = message["content"],
                        .name = text_or_json(message, "name"),
                        .tool_call_id = text_or_json(message, "tool_call_id"),
                        .tool_calls = text_or_json(message, "tool_calls"),
                        .reasoning_content = text_or_json(message, "reasoning_content")});
  return messages;
}

ChatOptions options_of(const Json& json) {
  ChatOptions options;
  options.add_generation_prompt = json.value("add_generation_prompt", true);
  options.tools = text_or_json(json, "tools");
  options.variables = text_or_json(json, "variables");
  return options;
}

std::string fnv1a(std::string_view text) {
  std::uint64_t value = 0xCBF29CE484222325;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  return fmt::format("{:016x}", value);
}

struct Rendered {
  std::string text;  // or what was thrown
  bool failed = false;
};

// Some of the templates are none: then every rendering fails, as it does in Jinja2.
Rendered render(const std::string& source, const std::string& name,
                const std::vector<ChatMessage>& messages, const ChatOptions& options) {
  try {
    const ChatTemplate chat_template(source, name, "<s>", "</s>");
    return {chat_template.render(messages, options, golden_time()).bytes()};
  } catch (const Error& error) {
    return {error.what(), true};
  }
}

TEST(ChatTemplateGolden, RealTemplatesRenderAsInJinja2) {
  const Json golden = Json::parse(
      read_whole_file(LOCKSTEP_GOLDEN_DIR "/chat/conversations.json", std::uint64_t{16} << 20));
  ASSERT_GT(golden["outputs"].size(), 80u);
  ASSERT_GT(golden["cases"].size(), 80u);
  for (const auto& [name, outputs] : golden["outputs"].items()) {
    const std::string source = template_source(name);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const Json& one = golden["cases"][i];
      const Rendered found =
          render(source, name, messages_of(one["messages"]), options_of(one["options"]));
      EXPECT_EQ(found.failed ? Json() : Json(fnv1a(found.text)), outputs[i])
          << name << ", case " << i << ": " << found.text;
    }
  }
}

}  // namespace
}  // namespace lockstep
