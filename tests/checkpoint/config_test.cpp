#include "checkpoint/config.h"

#include <gmock/gmock.h>

#include <functional>

#include "checkpoint/json.h"
#include "test_files.h"

namespace lockstep {
namespace {

using nlohmann::json;
using test::error_of;
using test::tiny_config_json;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// As the model's authors published them, with transformers 4.
constexpr const char* kMistral7B = R"({
  "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
  "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
  "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
  "tie_word_embeddings": false, "torch_dtype": "bfloat16", "transformers_version": "4.34.0.dev0",
  "use_cache": true, "vocab_size": 32000})";

constexpr const char* kLlama31 = R"({
  "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 128000, "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu",
  "hidden_size": 4096, "initializer_range": 0.02, "intermediate_size": 14336,
  "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "llama",
  "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8,
  "pretraining_tp": 1, "rms_norm_eps": 1e-05,
  "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                   "original_max_position_embeddings": 8192, "rope_type": "llama3"},
  "rope_theta": 500000.0, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
  "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 128256})";

constexpr const char* kQwen25 = R"({
  "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
  "eos_token_id": 151645, "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02,
  "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 21,
  "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
  "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
  "sliding_window": 32768, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
  "transformers_version": "4.43.1", "use_cache": true, "use_sliding_window": false,
  "vocab_size": 151936})";

constexpr const char* kQwen3 = R"({
  "architectures": ["Qwen3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
  "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
  "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
  "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
  "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
  "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null,
  "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.51.0",
  "use_cache": true, "use_sliding_window": false, "vocab_size": 151936})";

Config parse(const std::string& text) { return config_from_json(parse_json(text, "t"), "t"); }

Config golden(const std::string& name) {
  const std::string path =
      std::string(LOCKSTEP_GOLDEN_DIR) + "/checkpoint/configs/" + name + ".json";
  return config_from_json(read_json_file(path), path);
}

// The tiny config with some members changed; null values are kept.
json changed(const json& changes) {
  json result = tiny_config_json();
  result.update(changes);
  return result;
}
Config parse_changed(const json& changes) { return config_from_json(changed(changes), "t"); }

TEST(ConfigJson, MistralAsTransformers4WritesIt) {
  const Config config = parse(kMistral7B);
  EXPECT_EQ(config.model_type, "mistral");
  EXPECT_EQ(config.vocab_size, 32000);
  EXPECT_EQ(config.hidden_size, 4096);
  EXPECT_EQ(config.intermediate_size, 14336);
  EXPECT_EQ(config.num_hidden_layers, 32);
  EXPECT_EQ(config.num_attention_heads, 32);
  EXPECT_EQ(config.num_key_value_heads, 8);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.max_position_embeddings, 32768);
  EXPECT_EQ(config.rms_norm_eps, 1e-5f);
  EXPECT_EQ(config.rope_theta, 10000.0f);
  EXPECT_EQ(config.rope_scaling.type, RopeScaling::Type::kNone);
  EXPECT_EQ(config.sliding_window, std::vector<std::int64_t>(32, 4096));
  EXPECT_FALSE(config.tie_word_embeddings || config.qkv_bias || config.o_bias || config.mlp_bias ||
               config.qk_norm);
  EXPECT_EQ(config.dtype, DType::kBFloat16);
  EXPECT_EQ(config.bos_token_id, 1);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2));
}

TEST(ConfigJson, Llama3AsTransformers4WritesIt) {
  const Config config = parse(kLlama31);
  EXPECT_EQ(config.rope_theta, 500000.0f);
  EXPECT_EQ(config.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(config.rope_scaling.factor, 8.0f);
  EXPECT_EQ(config.rope_scaling.low_freq_factor, 1.0f);
  EXPECT_EQ(config.rope_scaling.high_freq_factor, 4.0f);
  EXPECT_EQ(config.rope_scaling.original_max_position_embeddings, 8192);
  EXPECT_THAT(config.sliding_window, Each(0));
  EXPECT_THAT(config.eos_token_ids, ElementsAre(128001, 128008, 128009));
}

TEST(ConfigJson, QwenAsTransformers4WritesIt) {
  const Config qwen2 = parse(kQwen25);
  EXPECT_TRUE(qwen2.qkv_bias && qwen2.tie_word_embeddings);
  EXPECT_FALSE(qwen2.o_bias || qwen2.mlp_bias || qwen2.qk_norm);
  EXPECT_EQ(qwen2.head_dim, 64);
  EXPECT_THAT(qwen2.sliding_window, Each(0));

  const Config qwen3 = parse(kQwen3);
  EXPECT_TRUE(qwen3.qk_norm && qwen3.tie_word_embeddings);
  EXPECT_FALSE(qwen3.o_bias || qwen3.mlp_bias || qwen3.qkv_bias);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.rope_theta, 1000000.0f);
}

