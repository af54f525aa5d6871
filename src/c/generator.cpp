#include <memory>
#include <utility>

#include "c/guard.h"
#include "c/handles.h"
#include "c/options.h"

using namespace lockstep::c;

namespace lockstep::c {
namespace {

Prompt prompt_from(const lockstep_prompt& prompt) {
  if ((prompt.text == nullptr) == (prompt.ids == nullptr))
    throw InvalidArgument("a prompt needs either text or ids; the other has to be NULL");
  if (prompt.text) return Prompt(prompt.text);
  return Prompt(std::vector<std::int32_t>(prompt.ids, prompt.ids + prompt.num_ids));
}

TokenStream start(lockstep_generator* generator, const lockstep_prompt* prompt,
                  const lockstep_sampling_params* params) {
  return not_null(generator, "generator")
      .value.stream(prompt_from(not_null(prompt, "prompt")), sampling_params(params));
}

lockstep_finish_reason to_c(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return LOCKSTEP_FINISH_STOP;
    case FinishReason::kLength:
      return LOCKSTEP_FINISH_LENGTH;
    case FinishReason::kCancelled:
      return LOCKSTEP_FINISH_CANCELLED;
  }
  fail("unknown finish reason {}", static_cast<int>(reason));
}

}  // namespace

TokenView::TokenView(const Token& token) {
  for (const TokenLogprob& top : token.top_logprobs)
    top_logprobs_.push_back({top.id, top.logprob, top.token.c_str()});
  value_.id = token.id;
  value_.has_logprob = token.logprob.has_value();
  value_.logprob = token.logprob.value_or(0);
  value_.text = token.text.c_str();
  value_.text_bytes = token.text.size();
  value_.top_logprobs = top_logprobs_.data();
  value_.num_top_logprobs = top_logprobs_.size();
}

lockstep_completion* complete(TokenStream stream, lockstep_token_callback on_token,
                              void* user_data) {
  if (on_token) {
    for (const Token& token : stream) {
      if (!on_token(&TokenView(token).value(), user_data)) continue;
      stream.cancel();
      break;
    }
  }
  return new lockstep_completion(stream.completion());
}

}  // namespace lockstep::c

lockstep_completion::lockstep_completion(lockstep::Completion its_value)
    : value(std::move(its_value)) {
  for (const lockstep::Token& token : value.tokens) tokens.emplace_back(token);
}

lockstep_status lockstep_generator_new(const lockstep_model* model,
                                       const lockstep_generator_options* options,
                                       lockstep_generator** generator) {
  return guarded(__func__, [&] {
    lockstep_generator*& out = not_null(generator, "generator");
    out = nullptr;
    out = new lockstep_generator{
        lockstep::Generator(not_null(model, "model").value, generator_options(options))};
    return LOCKSTEP_OK;
  });
}

int64_t lockstep_generator_max_length(const lockstep_generator* generator) {
  return value_or<int64_t>(
      __func__, 0, [&] { return not_null(generator, "generator").value.options().max_length; });
}

void lockstep_generator_free(lockstep_generator* generator) { delete generator; }

lockstep_status lockstep_generate(lockstep_generator* generator, const lockstep_prompt* prompt,
                                  const lockstep_sampling_params* params,
                                  lockstep_token_callback on_token, void* user_data,
                                  lockstep_completion** completion) {
  return guarded(__func__, [&] {
    lockstep_completion*& out = not_null(completion, "completion");
    out = nullptr;
    out = complete(start(generator, prompt, params), on_token, user_data);
    return LOCKSTEP_OK;
  });
}

const char* lockstep_completion_text(const lockstep_completion* completion, size_t* bytes) {
  if (bytes) *bytes = 0;
  return value_or<const char*>(__func__, nullptr, [&] {
    const std::string& text = not_null(completion, "completion").value.text;
    if (bytes) *bytes = text.size();
    return text.c_str();
  });
}

size_t lockstep_completion_num_tokens(const lockstep_completion* completion) {
  return value_or<size_t>(__func__, 0,
                          [&] { return not_null(completion, "completion").tokens.size(); });
}

const lockstep_token* lockstep_completion_token(const lockstep_completion* completion,
                                                size_t index) {
  return value_or<const lockstep_token*>(__func__, nullptr, [&] {
    const auto& tokens = not_null(completion, "completion").tokens;
    if (index >= tokens.size())
      throw InvalidArgument(fmt::format("token {} of a completion of {}", index, tokens.size()));
    return &tokens[index].value();
  });
}

lockstep_finish_reason lockstep_completion_finish_reason(const lockstep_completion* completion) {
  return value_or(__func__, LOCKSTEP_FINISH_CANCELLED,
                  [&] { return to_c(not_null(completion, "completion").value.finish_reason); });
}

const char* lockstep_completion_stop_string(const lockstep_completion* completion) {
  return value_or<const char*>(__func__, nullptr, [&] {
    return not_null(completion, "completion").value.stop_string.c_str();
  });
}

int64_t lockstep_completion_prompt_tokens(const lockstep_completion* completion) {
  return value_or<int64_t>(__func__, 0,
                           [&] { return not_null(completion, "completion").value.prompt_tokens; });
}

lockstep_timings lockstep_completion_timings(const lockstep_completion* completion) {
  return value_or(__func__, lockstep_timings{}, [&] {
    const lockstep::Timings& timings = not_null(completion, "completion").value.timings;
    return lockstep_timings{timings.queue_seconds, timings.prefill_seconds, timings.decode_seconds};
  });
}

void lockstep_completion_free(lockstep_completion* completion) { delete completion; }

lockstep_status lockstep_stream_start(lockstep_generator* generator, const lockstep_prompt* prompt,
                                      const lockstep_sampling_params* params,
                                      lockstep_stream** stream) {
  return guarded(__func__, [&] {
    lockstep_stream*& out = not_null(stream, "stream");
    out = nullptr;
    out = new lockstep_stream{start(generator, prompt, params), {}, {}};
    return LOCKSTEP_OK;
  });
}

lockstep_status lockstep_stream_next(lockstep_stream* stream, const lockstep_token** token) {
  return guarded(__func__, [&] {
    const lockstep_token*& out = not_null(token, "token");
    out = nullptr;
    lockstep_stream& in = not_null(stream, "stream");
    in.view.reset();
    in.token = in.value.next();
    if (!in.token) return LOCKSTEP_END;
    out = &in.view.emplace(*in.token).value();
    return LOCKSTEP_OK;
  });
}

lockstep_status lockstep_stream_cancel(lockstep_stream* stream) {
  return guarded(__func__, [&] {
    not_null(stream, "stream").value.cancel();
    return LOCKSTEP_OK;
  });
}

lockstep_status lockstep_stream_completion(lockstep_stream* stream,
                                           lockstep_completion** completion) {
  return guarded(__func__, [&] {
    lockstep_completion*& out = not_null(completion, "completion");
    out = nullptr;
    out = new lockstep_completion(not_null(stream, "stream").value.completion());
    return LOCKSTEP_OK;
  });
}

void lockstep_stream_free(lockstep_stream* stream) { delete stream; }
