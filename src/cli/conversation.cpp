#include "cli/conversation.h"

#include <fmt/format.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/check.h"

namespace lockstep::cli {

Conversation::Conversation(const Model& model, Generator& generator, SamplingParams params,
                           ChatOptions options, const std::string& system)
    : model_(model),
      generator_(generator),
      params_(std::move(params)),
      options_(std::move(options)),
      system_(system) {}

std::vector<ChatMessage> Conversation::with_system() const {
  std::vector<ChatMessage> messages;
  if (!system_.empty()) messages.push_back({.role = "system", .content = system_});
  messages.insert(messages.end(), messages_.begin(), messages_.end());
  return messages;
}

const Completion& Conversation::say(const std::string& message,
                                    const std::function<void(std::string_view)>& write,
                                    std::stop_token stop) {
  std::vector<ChatMessage> messages = with_system();
  messages.push_back({.role = "user", .content = message});
  std::vector<std::int32_t> ids = model_.render_chat(messages, options_).ids;
  const std::int64_t room = generator_.options().max_length;
  check(
      static_cast<std::int64_t>(ids.size()) < room,
      "the conversation has {} tokens with this message, and there is room for {} (--max-length): "
      "shorten the message, or start again with /reset",
      ids.size(), room);
  TokenStream stream = generator_.stream(std::move(ids), params_, std::move(stop));
  for (const Token& token : stream) write(token.text);
  last_ = stream.completion();
  messages_.push_back(messages.back());
  messages_.push_back({.role = "assistant", .content = last_->text});
  return *last_;
}

void Conversation::reset() {
  messages_.clear();
  last_.reset();
}

void Conversation::save(const std::string& file) const {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const ChatMessage& message : with_system())
    list.push_back({{"role", message.role}, {"content", message.content}});
  std::ofstream out(file, std::ios::binary);
  out << list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  out.close();
  check(out.good(), "{}: cannot be written", file);
}

std::string Conversation::stats() const {
  if (!last_) return "no answer yet";
  const Timings& timings = last_->timings;
  const auto tokens = static_cast<std::int64_t>(last_->tokens.size());
  std::string line =
      fmt::format("{}: {} prompt tokens in {:.1f} ms, {} new tokens", to_string(model_.mesh()),
                  last_->prompt_tokens, 1e3 * timings.prefill_seconds, tokens);
  if (tokens > 1 && timings.decode_seconds > 0) {
    const auto steps = static_cast<double>(tokens - 1);
    line += fmt::format(" at {:.2f} ms each ({:.1f} tokens/s)",
                        1e3 * timings.decode_seconds / steps, steps / timings.decode_seconds);
  }
  return line + fmt::format("; finished by {}\n{} messages, {} of {} tokens of the context",
                            name_of(last_->finish_reason), messages_.size(),
                            last_->prompt_tokens + tokens, generator_.options().max_length);
}

}  // namespace lockstep::cli
