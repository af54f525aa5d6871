// The options that say how the next token is chosen: those of `generate` and `chat`.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lockstep/sampling.h"

namespace lockstep::cli {

struct SamplingOptions {
  int max_tokens = 0;  // set before add_to(): its default
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty,
      frequency_penalty;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
  std::vector<std::string> stop;
  std::vector<std::string> logit_bias;
  bool ignore_eos = false;
  bool keep_special = false;
  bool no_generation_config = false;

  void add_to(CLI::App& command);
  // `params`, the model's defaults, overlaid by what was given.
  SamplingParams overlay(SamplingParams params) const;
  // What can be known to be wrong before the model is loaded: ends with status 2, "wrong usage".
  void check_early() const;
};

}  // namespace lockstep::cli