// Golden files: what transformers 5 writes.
TEST(ConfigJson, LlamaAsTransformers5WritesIt) {
  const Config plain = golden("llama");
  EXPECT_EQ(plain.num_key_value_heads, 32);
  EXPECT_EQ(plain.head_dim, 128);
  EXPECT_EQ(plain.rope_theta, 10000.0f);
  EXPECT_EQ(plain.rope_scaling.type, RopeScaling::Type::kNone);

  const Config llama3 = golden("llama3");
  EXPECT_EQ(llama3.rope_theta, 500000.0f);
  EXPECT_EQ(llama3.rope_scaling.type, RopeScaling::Type::kLlama3);
  EXPECT_EQ(llama3.rope_scaling.factor, 8.0f);
  EXPECT_EQ(llama3.rope_scaling.low_freq_factor, 1.0f);
  EXPECT_EQ(llama3.rope_scaling.high_freq_factor, 4.0f);
  EXPECT_EQ(llama3.rope_scaling.original_max_position_embeddings, 8192);
  EXPECT_EQ(llama3.dtype, DType::kBFloat16);
  EXPECT_THAT(llama3.eos_token_ids, ElementsAre(128001, 128008, 128009));

  const Config linear = golden("llama_linear");
  EXPECT_EQ(linear.rope_scaling.type, RopeScaling::Type::kLinear);
  EXPECT_EQ(linear.rope_scaling.factor, 2.5f);
  EXPECT_TRUE(linear.qkv_bias && linear.o_bias && linear.tie_word_embeddings);
  EXPECT_FALSE(linear.mlp_bias);
  EXPECT_EQ(linear.dtype, DType::kFloat16);
}

TEST(ConfigJson, MistralAndQwenAsTransformers5WritesThem) {
  const Config mistral = golden("mistral");
  EXPECT_EQ(mistral.sliding_window, std::vector<std::int64_t>(32, 1024));
  EXPECT_EQ(mistral.dtype, DType::kFloat32);
  const Config full = golden("mistral_full");
  EXPECT_EQ(full.head_dim, 96);
  EXPECT_THAT(full.sliding_window, Each(0));

  const Config qwen2 = golden("qwen2");
  EXPECT_TRUE(qwen2.qkv_bias);
  EXPECT_THAT(qwen2.sliding_window, Each(0));
  EXPECT_EQ(qwen2.bos_token_id, 151643);
  EXPECT_THAT(qwen2.eos_token_ids, ElementsAre(151645));
  std::vector<std::int64_t> windows(32, 0);
  std::fill(windows.begin() + 20, windows.end(), 2048);
  EXPECT_EQ(golden("qwen2_sliding").sliding_window, windows);

  const Config qwen3 = golden("qwen3");
  EXPECT_TRUE(qwen3.qk_norm && qwen3.qkv_bias && qwen3.o_bias && qwen3.tie_word_embeddings);
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.bos_token_id, -1);
  EXPECT_THAT(qwen3.eos_token_ids, IsEmpty());
}

