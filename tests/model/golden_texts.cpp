#include "model/golden_texts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "generate/engine.h"
#include "generate/scheduler.h"
#include "model/model_harness.h"

namespace lockstep::test {

std::vector<GoldenText> golden_texts() {
  std::ifstream file(golden_path("smollm2") / "generation.json");
  std::vector<GoldenText> texts;
  const auto json = nlohmann::json::parse(file);
  for (const auto& text : json.at("prompts"))
    texts.push_back({text.at("name"), text.at("prompt_ids"), text.at("ids"), text.at("gaps"),
                     text.at("errors")});
  return texts;
}

void expect_few_near_ties(const std::vector<GoldenText>& texts) {
  std::size_t steps = 0, skipped = 0;
  for (const GoldenText& text : texts) {
    steps += text.ids.size();
    for (std::size_t step = 0; step < text.ids.size(); ++step) skipped += text.near_tie(step);
  }
  std::cout << skipped << " of " << steps << " steps are near ties and not compared\n";
  testing::Test::RecordProperty("near_ties", static_cast<int>(skipped));
  EXPECT_GE(texts.size(), 20u);
  EXPECT_GE(steps, texts.size() * 64);
  EXPECT_LE(skipped, 4u);
}

void expect_golden_texts(const Mesh& mesh) {
  const std::vector<GoldenText> texts = golden_texts();
  expect_few_near_ties(texts);
  LoadOptions options;
  options.dtype = DType::kFloat32;
  const Model model = load_model(smollm2_path().string(), mesh, options);

  BatchLimits limits;
  limits.max_batch_size = static_cast<std::int64_t>(texts.size());
  limits.max_rows = 256;
  limits.max_logit_rows = limits.max_batch_size;
  for (const GoldenText& text : texts)
    limits.max_length = std::max(
        limits.max_length, static_cast<std::int64_t>(text.prompt_ids.size() + text.ids.size()));
  const std::int64_t num_blocks = limits.max_batch_size * kv_blocks(limits.max_length);
  Scheduler scheduler(limits, num_blocks);
  Engine engine(model.impl(), limits, num_blocks);

  struct Running {
    const GoldenText* text;
    std::size_t step = 0;
    Admission admission = {};
    bool refeed = false;
  };
  std::map<std::int32_t, Running> running;  // by slot
  SlotSampling greedy;
  greedy.temperature = 0;
  for (const GoldenText& text : texts) {
    const auto length = static_cast<std::int64_t>(text.prompt_ids.size() + text.ids.size());
    const auto slot = scheduler.admit(text.prompt_ids, length, greedy, {});
    ASSERT_TRUE(slot.has_value());
    running.emplace(*slot, Running{&text});
  }
  while (!scheduler.idle()) {
    StepInput step = scheduler.next_step();
    for (const Admission& admission : step.admissions)
      running.at(admission.slot).admission = admission;
    // The reference's tokens in place of ours, which a near tie may have made different.
    for (auto& [slot, sequence] : running) {
      if (!std::exchange(sequence.refeed, false)) continue;
      const auto& ids = sequence.text->ids;
      sequence.admission.tokens = sequence.text->prompt_ids;
      sequence.admission.tokens.insert(sequence.admission.tokens.end(), ids.begin(),
                                       ids.begin() + static_cast<std::ptrdiff_t>(sequence.step));
      step.admissions.push_back(sequence.admission);
    }
    engine.start(step, false);
    const StepOutput output = engine.finish();
    for (std::size_t i = 0; i < step.logit_rows.size(); ++i) {
      const std::int32_t slot = step.slots[static_cast<std::size_t>(step.logit_rows[i])];
      Running& sequence = running.at(slot);
      const GoldenText& text = *sequence.text;
      const std::size_t n = sequence.step++;
      sequence.refeed = text.near_tie(n);
      ASSERT_TRUE(output.ids[i] == text.ids[n] || text.near_tie(n))
          << text.name << ": token " << n << " is " << output.ids[i] << " instead of "
          << text.ids[n] << ", the reference's gap being " << text.gaps[n];
      if (sequence.step == text.ids.size()) {
        scheduler.release(slot);
        running.erase(slot);
      }
    }
  }
  EXPECT_TRUE(running.empty());
}

}  // namespace lockstep::test
