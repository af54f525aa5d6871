#include <cmath>

#include "core/check.h"
#include "lockstep/sampling.h"
#include "ops/ops.h"

namespace lockstep {

void validate(const SamplingParams& params) {
  // Written so that NaN fails.
  check(params.temperature >= 0 && params.temperature <= 100,
        "temperature is {}; it has to be from 0 to 100", params.temperature);
  check(params.top_p > 0 && params.top_p <= 1, "top_p is {}; it has to be above 0 and at most 1",
        params.top_p);
  check(params.top_k >= -1, "top_k is {}; it has to be -1, 0 (both: off) or more", params.top_k);
  check(params.min_p >= 0 && params.min_p <= 1, "min_p is {}; it has to be from 0 to 1",
        params.min_p);
  // Bounded, so that no logit overflows: infinity minus infinity would stop every rank.
  check(params.repetition_penalty >= 0.01f && params.repetition_penalty <= 100,
        "repetition_penalty is {}; it has to be from 0.01 to 100", params.repetition_penalty);
  check(params.presence_penalty >= -2 && params.presence_penalty <= 2,
        "presence_penalty is {}; it has to be from -2 to 2", params.presence_penalty);
  check(params.frequency_penalty >= -2 && params.frequency_penalty <= 2,
        "frequency_penalty is {}; it has to be from -2 to 2", params.frequency_penalty);
  check(params.max_tokens >= 1, "max_tokens is {}; it has to be at least 1", params.max_tokens);
  check(!params.logprobs || (*params.logprobs >= 0 && *params.logprobs <= 20),
        "logprobs is {}; it has to be from 0 to 20", params.logprobs.value_or(0));
  check(params.logit_bias.size() <= kMaxLogitBias, "{} logit biases; at most {} are allowed",
        params.logit_bias.size(), kMaxLogitBias);
  for (const auto& [id, bias] : params.logit_bias)
    check(!std::isnan(bias) && bias < INFINITY, "the logit bias of token {} is {}", id, bias);
  for (const std::string& stop : params.stop) check(!stop.empty(), "a stop string is empty");
}

}  // namespace lockstep
