#include "cli/sampling_options.h"

#include <charconv>
#include <limits>

#include "cli/options.h"
#include "core/check.h"

namespace lockstep::cli {
namespace {

std::pair<std::int32_t, float> parse_bias(const std::string& text) {
  std::int32_t id = 0;
  float value = 0;
  const char* end = text.data() + text.size();
  const auto first = std::from_chars(text.data(), end, id);
  const bool separated = first.ec == std::errc() && first.ptr != end && *first.ptr == '=';
  const auto second = separated ? std::from_chars(first.ptr + 1, end, value) : first;
  check(separated && second.ec == std::errc() && second.ptr == end,
        "--logit-bias {}: expected ID=VALUE, such as 42=-1.5", text);
  return {id, value};
}

}  // namespace

SamplingParams SamplingOptions::overlay(SamplingParams params) const {
  const auto replace = [](const auto& option, auto& field) {
    if (option) field = *option;
  };
  replace(temperature, params.temperature);
  replace(top_p, params.top_p);
  replace(top_k, params.top_k);
  replace(min_p, params.min_p);
  replace(repetition_penalty, params.repetition_penalty);
  replace(presence_penalty, params.presence_penalty);
  replace(frequency_penalty, params.frequency_penalty);
  params.seed = seed;
  params.stop = stop;
  params.ignore_eos = ignore_eos;
  params.skip_special_tokens = !keep_special;
  params.max_tokens = max_tokens;
  for (const std::string& bias : logit_bias) {
    const auto [id, value] = parse_bias(bias);
    params.logit_bias[id] = value;
  }
  return params;
}

void SamplingOptions::check_early() const {
  try {
    validate(overlay(SamplingParams{}));
  } catch (const Error& error) {
    usage_error(error.what());
  }
}

void SamplingOptions::add_to(CLI::App& command) {
  const bool to_the_end = max_tokens == std::numeric_limits<int>::max();
  CLI::Option* limit =
      add_option(command, "-n,--max-tokens", max_tokens,
                 to_the_end ? "At most this many new tokens an answer; as many as fit if not given"
                            : "At most this many new tokens",
                 "MAX_TOKENS");
  if (to_the_end) limit->default_str("");
  add_option(command, "-t,--temperature", temperature, "0: the most probable token every time",
             "TEMPERATURE");
  add_option(command, "--top-p", top_p, "Keep the most probable tokens that add up to this",
             "TOP_P");
  add_option(command, "--top-k", top_k, "Keep this many tokens; 0: all", "TOP_K");
  add_option(command, "--min-p", min_p, "Keep tokens at least this times as probable as the best",
             "MIN_P");
  add_option(command, "--repetition-penalty", repetition_penalty, "Above 1: repeat less",
             "REPETITION_PENALTY");
  add_option(command, "--presence-penalty", presence_penalty, "-2 to 2", "PRESENCE_PENALTY");
  add_option(command, "--frequency-penalty", frequency_penalty, "-2 to 2", "FREQUENCY_PENALTY");
  add_option(command, "--seed", seed, "The same seed gives the same text with any --tp", "SEED");
  add_option(command, "--stop", stop, "End before this text; several times: any of them", "STOP")
      ->allow_extra_args(false);
  add_option(command, "--logit-bias", logit_bias, "ID=VALUE, several times", "LOGIT_BIAS")
      ->allow_extra_args(false);
  command.add_flag("--ignore-eos", ignore_eos, "Go on after the end of the text")
      ->envname("LOCKSTEP_IGNORE_EOS");
  command.add_flag("--keep-special", keep_special, "Show special tokens")
      ->envname("LOCKSTEP_KEEP_SPECIAL");
  command
      .add_flag("--no-generation-config", no_generation_config,
                "Do not take sampling defaults from the model's generation_config.json")
      ->envname("LOCKSTEP_NO_GENERATION_CONFIG");
}

}  // namespace lockstep::cli
