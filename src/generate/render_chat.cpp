// Model's part in conversations.
#include <algorithm>
#include <ctime>

#include "chat/chat_template.h"
#include "core/check.h"
#include "generate/model_impl.h"

namespace lockstep {
namespace {

std::tm local_time() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return local;
}

// The token's text, or empty for none.
std::string token_text(const Tokenizer& tokenizer, std::int32_t id) {
  return id < 0 ? std::string() : tokenizer.token(id);
}

}  // namespace

bool Model::has_chat_template() const {
  return has_tokenizer() && !impl_->tokenizer->chat_templates().standard.empty();
}

RenderedChat Model::render_chat(const std::vector<ChatMessage>& messages,
                                const ChatOptions& options) const {
  check(has_tokenizer(), "this model has no tokenizer: it cannot read conversations");
  const Tokenizer& tokenizer = *impl_->tokenizer;
  const ChatTemplates& templates = tokenizer.chat_templates();
  const std::string* source = &options.chat_template;
  if (source->empty() && !options.tools.empty()) source = &templates.tool_use;
  if (source->empty()) source = &templates.standard;
  check(!source->empty(),
        "this model has no chat template, as models have that were not trained for conversations: "
        "generate from a prompt, or give a template (ChatOptions::chat_template)");
  const std::vector<std::int32_t> eos = tokenizer.eos_ids();
  const ChatTemplate chat_template(*source, "chat template",
                                   token_text(tokenizer, tokenizer.bos_id()),
                                   eos.empty() ? std::string() : token_text(tokenizer, eos[0]));
  const MarkedText text = chat_template.render(messages, options, local_time());
  return {text.bytes(), tokenizer.encode(text, false)};
}

}  // namespace lockstep
