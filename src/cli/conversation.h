// A conversation with a model on the command line: the messages so far, and the next answer.
#pragma once

#include <functional>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "lockstep/lockstep.h"

namespace lockstep::cli {

class Conversation {
 public:
  Conversation(const Model& model, Generator& generator, SamplingParams params, ChatOptions options,
               const std::string& system);

  // Answers `message`, piece by piece to `write`; message and answer become part of the
  // conversation. Throws Error when they cannot, and leaves the conversation as it was.
  const Completion& say(const std::string& message,
                        const std::function<void(std::string_view)>& write, std::stop_token stop);

  const std::string& system() const { return system_; }
  void set_system(const std::string& text) { system_ = text; }
  // Forgets everything but the system message.
  void reset();
  // Writes all messages to a file, as JSON. Throws Error when that fails.
  void save(const std::string& file) const;
  // Figures of the last answer, a line or two.
  std::string stats() const;

 private:
  std::vector<ChatMessage> with_system() const;

  Model model_;
  Generator& generator_;
  SamplingParams params_;
  ChatOptions options_;
  std::string system_;
  std::vector<ChatMessage> messages_;  // without the system message
  std::optional<Completion> last_;
};

}  // namespace lockstep::cli
