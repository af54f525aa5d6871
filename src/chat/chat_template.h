// ChatTemplate: conversations as text, the way a model was trained to read them.
#pragma once

#include <ctime>
#include <string>
#include <vector>

#include "jinja/template.h"
#include "lockstep/chat.h"
#include "text/marked_text.h"

namespace lockstep {

// Immutable and thread-safe. Renders what transformers' apply_chat_template does, byte for byte.
class ChatTemplate {
 public:
  // `source`: Jinja. `name` stands in errors. Empty tokens are not defined in the template. Throws
  // Error for what is no template.
  ChatTemplate(const std::string& source, std::string name, std::string bos_token,
               std::string eos_token);

  // Bytes that come from messages, tools and variables are not trusted. `now` is the time that
  // templates may write. Throws Error for JSON that is none, and for what the template refuses.
  MarkedText render(const std::vector<ChatMessage>& messages, const ChatOptions& options,
                    const std::tm& now) const;

 private:
  jinja::Template template_;
  std::string bos_token_;
  std::string eos_token_;
};

}  // namespace lockstep
