#include "model/batch.h"

#include <algorithm>
#include <bit>

#include "core/check.h"
#include "model/kv_cache.h"

namespace lockstep {

Batch::Batch(Rank& rank, const BatchLimits& limits) : rank_(rank), limits_(limits) {
  const auto allocate = [&](DType dtype, const Shape& shape) {
    return allocate_tensor(rank.ops(), rank.device(), dtype, shape);
  };
  const std::int64_t slots = limits.max_batch_size;
  tokens_ = allocate(DType::kInt32, {slots, limits.max_length});
  block_tables_ = allocate(DType::kInt32, {slots, kv_blocks(limits.max_length)});
  sampling_ = allocate(DType::kUInt8, {slots, sizeof(SlotSampling)});
  bias_ids_ = allocate(DType::kInt32, {slots, kMaxLogitBias});
  bias_values_ = allocate(DType::kFloat32, {slots, kMaxLogitBias});
  step_ = allocate(DType::kInt32, {2 * limits.max_rows + 3 * limits.max_logit_rows});
}

void Batch::upload(const StepInput& input) {
  for (const Admission& admission : input.admissions) admit(admission);

  const std::size_t rows = input.slots.size();
  check(rows == input.positions.size() && rows <= static_cast<std::size_t>(limits_.max_rows),
        "a step of {} slots and {} positions does not fit {} rows", rows, input.positions.size(),
        limits_.max_rows);
  check(input.logit_rows.size() <= static_cast<std::size_t>(limits_.max_logit_rows),
        "{} logit rows do not fit {}", input.logit_rows.size(), limits_.max_logit_rows);
  for (std::size_t row = 0; row < rows; ++row) {
    check(input.slots[row] >= 0 && input.slots[row] < limits_.max_batch_size,
          "row {} names slot {} of {}", row, input.slots[row], limits_.max_batch_size);
    check(input.positions[row] >= 0 && input.positions[row] < limits_.max_length,
          "row {} names position {} of {}", row, input.positions[row], limits_.max_length);
  }
  std::vector<std::int32_t> logit_slots, logit_positions;
  for (std::int32_t row : input.logit_rows) {
    check(row >= 0 && static_cast<std::size_t>(row) < rows, "logit row {} of {} rows", row, rows);
    logit_slots.push_back(input.slots[static_cast<std::size_t>(row)]);
    logit_positions.push_back(input.positions[static_cast<std::size_t>(row)]);
  }
  rows_ = static_cast<std::int64_t>(rows);
  // Doubled now and then only, so that steps stay alike.
  constexpr std::int32_t kShort = 512;
  const std::int32_t last = rows == 0 ? 0 : std::ranges::max(input.positions);
  longest_ = std::bit_ceil(static_cast<std::uint32_t>(std::max(kShort, last + 1)));
  one_row_a_sequence_ = std::ranges::adjacent_find(input.slots) == input.slots.end();
  num_logit_rows_ = static_cast<std::int64_t>(input.logit_rows.size());
  std::vector<std::int32_t> step;
  const auto append = [&](const std::vector<std::int32_t>& values) {
    step.insert(step.end(), values.begin(), values.end());
  };
  append(input.slots);
  append(input.positions);
  append(input.logit_rows);
  append(logit_slots);
  append(logit_positions);
  const auto count = static_cast<std::int64_t>(step.size());
  rank_.ops().upload(step_.tensor.rows(0, count),
                     Tensor{step.data(), DType::kInt32, {count}, Device{}});
}

void Batch::admit(const Admission& admission) {
  const auto length = static_cast<std::int64_t>(admission.tokens.size());
  const std::int64_t max_blocks = block_tables_.tensor.row_size();
  check(admission.slot >= 0 && admission.slot < limits_.max_batch_size, "slot {} of {}",
        admission.slot, limits_.max_batch_size);
  check(length <= limits_.max_length, "{} tokens do not fit a slot of {}", length,
        limits_.max_length);
  check(static_cast<std::int64_t>(admission.blocks.size()) <= max_blocks,
        "{} blocks do not fit a table of {}", admission.blocks.size(), max_blocks);
  check(admission.logit_bias.size() <= kMaxLogitBias, "{} logit biases; at most {} are allowed",
        admission.logit_bias.size(), kMaxLogitBias);

  SlotSampling sampling = admission.sampling;
  sampling.prompt_length = static_cast<std::int32_t>(length);
  sampling.num_bias = static_cast<std::int32_t>(admission.logit_bias.size());
  std::vector<std::int32_t> bias_ids;
  std::vector<float> bias_values;
  for (const auto& [id, value] : admission.logit_bias) {
    bias_ids.push_back(id);
    bias_values.push_back(value);
  }
  // Places that the sequence does not have are marked, so that none of another's is reached.
  std::vector<std::int32_t> blocks = admission.blocks;
  blocks.resize(static_cast<std::size_t>(max_blocks), -1);
  upload_row(tokens_, admission.slot, admission.tokens.data(), length);
  upload_row(block_tables_, admission.slot, blocks.data(), max_blocks);
  upload_row(sampling_, admission.slot, &sampling, sizeof(SlotSampling));
  upload_row(bias_ids_, admission.slot, bias_ids.data(), sampling.num_bias);
  upload_row(bias_values_, admission.slot, bias_values.data(), sampling.num_bias);
}

// The first `count` elements of a row of a matrix.
void Batch::upload_row(const OwnedTensor& destination, std::int64_t row, const void* data,
                       std::int64_t count) {
  Tensor target = destination.tensor.rows(row, row + 1);
  target.shape = {count};
  rank_.ops().upload(target, Tensor{const_cast<void*>(data), target.dtype, {count}, Device{}});
}

// `count` values of the step from its place `begin`.
Tensor Batch::part(std::int64_t begin, std::int64_t count) const {
  return step_.tensor.rows(begin, begin + count);
}

BatchView Batch::view() const {
  return {rows_,   part(rows_, rows_), part(0, rows_), block_tables_.tensor, one_row_a_sequence_,
          longest_};
}

SamplingView Batch::sampling() const {
  SamplingView view;
  view.rows = num_logit_rows_;
  view.slots = part(2 * rows_ + num_logit_rows_, num_logit_rows_);
  view.positions = part(2 * rows_ + 2 * num_logit_rows_, num_logit_rows_);
  view.tokens = tokens_.tensor;
  view.parameters = sampling_.tensor;
  view.bias_ids = bias_ids_.tensor;
  view.bias_values = bias_values_.tensor;
  return view;
}

Tensor Batch::logit_rows() const { return part(2 * rows_, num_logit_rows_); }

}  // namespace lockstep