TEST(ConfigJson, AbsentFieldsHaveTheFamilysDefaults) {
  json small = tiny_config_json();
  for (const char* key :
       {"num_key_value_heads", "max_position_embeddings", "rms_norm_eps", "rope_theta",
        "bos_token_id", "eos_token_id", "tie_word_embeddings", "torch_dtype"})
    small.erase(key);
  small["num_attention_heads"] = 32;
  small["hidden_size"] = 64;

  const Config llama = config_from_json(small, "t");
  EXPECT_EQ(llama.num_key_value_heads, 32);
  EXPECT_EQ(llama.head_dim, 2);
  EXPECT_EQ(llama.max_position_embeddings, 2048);
  EXPECT_EQ(llama.rms_norm_eps, 1e-6f);
  EXPECT_EQ(llama.rope_theta, 10000.0f);
  EXPECT_EQ(llama.bos_token_id, 1);
  EXPECT_THAT(llama.eos_token_ids, ElementsAre(2));
  EXPECT_FALSE(llama.tie_word_embeddings);
  EXPECT_EQ(llama.dtype, DType::kBFloat16);
  EXPECT_THAT(llama.sliding_window, ElementsAre(0));

  small["model_type"] = "mistral";
  const Config mistral = config_from_json(small, "t");
  EXPECT_EQ(mistral.num_key_value_heads, 8);
  EXPECT_EQ(mistral.max_position_embeddings, 131072);
  EXPECT_THAT(mistral.sliding_window, ElementsAre(4096));
  small["num_key_value_heads"] = nullptr;
  EXPECT_EQ(config_from_json(small, "t").num_key_value_heads, 32);

  small["model_type"] = "qwen3";
  const Config qwen3 = config_from_json(small, "t");
  EXPECT_EQ(qwen3.head_dim, 128);
  EXPECT_EQ(qwen3.max_position_embeddings, 32768);
  EXPECT_EQ(qwen3.bos_token_id, -1);
  EXPECT_THAT(qwen3.eos_token_ids, IsEmpty());
}

TEST(ConfigJson, SlidingWindowsOfQwen) {
  json qwen = changed({{"model_type", "qwen2"},
                       {"num_hidden_layers", 4},
                       {"sliding_window", 8},
                       {"max_window_layers", 2}});
  EXPECT_THAT(config_from_json(qwen, "t").sliding_window, Each(0));
  qwen["use_sliding_window"] = true;
  EXPECT_THAT(config_from_json(qwen, "t").sliding_window, ElementsAre(0, 0, 8, 8));
  qwen["sliding_window"] = nullptr;
  EXPECT_THAT(config_from_json(qwen, "t").sliding_window, Each(0));
  qwen["sliding_window"] = 8;
  qwen["layer_types"] = {"sliding_attention", "full_attention", "full_attention",
                         "sliding_attention"};
  EXPECT_THAT(config_from_json(qwen, "t").sliding_window, ElementsAre(8, 0, 0, 8));
  qwen["layer_types"] = {"full_attention"};
  EXPECT_THAT(error_of([&] { config_from_json(qwen, "t"); }), HasSubstr("layer_types has 1"));
  qwen["layer_types"] = {"full_attention", "full_attention", "full_attention", "chunked"};
  EXPECT_THAT(error_of([&] { config_from_json(qwen, "t"); }), HasSubstr("layer_types[3] \"chunk"));
  qwen["layer_types"] = {"sliding_attention", "full_attention", "full_attention", "full_attention"};
  qwen["use_sliding_window"] = false;
  EXPECT_THAT(error_of([&] { config_from_json(qwen, "t"); }), HasSubstr("layer_types[0]"));
}

TEST(ConfigJson, RopeScalingSpellings) {
  const auto scaling = [](const json& rope) { return parse_changed({{"rope_scaling", rope}}); };
  EXPECT_EQ(scaling(nullptr).rope_scaling.type, RopeScaling::Type::kNone);
  EXPECT_EQ(scaling({{"type", "default"}}).rope_scaling.type, RopeScaling::Type::kNone);
  EXPECT_EQ(scaling({{"type", "linear"}, {"factor", 4}}).rope_scaling.factor, 4.0f);
  const Config both = parse_changed(
      {{"rope_theta", 1.0}, {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 7.0}}}});
  EXPECT_EQ(both.rope_theta, 7.0f);
  const Config fallback = scaling(
      {{"rope_type", "llama3"}, {"factor", 2}, {"low_freq_factor", 1}, {"high_freq_factor", 2}});
  EXPECT_EQ(fallback.rope_scaling.original_max_position_embeddings, 16);
}

