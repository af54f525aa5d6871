// config.json to Config. Defaults of absent fields are those of the transformers library's
// configuration classes (LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config).
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "checkpoint/config.h"
#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

// A JSON object's members by type. An absent member and one that is null are both nullopt.
class Fields {
 public:
  Fields(const Json& object, const std::string& file, std::string prefix)
      : object_(object), file_(file), prefix_(std::move(prefix)) {}

  bool contains(const char* key) const { return object_.contains(key); }

  std::optional<std::int64_t> integer(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number_integer()) wrong(key, "an integer", *value);
    return to_integer(key, *value);
  }

  std::optional<double> number(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_number()) wrong(key, "a number", *value);
    return value->get<double>();
  }

  std::optional<bool> boolean(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_boolean()) wrong(key, "true or false", *value);
    return value->get<bool>();
  }

  std::optional<std::string> string(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_string()) wrong(key, "a string", *value);
    return value->get<std::string>();
  }

  std::optional<Fields> object(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_object()) wrong(key, "an object", *value);
    return Fields(*value, file_, prefix_ + key + ".");
  }

  std::optional<std::vector<std::string>> strings(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_array()) wrong(key, "a list of strings", *value);
    std::vector<std::string> list;
    for (const Json& element : *value) {
      if (!element.is_string()) wrong(key, "a list of strings", element);
      list.push_back(element.get<std::string>());
    }
    return list;
  }

  // One integer or a list of them; empty when absent.
  std::optional<std::vector<std::int64_t>> integers(const char* key) const {
    const Json* value = find(key);
    if (!value) return std::nullopt;
    if (!value->is_array()) return std::vector<std::int64_t>{*integer(key)};
    std::vector<std::int64_t> list;
    for (const Json& element : *value) {
      if (!element.is_number_integer()) wrong(key, "an integer or a list of integers", element);
      list.push_back(to_integer(key, element));
    }
    return list;
  }

  std::int64_t required(const char* key) const {
    const auto value = integer(key);
    check(value.has_value(), "{}: {}{} is missing", file_, prefix_, key);
    return *value;
  }

  double required_number(const char* key) const {
    const auto value = number(key);
    check(value.has_value(), "{}: {}{} is missing", file_, prefix_, key);
    return *value;
  }

  const Json& json() const { return object_; }

 private:
  const Json* find(const char* key) const {
    const auto place = object_.find(key);
    return place == object_.end() || place->is_null() ? nullptr : &*place;
  }

  std::int64_t to_integer(const char* key, const Json& value) const {
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
      wrong(key, "an integer of 64 bits", value);
    return value.get<std::int64_t>();
  }

  [[noreturn]] void wrong(const char* key, const char* expected, const Json& value) const {
    const std::string found =
        value.is_structured() ? value.type_name() : quote_name(value.dump(-1, ' ', true));
    fail("{}: {}{} must be {}, not {}", file_, prefix_, key, expected, found);
  }

  const Json& object_;
  const std::string& file_;
  std::string prefix_;  // "rope_scaling."
};

// What differs between the families when config.json is silent.
struct Family {
  const char* model_type;
  std::int64_t num_key_value_heads;  // 0: as many as query heads
  std::int64_t head_dim;             // 0: hidden_size / num_attention_heads
  std::int64_t max_position_embeddings;
  bool has_bos_and_eos;  // 1 and 2
};
constexpr std::array<Family, 4> kFamilies{{
    {"llama", 0, 0, 2048, true},
    {"mistral", 8, 0, 131072, true},
    {"qwen2", 32, 0, 32768, false},
    {"qwen3", 32, 128, 32768, false},
}};

const Family& read_family(const Fields& fields, const std::string& file) {
  const auto model_type = fields.string("model_type");
  check(model_type.has_value(), "{}: model_type is missing", file);
  for (const Family& family : kFamilies)
    if (*model_type == family.model_type) return family;
  fail("{}: model_type {} is not supported; llama, mistral, qwen2 and qwen3 are", file,
       quote_name(*model_type));
}

