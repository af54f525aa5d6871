/// @file
/// Conversations: what a chat template turns into a prompt.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

/// One message of a conversation. Texts are UTF-8; what is not is repaired with U+FFFD. What a text
/// says is never taken for a control token, whatever it spells.
struct ChatMessage {
  /// "system", "user", "assistant", "tool", "developer", or what else the template knows. These
  /// five, "function" and "ipython" may become part of a control token (templates write
  /// "<|" + role + "|>"); others are text.
  std::string role = {};
  /// What was said. With tool_calls and empty, the message has no content at all.
  std::string content = {};
  /// Who said it; empty: not said.
  std::string name = {};
  /// Of a tool's answer: which call it answers; empty: not said.
  std::string tool_call_id = {};
  /// Of an assistant's message: the calls of tools that it made, as a JSON list such as
  /// [{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]. Arguments
  /// that are a string with JSON in it, as OpenAI's interface has them, count as that JSON. Empty:
  /// none.
  std::string tool_calls = {};
  /// Of an assistant's message: what it thought before it answered; empty: not said.
  std::string reasoning_content = {};
};

/// How a conversation becomes a prompt.
struct ChatOptions {
  /// Ends the prompt with the beginning of an assistant's message.
  bool add_generation_prompt = true;
  /// The tools that the model may call, as a JSON list of JSON schemas as OpenAI's interface and
  /// Hugging Face's templates have them. Empty: none.
  std::string tools = {};
  /// The template's source (Jinja), instead of the model's. Empty: the model's.
  std::string chat_template = {};
  /// Further variables that the template sees, as a JSON object such as {"enable_thinking": false}.
  /// Empty: none.
  std::string variables = {};
};

/// A conversation as the model reads it.
struct RenderedChat {
  std::string text;               ///< What the template wrote.
  std::vector<std::int32_t> ids;  ///< Its token ids: the prompt.
};

}  // namespace lockstep
