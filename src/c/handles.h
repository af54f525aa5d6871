// What the C interface's handles hold.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lockstep/c/lockstep.h"
#include "lockstep/lockstep.h"

struct lockstep_mesh {
  lockstep::Mesh value;
  std::string description;
};

struct lockstep_model {
  lockstep::Model value;
};

struct lockstep_generator {
  lockstep::Generator value;
};

namespace lockstep::c {

// A token as C sees it; points into `token`, which has to stay where it is.
class TokenView {
 public:
  explicit TokenView(const Token& token);
  TokenView(TokenView&&) = default;  // the vector's elements stay where they are
  const lockstep_token& value() const { return value_; }

 private:
  std::vector<lockstep_token_logprob> top_logprobs_;
  lockstep_token value_{};
};

}  // namespace lockstep::c

struct lockstep_completion {
  explicit lockstep_completion(lockstep::Completion its_value);

  const lockstep::Completion value;
  std::vector<lockstep::c::TokenView> tokens;  // of value.tokens
};

namespace lockstep::c {

// The whole completion; calls `on_token`, if there is one, with each token, until it says stop.
lockstep_completion* complete(TokenStream stream, lockstep_token_callback on_token,
                              void* user_data);

}  // namespace lockstep::c

struct lockstep_stream {
  lockstep::TokenStream value;
  std::optional<lockstep::Token> token;  // the latest, for `view`
  std::optional<lockstep::c::TokenView> view;
};
