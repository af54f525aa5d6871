#include "core/check.h"
#include "generate/request.h"

namespace lockstep {

std::string_view name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  fail("unknown finish reason {}", static_cast<int>(reason));
}

TokenStream::TokenStream(std::shared_ptr<Request> request) : request_(std::move(request)) {}

TokenStream::~TokenStream() { cancel(); }

TokenStream& TokenStream::operator=(TokenStream&& other) noexcept {
  cancel();
  request_ = std::move(other.request_);
  return *this;
}

void TokenStream::cancel() {
  // The generator's thread looks before every step.
  if (request_) request_->cancelled = true;
}

std::optional<Token> TokenStream::next() {
  check(request_ != nullptr, "the stream was moved from");
  std::unique_lock lock(request_->mutex);
  const std::vector<Token>& tokens = request_->completion.tokens;
  request_->changed.wait(lock,
                         [&] { return request_->done || request_->delivered < tokens.size(); });
  if (request_->delivered < tokens.size()) return tokens[request_->delivered++];
  if (request_->error) throw Error(*request_->error);
  return std::nullopt;
}

const Completion& TokenStream::completion() {
  check(request_ != nullptr, "the stream was moved from");
  std::unique_lock lock(request_->mutex);
  request_->changed.wait(lock, [&] { return request_->done; });
  if (request_->error) throw Error(*request_->error);
  return request_->completion;
}

TokenStream::Iterator& TokenStream::Iterator::operator++() {
  token_ = stream_->next();
  if (!token_) stream_ = nullptr;
  return *this;
}

}  // namespace lockstep