void read_sizes(const Fields& fields, const Family& family, const std::string& file,
                Config& config) {
  config.vocab_size = fields.required("vocab_size");
  config.hidden_size = fields.required("hidden_size");
  config.intermediate_size = fields.required("intermediate_size");
  config.num_hidden_layers = fields.required("num_hidden_layers");
  config.num_attention_heads = fields.required("num_attention_heads");
  check(config.num_attention_heads > 0, "{}: num_attention_heads must be positive, not {}", file,
        config.num_attention_heads);

  const bool silent_about_kv = !fields.contains("num_key_value_heads");
  const std::int64_t default_kv = silent_about_kv && family.num_key_value_heads
                                      ? family.num_key_value_heads
                                      : config.num_attention_heads;
  config.num_key_value_heads = fields.integer("num_key_value_heads").value_or(default_kv);

  const bool silent_about_dim = !fields.contains("head_dim");
  const auto head_dim = fields.integer("head_dim");
  if (head_dim) {
    config.head_dim = *head_dim;
  } else if (silent_about_dim && family.head_dim) {
    config.head_dim = family.head_dim;
  } else {
    check(
        config.hidden_size % config.num_attention_heads == 0,
        "{}: hidden_size {} is not a multiple of num_attention_heads {}, and there is no head_dim",
        file, config.hidden_size, config.num_attention_heads);
    config.head_dim = config.hidden_size / config.num_attention_heads;
  }
  config.max_position_embeddings =
      fields.integer("max_position_embeddings").value_or(family.max_position_embeddings);
  config.rms_norm_eps = static_cast<float>(fields.number("rms_norm_eps").value_or(1e-6));
}

void require_full_rotary(const Fields& fields, const std::string& file) {
  const double factor = fields.number("partial_rotary_factor").value_or(1.0);
  check(factor == 1.0, "{}: partial_rotary_factor {} is not supported, only 1 is", file, factor);
}

// rope_scaling is how transformers 4 writes it, rope_parameters how 5 does; the former has
// precedence there too when both are given.
void read_rope(const Fields& fields, const std::string& file, Config& config) {
  require_full_rotary(fields, file);
  const auto scaling_4 = fields.object("rope_scaling");
  const bool is_4 = scaling_4 && !scaling_4->json().empty();
  const auto rope = is_4 ? scaling_4 : fields.object("rope_parameters");
  double theta = fields.number("rope_theta").value_or(10000.0);
  if (rope) {
    require_full_rotary(*rope, file);
    for (const auto& [key, value] : rope->json().items())
      if (value.is_object())
        fail("{}: rope parameters for each kind of layer ({}) are not supported", file,
             quote_name(key));
    theta = rope->number("rope_theta").value_or(theta);
    auto type = rope->string("rope_type");
    if (!type) type = rope->string("type");
    RopeScaling& scaling = config.rope_scaling;
    if (type == "linear") {
      scaling.type = RopeScaling::Type::kLinear;
      scaling.factor = static_cast<float>(rope->required_number("factor"));
    } else if (type == "llama3") {
      scaling.type = RopeScaling::Type::kLlama3;
      scaling.factor = static_cast<float>(rope->required_number("factor"));
      scaling.low_freq_factor = static_cast<float>(rope->required_number("low_freq_factor"));
      scaling.high_freq_factor = static_cast<float>(rope->required_number("high_freq_factor"));
      scaling.original_max_position_embeddings = rope->integer("original_max_position_embeddings")
                                                     .value_or(config.max_position_embeddings);
    } else if (type && type != "default") {
      fail("{}: rope scaling {} is not supported; default, linear and llama3 are", file,
           quote_name(*type));
    }
  }
  config.rope_theta = static_cast<float>(theta);
}

