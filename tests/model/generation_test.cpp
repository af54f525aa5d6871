// Greedy text of SmolLM2 on CPU ranks against Hugging Face transformers.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/golden_texts.h"
#include "model/model_harness.h"

namespace lockstep::test {
namespace {

TEST(Generation, EqualsTransformersStepByStep) {
  expect_golden_texts(Mesh::tensor_parallel(1, DeviceType::kCpu));
}

// Each prompt and its text in one go, on ranks that divide neither the intermediate features nor
// the leaves.
TEST(Generation, EqualsTransformersOnThreeRanks) {
  const std::vector<GoldenText> texts = golden_texts();
  expect_few_near_ties(texts);
  const LoadedModel model = load(smollm2_path(), 3);
  const auto vocab_size = static_cast<std::size_t>(model.config.vocab_size);
  for (const GoldenText& text : texts) {
    std::vector<std::int32_t> tokens = text.prompt_ids;
    tokens.insert(tokens.end(), text.ids.begin(), text.ids.end() - 1);
    const auto length = static_cast<std::int64_t>(tokens.size());
    const auto steps = static_cast<std::int64_t>(text.ids.size());
    Session session(model, {1, length, length, steps}, kv_blocks(length));
    StepInput step;
    step.admissions.push_back(admission(0, tokens, blocks_from(0, kv_blocks(length))));
    add_rows(step, 0, 0, length);
    step.logit_rows.erase(step.logit_rows.begin(), step.logit_rows.end() - steps);
    const std::vector<float> logits = session.forward(step);
    for (std::size_t n = 0; n < text.ids.size(); ++n) {
      const float* row = logits.data() + n * vocab_size;
      const auto best = static_cast<std::int32_t>(std::max_element(row, row + vocab_size) - row);
      ASSERT_TRUE(best == text.ids[n] || text.near_tie(n))
          << text.name << ": token " << n << " is " << best << " instead of " << text.ids[n]
          << ", the reference's gap being " << text.gaps[n];
    }
  }
}

}  // namespace
}  // namespace lockstep::test
