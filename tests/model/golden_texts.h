// Greedy text of SmolLM2 against Hugging Face transformers: 24 prompts, 64 tokens each
// (tests/golden/model/smollm2/generation.json).
//
// Where the reference's two largest logits are nearer than ten times its own rounding at that step,
// another correct implementation may choose the other token: such a step is counted and not
// compared, and the reference's token is fed in place of ours.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lockstep/mesh.h"

namespace lockstep::test {

struct GoldenText {
  std::string name;
  std::vector<std::int32_t> prompt_ids;
  std::vector<std::int32_t> ids;
  std::vector<double> gaps, errors;  // by step

  bool near_tie(std::size_t step) const { return gaps[step] < 10 * errors[step]; }
};
std::vector<GoldenText> golden_texts();

// Says how many steps were near ties, which is a matter of the golden data alone.
void expect_few_near_ties(const std::vector<GoldenText>& texts);

// Expects the texts of a model in float32: all prompts at once through scheduler, engine and
// sampler, token by token.
void expect_golden_texts(const Mesh& mesh);

}  // namespace lockstep::test