// Mistral: one window for all layers, null for none. Qwen: only with use_sliding_window, for the
// layers that layer_types names, or else for those from max_window_layers on.
void read_sliding_window(const Fields& fields, const std::string& file, Config& config) {
  const auto layers = static_cast<std::size_t>(config.num_hidden_layers);
  config.sliding_window.assign(layers, 0);
  if (config.model_type == "llama") return;

  std::int64_t window = 0;
  if (!fields.contains("sliding_window"))
    window = 4096;
  else if (const auto given = fields.integer("sliding_window")) {
    check(*given > 0, "{}: sliding_window must be positive or null, not {}", file, *given);
    window = *given;
  }
  if (config.model_type == "mistral") {
    config.sliding_window.assign(layers, window);
    return;
  }

  if (!fields.boolean("use_sliding_window").value_or(false)) window = 0;
  const auto types = fields.strings("layer_types");
  const std::int64_t first = fields.integer("max_window_layers").value_or(28);
  check(!types || types->size() == layers,
        "{}: layer_types has {} entries, num_hidden_layers is {}", file, types ? types->size() : 0,
        layers);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (!types) {
      if (static_cast<std::int64_t>(layer) >= first) config.sliding_window[layer] = window;
      continue;
    }
    const std::string& type = (*types)[layer];
    if (type == "sliding_attention") {
      check(window > 0, "{}: layer_types[{}] is sliding_attention, but no sliding window is in use",
            file, layer);
      config.sliding_window[layer] = window;
    } else if (type != "full_attention") {
      fail("{}: layer_types[{}] {} is not supported; full_attention and sliding_attention are",
           file, layer, quote_name(type));
    }
  }
}

void read_biases(const Fields& fields, Config& config) {
  const bool attention_bias = fields.boolean("attention_bias").value_or(false);
  if (config.model_type == "llama" || config.model_type == "qwen3")
    config.qkv_bias = config.o_bias = attention_bias;
  if (config.model_type == "qwen2") config.qkv_bias = true;
  if (config.model_type == "llama") config.mlp_bias = fields.boolean("mlp_bias").value_or(false);
  config.qk_norm = config.model_type == "qwen3";
}

DType read_dtype(const Fields& fields, const std::string& file) {
  auto name = fields.string("dtype");
  if (!name) name = fields.string("torch_dtype");
  if (!name) return DType::kBFloat16;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16})
    if (*name == name_of(dtype)) return dtype;
  fail("{}: dtype {} is not supported; float32, bfloat16 and float16 are", file, quote_name(*name));
}

}  // namespace

Config config_from_json(const nlohmann::json& json, const std::string& file) {
  check(json.is_object(), "{}: a JSON object is expected, not {}", file, json.type_name());
  const Fields fields(json, file, "");
  const Family& family = read_family(fields, file);
  check(!fields.object("quantization_config"),
        "{}: quantization_config: quantized safetensors are not supported; use the original "
        "weights or a GGUF file",
        file);
  const std::string activation = fields.string("hidden_act").value_or("silu");
  if (activation != "silu")
    fail("{}: hidden_act {} is not supported, only silu is", file, quote_name(activation));

  Config config;
  config.model_type = family.model_type;
  read_sizes(fields, family, file, config);
  // The lists below have an entry a layer, so their length must make sense first.
  check(0 < config.num_hidden_layers && config.num_hidden_layers <= kMaxLayers,
        "{}: num_hidden_layers must be from 1 to {}, not {}", file, kMaxLayers,
        config.num_hidden_layers);
  read_rope(fields, file, config);
  read_sliding_window(fields, file, config);
  read_biases(fields, config);
  config.tie_word_embeddings = fields.boolean("tie_word_embeddings").value_or(false);
  config.dtype = read_dtype(fields, file);

  const bool defaults = family.has_bos_and_eos;
  config.bos_token_id = fields.contains("bos_token_id")
                            ? fields.integer("bos_token_id").value_or(-1)
                        : defaults ? 1
                                   : -1;
  if (fields.contains("eos_token_id"))
    config.eos_token_ids = fields.integers("eos_token_id").value_or(std::vector<std::int64_t>{});
  else if (defaults)
    config.eos_token_ids = {2};
  validate(config, file);
  return config;
}

}  // namespace lockstep