TEST(ConfigJson, MissingFieldsAreNamed) {
  for (const char* key : {"model_type", "vocab_size", "hidden_size", "intermediate_size",
                          "num_hidden_layers", "num_attention_heads"}) {
    json small = tiny_config_json();
    small.erase(key);
    EXPECT_THAT(error_of([&] { config_from_json(small, "dir/config.json"); }),
                AllOf(HasSubstr("dir/config.json"), HasSubstr(key), HasSubstr("missing")));
    small[key] = nullptr;
    EXPECT_THAT(error_of([&] { config_from_json(small, "dir/config.json"); }),
                AllOf(HasSubstr("dir/config.json"), HasSubstr(key), HasSubstr("missing")));
  }
}

// Every bad value of every field gives an Error that names file and field.
TEST(ConfigJson, BadValuesAreNamed) {
  struct Case {
    const char* key;
    json value;
    const char* expected;
  };
  const std::int64_t huge = INT64_MAX;
  const std::vector<Case> cases{
      {"model_type", "gpt2", "model_type \"gpt2\""},
      {"model_type", 3, "model_type must be a string"},
      {"model_type", "lla\nma", "lla\\x0ama"},
      {"vocab_size", 0, "vocab_size"},
      {"vocab_size", -1, "vocab_size"},
      {"vocab_size", huge, "vocab_size"},
      {"vocab_size", 1.5, "vocab_size must be an integer"},
      {"vocab_size", "5", "vocab_size must be an integer"},
      {"vocab_size", 18446744073709551615u, "vocab_size must be an integer of 64 bits"},
      {"hidden_size", huge, "hidden_size"},
      {"hidden_size", 9, "hidden_size 9 is not a multiple"},
      {"intermediate_size", huge, "intermediate_size"},
      {"num_hidden_layers", 0, "num_hidden_layers"},
      {"num_hidden_layers", huge, "num_hidden_layers"},
      {"num_hidden_layers", -1, "num_hidden_layers"},
      {"num_attention_heads", 0, "num_attention_heads"},
      {"num_attention_heads", huge, "num_attention_heads"},
      {"num_attention_heads", true, "num_attention_heads"},
      {"num_key_value_heads", 0, "num_key_value_heads"},
      {"num_key_value_heads", 3, "num_key_value_heads 3"},
      {"head_dim", 3, "head_dim 3 is odd"},
      {"head_dim", 0, "head_dim"},
      {"head_dim", huge, "head_dim"},
      {"head_dim", json::array(), "head_dim must be an integer, not array"},
      {"max_position_embeddings", 0, "max_position_embeddings"},
      {"rms_norm_eps", -1, "rms_norm_eps"},
      {"rms_norm_eps", 1e39, "rms_norm_eps"},
      {"rms_norm_eps", "1e-5", "rms_norm_eps must be a number"},
      {"rope_theta", 0, "rope_theta"},
      {"rope_theta", -1, "rope_theta"},
      {"rope_theta", 1e300, "rope_theta"},
      {"rope_scaling", 4, "rope_scaling must be an object"},
      {"rope_scaling", {{"type", "yarn"}, {"factor", 2}}, "rope scaling \"yarn\""},
      {"rope_scaling", {{"rope_type", "dynamic"}, {"factor", 2}}, "rope scaling \"dynamic\""},
      {"rope_scaling", {{"rope_type", "longrope"}}, "rope scaling \"longrope\""},
      {"rope_scaling", {{"rope_type", "linear"}}, "rope_scaling.factor is missing"},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}, "factor"},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", "2"}}, "rope_scaling.factor must be"},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 2}}, "rope_scaling.low_freq_factor"},
      {"rope_scaling",
       {{"rope_type", "llama3"}, {"factor", 2}, {"low_freq_factor", 4}, {"high_freq_factor", 4}},
       "low_freq_factor"},
      {"rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 2},
        {"low_freq_factor", 1},
        {"high_freq_factor", 4},
        {"original_max_position_embeddings", 0}},
       "original_max_position_embeddings"},
      {"rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}, "\"full_attention\""},
      {"rope_parameters", {{"rope_theta", "x"}}, "rope_parameters.rope_theta must be a number"},
      {"rope_parameters", {{"rope_theta", 5}, {"partial_rotary_factor", 0.5}}, "partial_rotary"},
      {"partial_rotary_factor", 0.5, "partial_rotary_factor 0.5"},
      {"hidden_act", "gelu", "hidden_act \"gelu\""},
      {"quantization_config", {{"quant_method", "gptq"}}, "quantization_config"},
      {"attention_bias", 1, "attention_bias must be true or false"},
      {"mlp_bias", "no", "mlp_bias must be true or false"},
      {"tie_word_embeddings", 0, "tie_word_embeddings must be true or false"},
      {"torch_dtype", "float8_e4m3fn", "dtype \"float8_e4m3fn\""},
      {"dtype", "int8", "dtype \"int8\""},
      {"bos_token_id", 5, "bos_token_id 5"},
      {"bos_token_id", -2, "bos_token_id -2"},
      {"eos_token_id", -1, "eos_token_id -1"},
      {"eos_token_id", {1, 5}, "eos_token_id 5"},
      {"eos_token_id", {1, "x"}, "eos_token_id must be an integer or a list"},
      {"eos_token_id", "x", "eos_token_id must be"},
  };
  for (const Case& bad : cases)
    EXPECT_THAT(error_of([&] {
                  config_from_json(changed({{bad.key, bad.value}}), "dir/config.json");
                }),
                AllOf(HasSubstr("dir/config.json"), HasSubstr(bad.expected)))
        << bad.key << " " << bad.value;

  for (const json& document : {json(), json(1), json::array(), json("llama")})
    EXPECT_THAT(error_of([&] { config_from_json(document, "c.json"); }), HasSubstr("c.json"));
  EXPECT_THAT(error_of([&] {
                parse_changed({{"model_type", "mistral"}, {"sliding_window", 0}});
              }),
              HasSubstr("sliding_window must be positive"));
}

