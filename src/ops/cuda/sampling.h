// What the sampling kernels share: a logit row's slot, and the checks of a SamplingView.
#pragma once

#include <cstdint>

#include "ops/cuda/checks.h"
#include "ops/ops.h"

namespace lockstep::cuda {

// A SamplingView for kernels.
struct SamplingRows {
  std::int64_t rows;
  const std::int32_t* slots;
  const std::int32_t* positions;
  std::int32_t* tokens;
  const SlotSampling* parameters;
  const std::int32_t* bias_ids;
  const float* bias_values;
  std::int64_t num_slots;
  std::int64_t max_length;
  std::int64_t max_bias;
};

// Throws Error unless the view's tensors fit each other.
inline SamplingRows sampling_rows(const char* op, const SamplingView& view) {
  check_table(op, "tokens", view.tokens);
  const std::int64_t slots = view.tokens.shape[0];
  check(view.rows >= 0, "{}: {} rows", op, view.rows);
  check_tensor(op, "slots", view.slots, DType::kInt32, {view.rows});
  check_tensor(op, "positions", view.positions, DType::kInt32, {view.rows});
  check_tensor(op, "tokens", view.tokens, DType::kInt32, view.tokens.shape);
  check_tensor(op, "parameters", view.parameters, DType::kUInt8,
               {slots, static_cast<std::int64_t>(sizeof(SlotSampling))});
  check_table(op, "bias_ids", view.bias_ids);
  const Shape bias{slots, view.bias_ids.shape[1]};
  check_tensor(op, "bias_ids", view.bias_ids, DType::kInt32, bias);
  check_tensor(op, "bias_values", view.bias_values, DType::kFloat32, bias);
  return {view.rows,
          view.slots.as<const std::int32_t>(),
          view.positions.as<const std::int32_t>(),
          view.tokens.as<std::int32_t>(),
          view.parameters.as<const SlotSampling>(),
          view.bias_ids.as<const std::int32_t>(),
          view.bias_values.as<const float>(),
          slots,
          view.tokens.shape[1],
          bias[1]};
}

// The slot of a logit row; -1 for one that does not exist.
__device__ inline std::int32_t slot_of(const SamplingRows& view, std::int64_t row) {
  const std::int32_t slot = view.slots[row];
  return slot >= 0 && slot < view.num_slots ? slot : -1;
}

}  // namespace lockstep::cuda
