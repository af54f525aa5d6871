#include "ops/cpu/sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <vector>

#include "core/check.h"
#include "ops/sampling_keys.h"

namespace lockstep::cpu {
namespace {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

// One logit row's slot: parameters and tokens.
struct Slot {
  const SlotSampling& sampling;
  std::int32_t index;
  std::int32_t position;  // of the newest token
  std::int32_t* tokens;   // [max_length]
};

Slot slot_of(const SamplingView& view, std::int64_t row) {
  const std::int32_t index = view.slots.as<const std::int32_t>()[row];
  check(index >= 0 && index < view.tokens.num_rows(), "logit row {} names slot {} of {}", row,
        index, view.tokens.num_rows());
  return {view.parameters.as<const SlotSampling>()[index], index,
          view.positions.as<const std::int32_t>()[row],
          view.tokens.as<std::int32_t>() + index * view.tokens.row_size()};
}

// No standard Gumbel number from uniform() exceeds this: -log(-log(1 - 2^-53)) = 36.7.
constexpr float kMaxGumbel = 38.0f;

}  // namespace

void penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view) {
  const std::int64_t size = logits.shape[1];
  for (std::int64_t row = 0; row < view.rows; ++row) {
    const Slot slot = slot_of(view, row);
    const SlotSampling& sampling = slot.sampling;
    float* values = logits.as<float>() + row * size;
    const auto local = [&](std::int32_t id) { return id >= first_id && id < first_id + size; };

    const bool repetition = sampling.repetition_penalty != 1.0f;
    if (repetition || sampling.presence_penalty != 0 || sampling.frequency_penalty != 0) {
      std::unordered_map<std::int32_t, int> counts;  // of local ids, in the output alone
      for (std::int32_t i = 0; i <= slot.position; ++i)
        if (local(slot.tokens[i])) counts[slot.tokens[i]] += i >= sampling.prompt_length;
      for (const auto& [id, count] : counts) {
        float& value = values[id - first_id];
        if (repetition)
          value =
              value > 0 ? value / sampling.repetition_penalty : value * sampling.repetition_penalty;
        value -= sampling.frequency_penalty * static_cast<float>(count);
        if (count > 0) value -= sampling.presence_penalty;
      }
    }
    for (std::int64_t i = 0; i < sampling.num_bias; ++i) {
      const std::int64_t at = slot.index * view.bias_ids.row_size() + i;
      const std::int32_t id = view.bias_ids.as<const std::int32_t>()[at];
      if (local(id)) values[id - first_id] += view.bias_values.as<const float>()[at];
    }
  }
}

void filter_thresholds(const Tensor& thresholds, const Tensor& logits, const SamplingView& view) {
  const std::int64_t vocab_size = logits.shape[1];
  std::vector<float> kept;
  for (std::int64_t row = 0; row < view.rows; ++row) {
    const SlotSampling& sampling = slot_of(view, row).sampling;
    float& threshold = thresholds.as<float>()[row];
    threshold = kMinusInfinity;
    const bool top_k = sampling.top_k > 0 && sampling.top_k < vocab_size;
    if (sampling.temperature <= 0 || (!top_k && sampling.top_p >= 1 && sampling.min_p <= 0))
      continue;

    const float* values = logits.as<const float>() + row * vocab_size;
    const float largest = *std::max_element(values, values + vocab_size);
    if (sampling.min_p > 0) threshold = largest + sampling.temperature * std::log(sampling.min_p);
    kept.clear();
    std::copy_if(values, values + vocab_size, std::back_inserter(kept),
                 [&](float value) { return value >= threshold; });
    if (top_k && static_cast<std::size_t>(sampling.top_k) < kept.size()) {
      const auto last = kept.begin() + (sampling.top_k - 1);
      std::nth_element(kept.begin(), last, kept.end(), std::greater<>());
      threshold = *last;
      std::erase_if(kept, [&](float value) { return value < threshold; });
    }
    if (sampling.top_p < 1) {
      // The most probable tokens whose probabilities add up to top_p; always at least one.
      std::sort(kept.begin(), kept.end(), std::greater<>());
      const auto weight = [&](float value) {
        return std::exp(static_cast<double>(value - largest) / sampling.temperature);
      };
      double total = 0;
      for (float value : kept) total += weight(value);
      double sum = 0;
      for (float value : kept) {
        threshold = value;
        sum += weight(value);
        if (sum >= static_cast<double>(sampling.top_p) * total) break;
      }
    }
  }
}

void draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id, const Tensor* thresholds,
          const SamplingView& view) {
  const std::int64_t size = logits.shape[1];
  for (std::int64_t row = 0; row < view.rows; ++row) {
    const Slot slot = slot_of(view, row);
    const float temperature = slot.sampling.temperature;
    const float* values = logits.as<const float>() + row * size;
    const float threshold = thresholds ? thresholds->as<const float>()[row] : kMinusInfinity;
    float best = kMinusInfinity;
    std::int64_t best_id = -1;
    for (std::int64_t i = 0; i < size; ++i) {
      float value = values[i];
      if (std::isnan(value)) fail("the logit of token {} is not a number", first_id + i);
      if (temperature > 0) {
        // Gumbel-max: the largest of logit / temperature + Gumbel noise is a draw from the softmax.
        // Where every token is banned (-infinity), one is chosen all the same.
        if (value < threshold || (best_id >= 0 && value / temperature + kMaxGumbel <= best))
          continue;
        const double noise = -std::log(
            -std::log(sampling::uniform(slot.sampling.seed, slot.position, first_id + i)));
        value = value / temperature + static_cast<float>(noise);
      }
      if (value > best || best_id < 0) {
        best = value;
        best_id = first_id + i;
      }
    }
    // -0 + 0 is 0. No id at all: the smallest key.
    keys.as<std::int64_t>()[row] =
        best_id < 0 ? sampling::kNoCandidateKey
                    : sampling::candidate_key(std::bit_cast<std::uint32_t>(best + 0.0f), best_id);
  }
}

void append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view) {
  for (std::int64_t row = 0; row < view.rows; ++row) {
    const Slot slot = slot_of(view, row);
    const std::int64_t key = keys.as<const std::int64_t>()[row];
    check(key != sampling::kNoCandidateKey, "slot {} has no token to choose from", slot.index);
    const std::int32_t id = sampling::candidate_id(key);
    ids.as<std::int32_t>()[row] = id;
    if (slot.position + 1 < view.tokens.row_size()) slot.tokens[slot.position + 1] = id;
  }
}

}  // namespace lockstep::cpu
