// The sampling operations of Ops on the CPU (ops.h says what they do).
#pragma once

#include "ops/ops.h"

namespace lockstep::cpu {

void penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view);
void filter_thresholds(const Tensor& thresholds, const Tensor& logits, const SamplingView& view);
void draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id, const Tensor* thresholds,
          const SamplingView& view);
void append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view);

}  // namespace lockstep::cpu
