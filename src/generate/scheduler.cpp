#include "generate/scheduler.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "model/kv_cache.h"

namespace lockstep {

Scheduler::Scheduler(const BatchLimits& limits, std::int64_t num_blocks)
    : limits_(limits), sequences_(static_cast<std::size_t>(limits.max_batch_size)) {
  for (std::int64_t block = num_blocks; block > 0; --block)
    free_blocks_.push_back(static_cast<std::int32_t>(block - 1));
}

std::optional<std::int32_t> Scheduler::admit(
    std::vector<std::int32_t> prompt, std::int64_t max_length, const SlotSampling& sampling,
    std::vector<std::pair<std::int32_t, float>> logit_bias) {
  check(!prompt.empty() && static_cast<std::int64_t>(prompt.size()) < max_length &&
            max_length <= limits_.max_length,
        "a sequence of {} prompt tokens and at most {} tokens does not fit slots of {}",
        prompt.size(), max_length, limits_.max_length);
  const auto free_slot = std::find_if(sequences_.begin(), sequences_.end(),
                                      [](const Sequence& sequence) { return !sequence.active; });
  const auto blocks = static_cast<std::size_t>(kv_blocks(max_length));
  if (free_slot == sequences_.end() || free_blocks_.size() < blocks) return std::nullopt;

  const auto slot = static_cast<std::int32_t>(free_slot - sequences_.begin());
  Sequence& sequence = *free_slot;
  sequence = Sequence{};
  sequence.active = true;
  sequence.length = static_cast<std::int64_t>(prompt.size());
  sequence.max_length = max_length;
  sequence.sampling = sampling;
  sequence.biased = !logit_bias.empty();
  sequence.order = admitted_++;
  sequence.blocks.assign(free_blocks_.end() - static_cast<std::ptrdiff_t>(blocks),
                         free_blocks_.end());
  free_blocks_.resize(free_blocks_.size() - blocks);
  admissions_.push_back(
      {slot, std::move(prompt), sequence.blocks, sampling, std::move(logit_bias)});
  return slot;
}

void Scheduler::release(std::int32_t slot) {
  Sequence& sequence = sequences_.at(static_cast<std::size_t>(slot));
  check(sequence.active, "slot {} is free already", slot);
  free_blocks_.insert(free_blocks_.end(), sequence.blocks.begin(), sequence.blocks.end());
  sequence = Sequence{};
  std::erase_if(admissions_, [&](const Admission& admission) { return admission.slot == slot; });
}

bool Scheduler::idle() const {
  return std::none_of(sequences_.begin(), sequences_.end(),
                      [](const Sequence& sequence) { return sequence.active; });
}

StepInput Scheduler::next_step() {
  std::vector<std::int32_t> prefilling, decoding;
  for (std::size_t slot = 0; slot < sequences_.size(); ++slot) {
    const Sequence& sequence = sequences_[slot];
    if (!sequence.active || sequence.length >= sequence.max_length) continue;
    (sequence.length - sequence.cached > 1 ? prefilling : decoding)
        .push_back(static_cast<std::int32_t>(slot));
  }
  StepInput step;
  step.admissions = std::exchange(admissions_, {});
  const bool prefill = !prefilling.empty() && (decoding.empty() || !last_was_prefill_);
  last_was_prefill_ = prefill;
  if (!prefill) {
    for (std::int32_t slot : decoding) add_rows(step, slot, 1);
    account_for(step);
    return step;
  }
  std::sort(prefilling.begin(), prefilling.end(), [&](std::int32_t a, std::int32_t b) {
    return sequences_[static_cast<std::size_t>(a)].order <
           sequences_[static_cast<std::size_t>(b)].order;
  });
  for (std::int32_t slot : prefilling) {
    const Sequence& sequence = sequences_[static_cast<std::size_t>(slot)];
    const std::int64_t room = limits_.max_rows - static_cast<std::int64_t>(step.slots.size());
    add_rows(step, slot, std::min(room, sequence.length - sequence.cached));
  }
  account_for(step);
  return step;
}

// The next `count` uncached tokens of a slot; the last known token's row gives logits.
void Scheduler::add_rows(StepInput& step, std::int32_t slot, std::int64_t count) {
  const Sequence& sequence = sequences_[static_cast<std::size_t>(slot)];
  for (std::int64_t i = 0; i < count; ++i) {
    step.slots.push_back(slot);
    step.positions.push_back(static_cast<std::int32_t>(sequence.cached + i));
  }
  if (count == 0 || sequence.cached + count < sequence.length) return;
  step.logit_rows.push_back(static_cast<std::int32_t>(step.slots.size() - 1));
  const SlotSampling& sampling = sequence.sampling;
  step.any_penalty |= sequence.biased || sampling.repetition_penalty != 1 ||
                      sampling.presence_penalty != 0 || sampling.frequency_penalty != 0;
  step.any_filter |=
      sampling.temperature > 0 && (sampling.top_k > 0 || sampling.top_p < 1 || sampling.min_p > 0);
}

void Scheduler::account_for(const StepInput& step) {
  for (std::int32_t slot : step.slots) ++sequences_[static_cast<std::size_t>(slot)].cached;
  for (std::int32_t row : step.logit_rows)
    ++sequences_[static_cast<std::size_t>(step.slots[static_cast<std::size_t>(row)])].length;
}

}  // namespace lockstep
