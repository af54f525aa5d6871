#include "generate/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace lockstep {

void add_logprobs(Token& token, std::span<const float> logits, int count,
                  const Tokenizer* tokenizer) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - largest);
  const double log_sum = largest + std::log(sum);
  const auto logprob = [&](std::int32_t id) {
    return static_cast<float>(logits[static_cast<std::size_t>(id)] - log_sum);
  };
  token.logprob = logprob(token.id);

  std::vector<std::int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  const auto best = ids.begin() + std::min<std::ptrdiff_t>(count, std::ssize(ids));
  std::partial_sort(ids.begin(), best, ids.end(), [&](std::int32_t a, std::int32_t b) {
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  });
  for (auto id = ids.begin(); id != best; ++id)
    token.top_logprobs.push_back(
        {*id, tokenizer && *id < tokenizer->vocab_size() ? tokenizer->token(*id) : "",
         logprob(*id)});
}

}  // namespace lockstep
