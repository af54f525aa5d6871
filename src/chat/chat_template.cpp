#include "chat/chat_template.h"

#include <algorithm>
#include <array>

#include "core/check.h"
#include "jinja/format.h"
#include "text/utf8.h"

namespace lockstep {
namespace {

using jinja::Budget;
using jinja::Dict;
using jinja::Sequence;
using jinja::Value;

constexpr std::size_t kMaxMessages = 100000;
constexpr std::uint64_t kMaxSteps = std::uint64_t{1} << 30;  // inputs are limited otherwise

Value untrusted(const std::string& text) { return MarkedText(repair_utf8(text), false); }

// Templates build control tokens from roles. A role that only a template could know is the
// caller's text, and the caller may have it from anyone.
Value role_value(const std::string& role) {
  constexpr std::array<std::string_view, 7> kKnown = {"system",    "user",     "assistant", "tool",
                                                      "developer", "function", "ipython"};
  check(!role.empty(), "a chat message has no role");
  const bool known = std::find(kKnown.begin(), kKnown.end(), role) != kKnown.end();
  return known ? Value::trusted(role) : untrusted(role);
}

// `value` with `key` replaced.
Value with(const Value& value, std::string_view key, Value replacement, Budget& budget) {
  Dict dict = *value.dict();
  dict.set(MarkedText(key, false), std::move(replacement), budget);
  return dict;
}

// A call whose function's arguments are a string with a JSON object in it has that object.
Value with_parsed_arguments(const Value& call, Budget& budget) {
  const Value* function = call.dict() ? call.dict()->find("function") : nullptr;
  const Value* arguments =
      function && function->dict() ? function->dict()->find("arguments") : nullptr;
  if (!arguments || !arguments->text()) return call;
  Value parsed;
  try {
    parsed = jinja::from_json(arguments->text()->bytes(), "arguments");
  } catch (const Error&) {
    return call;  // what a model wrote need not be JSON
  }
  if (!parsed.dict()) return call;
  return with(call, "function", with(*function, "arguments", std::move(parsed), budget), budget);
}

Value parse_list(const std::string& json, const char* what) {
  Value list = jinja::from_json(json, what);
  check(list.sequence() != nullptr, "{}: not a JSON list", what);
  return list;
}

Value tool_calls_value(const std::string& json, Budget& budget) {
  std::vector<Value> calls;
  const Value list = parse_list(json, "tool_calls");
  for (const Value& call : list.sequence()->values)
    calls.push_back(with_parsed_arguments(call, budget));
  return Sequence(std::move(calls));
}

Value message_value(const ChatMessage& message, Budget& budget) {
  Dict dict;
  const auto set = [&](std::string_view name, Value value) {
    dict.set(Value::trusted(name), std::move(value), budget);
  };
  const auto set_text = [&](std::string_view name, const std::string& text) {
    if (!text.empty()) set(name, untrusted(text));
  };
  set("role", role_value(message.role));
  if (!message.content.empty() || message.tool_calls.empty())
    set("content", untrusted(message.content));
  set_text("reasoning_content", message.reasoning_content);
  set_text("name", message.name);
  set_text("tool_call_id", message.tool_call_id);
  if (!message.tool_calls.empty()) set("tool_calls", tool_calls_value(message.tool_calls, budget));
  return dict;
}

}  // namespace

ChatTemplate::ChatTemplate(const std::string& source, std::string name, std::string bos_token,
                           std::string eos_token)
    : template_(source, std::move(name)),
      bos_token_(std::move(bos_token)),
      eos_token_(std::move(eos_token)) {}

MarkedText ChatTemplate::render(const std::vector<ChatMessage>& messages,
                                const ChatOptions& options, const std::tm& now) const {
  check(!messages.empty(), "a conversation needs at least one message");
  check(messages.size() <= kMaxMessages, "{} messages are more than the {} allowed",
        messages.size(), kMaxMessages);
  Budget budget(kMaxSteps);
  std::vector<Value> list;
  for (const ChatMessage& message : messages) list.push_back(message_value(message, budget));

  std::vector<std::pair<std::string, Value>> variables;
  if (!bos_token_.empty()) variables.emplace_back("bos_token", Value::trusted(bos_token_));
  if (!eos_token_.empty()) variables.emplace_back("eos_token", Value::trusted(eos_token_));
  variables.emplace_back("documents", jinja::None());
  if (!options.variables.empty()) {
    const Value more = jinja::from_json(options.variables, "the template's variables");
    check(more.dict() != nullptr, "the template's variables are not a JSON object");
    for (const auto& [name, value] : more.dict()->entries)
      variables.emplace_back(name.text()->bytes(), value);
  }
  variables.emplace_back("messages", Sequence(std::move(list)));
  variables.emplace_back(
      "tools", options.tools.empty() ? Value(jinja::None()) : parse_list(options.tools, "tools"));
  variables.emplace_back("add_generation_prompt", options.add_generation_prompt);
  return template_.render(variables, now);
}

}  // namespace lockstep