TEST(Config, ValidateChecksWhatReadersComputed) {
  const Config good = config_from_json(tiny_config_json(), "t");
  const auto error = [&](const std::function<void(Config&)>& change) {
    Config config = good;
    change(config);
    return error_of([&] { validate(config, "source"); });
  };
  EXPECT_NO_THROW(validate(good, "source"));
  EXPECT_THAT(error([](Config& c) { c.sliding_window.clear(); }), HasSubstr("sliding windows"));
  EXPECT_THAT(error([](Config& c) { c.sliding_window[0] = -1; }),
              HasSubstr("sliding_window of -1"));
  EXPECT_THAT(error([](Config& c) { c.dtype = DType::kInt32; }), HasSubstr("dtype int32"));
  EXPECT_THAT(error([](Config& c) { c.rope_frequency_divisors = {1}; }), HasSubstr("divisors"));
  EXPECT_THAT(error([](Config& c) { c.rope_frequency_divisors = {1, 0}; }), HasSubstr("divisor"));
  EXPECT_THAT(error([](Config& c) { c.rms_norm_eps = NAN; }), HasSubstr("rms_norm_eps"));
}

TEST(Config, DescribeNamesEveryField) {
  Config config = parse(kLlama31);
  std::fill(config.sliding_window.begin() + 3, config.sliding_window.begin() + 5, 7);
  std::map<std::string, std::string> fields;
  for (const auto& [name, value] : describe(config)) fields[name] = value;
  EXPECT_EQ(fields["model_type"], "llama");
  EXPECT_EQ(fields["num_key_value_heads"], "8");
  EXPECT_EQ(fields["rope_scaling"],
            "llama3, factor 8, low_freq_factor 1, high_freq_factor 4, original 8192");
  EXPECT_EQ(fields["sliding_window"], "7 (layers 3-4)");
  EXPECT_EQ(fields["dtype"], "bfloat16");
  EXPECT_EQ(fields["eos_token_ids"], "128001, 128008, 128009");
  EXPECT_EQ(fields.size(), describe(config).size());
}

}  // namespace
}  // namespace lockstep
