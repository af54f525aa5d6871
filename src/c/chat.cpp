#include <span>
#include <string>
#include <utility>
#include <vector>

#include "c/guard.h"
#include "c/handles.h"
#include "c/options.h"

using namespace lockstep::c;

namespace lockstep::c {
namespace {

// NULL is "not said".
std::string text_or_empty(const char* text) { return text ? text : ""; }

std::vector<ChatMessage> messages_from(const lockstep_chat_message* messages, std::size_t size) {
  std::vector<ChatMessage> out;
  for (const lockstep_chat_message& message : std::span(&not_null(messages, "messages"), size))
    out.push_back({.role = &not_null(message.role, "a message's role"),
                   .content = text_or_empty(message.content),
                   .name = text_or_empty(message.name),
                   .tool_call_id = text_or_empty(message.tool_call_id),
                   .tool_calls = text_or_empty(message.tool_calls),
                   .reasoning_content = text_or_empty(message.reasoning_content)});
  return out;
}

ChatOptions chat_options(const lockstep_chat_options* options) {
  if (options == nullptr) return {};
  check_size<lockstep_chat_options>(options->struct_size);
  return {.add_generation_prompt = options->add_generation_prompt,
          .tools = text_or_empty(options->tools),
          .chat_template = text_or_empty(options->chat_template),
          .variables = text_or_empty(options->variables)};
}

TokenStream start_chat(lockstep_generator* generator, const lockstep_chat_message* messages,
                       std::size_t num_messages, const lockstep_sampling_params* params,
                       const lockstep_chat_options* options) {
  return not_null(generator, "generator")
      .value.stream_chat(messages_from(messages, num_messages), sampling_params(params),
                         chat_options(options));
}

}  // namespace
}  // namespace lockstep::c

struct lockstep_rendered_chat {
  lockstep::RenderedChat value;
};

lockstep_status lockstep_chat_options_init(lockstep_chat_options* options, size_t size) {
  return fill_in(options, size, __func__, [] {
    lockstep_chat_options defaults{};
    defaults.struct_size = sizeof defaults;
    defaults.add_generation_prompt = lockstep::ChatOptions().add_generation_prompt;
    return defaults;
  });
}

bool lockstep_model_has_chat_template(const lockstep_model* model) {
  return value_or(__func__, false,
                  [&] { return not_null(model, "model").value.has_chat_template(); });
}

lockstep_status lockstep_chat(lockstep_generator* generator, const lockstep_chat_message* messages,
                              size_t num_messages, const lockstep_sampling_params* params,
                              const lockstep_chat_options* options,
                              lockstep_token_callback on_token, void* user_data,
                              lockstep_completion** completion) {
  return guarded(__func__, [&] {
    lockstep_completion*& out = not_null(completion, "completion");
    out = nullptr;
    out = complete(start_chat(generator, messages, num_messages, params, options), on_token,
                   user_data);
    return LOCKSTEP_OK;
  });
}

lockstep_status lockstep_stream_start_chat(lockstep_generator* generator,
                                           const lockstep_chat_message* messages,
                                           size_t num_messages,
                                           const lockstep_sampling_params* params,
                                           const lockstep_chat_options* options,
                                           lockstep_stream** stream) {
  return guarded(__func__, [&] {
    lockstep_stream*& out = not_null(stream, "stream");
    out = nullptr;
    out =
        new lockstep_stream{start_chat(generator, messages, num_messages, params, options), {}, {}};
    return LOCKSTEP_OK;
  });
}

lockstep_status lockstep_model_render_chat(const lockstep_model* model,
                                           const lockstep_chat_message* messages,
                                           size_t num_messages,
                                           const lockstep_chat_options* options,
                                           lockstep_rendered_chat** chat) {
  return guarded(__func__, [&] {
    lockstep_rendered_chat*& out = not_null(chat, "chat");
    out = nullptr;
    out = new lockstep_rendered_chat{
        not_null(model, "model")
            .value.render_chat(messages_from(messages, num_messages), chat_options(options))};
    return LOCKSTEP_OK;
  });
}

const char* lockstep_rendered_chat_text(const lockstep_rendered_chat* chat, size_t* bytes) {
  if (bytes) *bytes = 0;
  return value_or<const char*>(__func__, nullptr, [&] {
    const std::string& text = not_null(chat, "chat").value.text;
    if (bytes) *bytes = text.size();
    return text.c_str();
  });
}

const int32_t* lockstep_rendered_chat_ids(const lockstep_rendered_chat* chat, size_t* num_ids) {
  if (num_ids) *num_ids = 0;
  return value_or<const int32_t*>(__func__, nullptr, [&] {
    const std::vector<std::int32_t>& ids = not_null(chat, "chat").value.ids;
    if (num_ids) *num_ids = ids.size();
    return ids.data();
  });
}

void lockstep_rendered_chat_free(lockstep_rendered_chat* chat) { delete chat; }
