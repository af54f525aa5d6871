#include "generate/text_builder.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace lockstep {
namespace {

// Length of the longest end of `text` that is a proper beginning of `stop`.
std::size_t partial_match(std::string_view text, std::string_view stop) {
  for (std::size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length)
    if (text.ends_with(stop.substr(0, length))) return length;
  return 0;
}

}  // namespace

TextBuilder::TextBuilder(const Tokenizer* tokenizer, const SamplingParams& params)
    : params_(params) {
  if (!tokenizer) return;
  vocab_size_ = tokenizer->vocab_size();
  detokenizer_ = std::make_unique<Detokenizer>(*tokenizer, params.skip_special_tokens);
}

std::string TextBuilder::push(std::int32_t id) {
  if (!detokenizer_ || stopped_by_) return {};
  // Models pad their vocabularies: not every id that they can choose is a token.
  if (id < vocab_size_) withheld_ += detokenizer_->push(id);
  return release(false);
}

std::string TextBuilder::finish() {
  if (!detokenizer_ || stopped_by_) return {};
  withheld_ += detokenizer_->finish();
  return release(true);
}

std::string TextBuilder::release(bool everything) {
  std::size_t first = std::string::npos;  // where the earliest stop string begins
  for (const std::string& stop : params_.stop) {
    const std::size_t at = withheld_.find(stop);
    if (at >= first) continue;
    first = at;
    stopped_by_ = &stop;
  }
  std::size_t keep = 0;
  if (stopped_by_) {
    withheld_.resize(first + (params_.include_stop_str_in_output ? stopped_by_->size() : 0));
  } else if (!everything) {
    for (const std::string& stop : params_.stop)
      keep = std::max(keep, partial_match(withheld_, stop));
  }
  std::string text = withheld_.substr(0, withheld_.size() - keep);
  withheld_.erase(0, text.size());
  return text;
}

}  // namespace lockstep
