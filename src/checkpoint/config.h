// One model's hyper-parameters, as config.json (transformers 4 or 5) or GGUF metadata gives them.
// A model family is a set of these fields, not a class. Fields keep their Hugging Face names.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>
#include <vector>

#include "lockstep/tensor.h"

namespace lockstep {

// How rotary frequencies are stretched for long contexts.
struct RopeScaling {
  enum class Type : std::uint8_t { kNone, kLinear, kLlama3 };
  Type type = Type::kNone;
  float factor = 1.0f;
  // The rest is for kLlama3 alone.
  float low_freq_factor = 1.0f;
  float high_freq_factor = 4.0f;
  std::int64_t original_max_position_embeddings = 8192;
};

// Most layers that are accepted, far beyond any model.
inline constexpr std::int64_t kMaxLayers = 1024;

struct Config {
  std::string model_type;  // "llama", "mistral", "qwen2", "qwen3"
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  float rms_norm_eps = 1e-6f;
  float rope_theta = 10000.0f;
  RopeScaling rope_scaling;
  // GGUF alone: one divisor for each of the head_dim/2 frequencies (rope_freqs.weight); else empty.
  std::vector<float> rope_frequency_divisors;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;  // q_proj, k_proj and v_proj have biases
  bool o_bias = false;    // o_proj has a bias
  bool mlp_bias = false;  // gate_proj, up_proj and down_proj have biases
  bool qk_norm = false;   // RMS norm over head_dim on every query and key head (Qwen3)
  // Sliding window in tokens for each layer: a query sees itself and the window-1 positions before
  // it. 0: all of them.
  std::vector<std::int64_t> sliding_window;
  DType dtype = DType::kBFloat16;  // what the checkpoint says its weights are kept as
  std::int64_t bos_token_id = -1;  // -1: none
  std::vector<std::int64_t> eos_token_ids;
};

// Reads a parsed config.json. `file` is named in errors. Throws Error for missing fields, wrong
// types, unknown families, sizes of zero or beyond what any model has, head counts that do not
// divide.
Config config_from_json(const nlohmann::json& json, const std::string& file);

// Throws Error unless the fields make sense together; `source` is named in it. Called by every
// reader.
void validate(const Config& config, const std::string& source);

// A config field's list for `inspect`: name and value as text, in a fixed order.
std::vector<std::pair<std::string, std::string>> describe(const Config& config);

}  // namespace lockstep
