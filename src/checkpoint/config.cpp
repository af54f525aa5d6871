#include "checkpoint/config.h"

#include <array>
#include <cmath>

#include "core/check.h"

namespace lockstep {
namespace {

// Far beyond any model, near enough that no product of a few of them overflows 63 bits.
constexpr std::int64_t kMaxVocabulary = std::int64_t{1} << 24;
constexpr std::int64_t kMaxFeatures = std::int64_t{1} << 20;
constexpr std::int64_t kMaxHeads = 1 << 14;
constexpr std::int64_t kMaxHeadDim = 1 << 12;
constexpr std::int64_t kMaxPositions = std::int64_t{1} << 40;

struct Limit {
  const char* name;
  std::int64_t Config::*field;
  std::int64_t most;
};
constexpr std::array<Limit, 8> kLimits{{
    {"vocab_size", &Config::vocab_size, kMaxVocabulary},
    {"hidden_size", &Config::hidden_size, kMaxFeatures},
    {"intermediate_size", &Config::intermediate_size, kMaxFeatures},
    {"num_hidden_layers", &Config::num_hidden_layers, kMaxLayers},
    {"num_attention_heads", &Config::num_attention_heads, kMaxHeads},
    {"num_key_value_heads", &Config::num_key_value_heads, kMaxHeads},
    {"head_dim", &Config::head_dim, kMaxHeadDim},
    {"max_position_embeddings", &Config::max_position_embeddings, kMaxPositions},
}};

void validate_rope(const Config& config, const std::string& source) {
  check(std::isfinite(config.rope_theta) && config.rope_theta > 0.0f,
        "{}: rope_theta must be a positive number, not {}", source, config.rope_theta);
  const RopeScaling& rope = config.rope_scaling;
  check(std::isfinite(rope.factor) && rope.factor > 0.0f,
        "{}: rope scaling's factor must be a positive number, not {}", source, rope.factor);
  if (rope.type == RopeScaling::Type::kLlama3) {
    check(std::isfinite(rope.low_freq_factor) && std::isfinite(rope.high_freq_factor) &&
              0.0f < rope.low_freq_factor && rope.low_freq_factor < rope.high_freq_factor,
          "{}: rope scaling needs 0 < low_freq_factor < high_freq_factor, not {} and {}", source,
          rope.low_freq_factor, rope.high_freq_factor);
    check(rope.original_max_position_embeddings > 0 &&
              rope.original_max_position_embeddings <= kMaxPositions,
          "{}: rope scaling's original_max_position_embeddings must be from 1 to {}, not {}",
          source, kMaxPositions, rope.original_max_position_embeddings);
  }
  const auto& divisors = config.rope_frequency_divisors;
  check(divisors.empty() || static_cast<std::int64_t>(divisors.size()) == config.head_dim / 2,
        "{}: {} rope frequency divisors for a head_dim of {}, which has {} frequencies", source,
        divisors.size(), config.head_dim, config.head_dim / 2);
  for (const float divisor : divisors)
    check(std::isfinite(divisor) && divisor > 0.0f,
          "{}: a rope frequency divisor must be a positive number, not {}", source, divisor);
}

void validate_token_id(std::int64_t id, const char* name, const Config& config,
                       const std::string& source) {
  check(0 <= id && id < config.vocab_size, "{}: {} {} is not within the vocabulary of {}", source,
        name, id, config.vocab_size);
}

std::string_view name_of(RopeScaling::Type type) {
  switch (type) {
    case RopeScaling::Type::kNone:
      return "none";
    case RopeScaling::Type::kLinear:
      return "linear";
    case RopeScaling::Type::kLlama3:
      return "llama3";
  }
  fail("unknown rope scaling {}", static_cast<int>(type));
}

std::string describe_rope(const Config& config) {
  const RopeScaling& rope = config.rope_scaling;
  std::string text(name_of(rope.type));
  if (rope.type != RopeScaling::Type::kNone) text += fmt::format(", factor {}", rope.factor);
  if (rope.type == RopeScaling::Type::kLlama3)
    text +=
        fmt::format(", low_freq_factor {}, high_freq_factor {}, original {}", rope.low_freq_factor,
                    rope.high_freq_factor, rope.original_max_position_embeddings);
  if (!config.rope_frequency_divisors.empty()) text += ", frequency divisors from the file";
  return text;
}

// "none", "4096", or "4096 (layers 28-35)" per run of equal windows.
std::string describe_windows(const std::vector<std::int64_t>& windows) {
  std::string text;
  for (std::size_t begin = 0; begin < windows.size();) {
    std::size_t end = begin + 1;
    while (end < windows.size() && windows[end] == windows[begin]) ++end;
    if (windows[begin] != 0) {
      if (!text.empty()) text += ", ";
      text += std::to_string(windows[begin]);
      if (end - begin < windows.size()) text += fmt::format(" (layers {}-{})", begin, end - 1);
    }
    begin = end;
  }
  return text.empty() ? "none" : text;
}

}  // namespace

void validate(const Config& config, const std::string& source) {
  for (const Limit& limit : kLimits)
    check(0 < config.*limit.field && config.*limit.field <= limit.most,
          "{}: {} must be from 1 to {}, not {}", source, limit.name, limit.most,
          config.*limit.field);
  check(config.num_attention_heads % config.num_key_value_heads == 0,
        "{}: num_attention_heads {} is not a multiple of num_key_value_heads {}", source,
        config.num_attention_heads, config.num_key_value_heads);
  check(config.head_dim % 2 == 0, "{}: head_dim {} is odd, rotary embedding needs pairs", source,
        config.head_dim);
  check(std::isfinite(config.rms_norm_eps) && config.rms_norm_eps >= 0.0f,
        "{}: rms_norm_eps must be a number of at least 0, not {}", source, config.rms_norm_eps);
  validate_rope(config, source);
  check(static_cast<std::int64_t>(config.sliding_window.size()) == config.num_hidden_layers,
        "{}: sliding windows for {} layers, but num_hidden_layers is {}", source,
        config.sliding_window.size(), config.num_hidden_layers);
  for (const std::int64_t window : config.sliding_window)
    check(window >= 0, "{}: a sliding_window of {} tokens", source, window);
  check(config.dtype == DType::kFloat32 || config.dtype == DType::kBFloat16 ||
            config.dtype == DType::kFloat16,
        "{}: dtype {} is none that weights can have", source, lockstep::name_of(config.dtype));
  if (config.bos_token_id != -1)
    validate_token_id(config.bos_token_id, "bos_token_id", config, source);
  for (const std::int64_t id : config.eos_token_ids)
    validate_token_id(id, "eos_token_id", config, source);
}

std::vector<std::pair<std::string, std::string>> describe(const Config& config) {
  const auto yes_no = [](bool value) { return std::string(value ? "yes" : "no"); };
  std::vector<std::pair<std::string, std::string>> fields;
  fields.emplace_back("model_type", config.model_type);
  for (const Limit& limit : kLimits)
    fields.emplace_back(limit.name, std::to_string(config.*limit.field));
  fields.emplace_back("rms_norm_eps", fmt::format("{}", config.rms_norm_eps));
  fields.emplace_back("rope_theta", fmt::format("{}", config.rope_theta));
  fields.emplace_back("rope_scaling", describe_rope(config));
  fields.emplace_back("sliding_window", describe_windows(config.sliding_window));
  fields.emplace_back("tie_word_embeddings", yes_no(config.tie_word_embeddings));
  fields.emplace_back("qkv_bias", yes_no(config.qkv_bias));
  fields.emplace_back("o_bias", yes_no(config.o_bias));
  fields.emplace_back("mlp_bias", yes_no(config.mlp_bias));
  fields.emplace_back("qk_norm", yes_no(config.qk_norm));
  fields.emplace_back("dtype", std::string(lockstep::name_of(config.dtype)));
  fields.emplace_back("bos_token_id",
                      config.bos_token_id < 0 ? "none" : std::to_string(config.bos_token_id));
  fields.emplace_back("eos_token_ids",
                      config.eos_token_ids.empty()
                          ? "none"
                          : fmt::format("{}", fmt::join(config.eos_token_ids, ", ")));
  return fields;
}

}  // namespace lockstep
