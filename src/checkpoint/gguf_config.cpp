// GGUF metadata to Config.
#include <algorithm>

#include "checkpoint/config.h"
#include "checkpoint/file.h"
#include "checkpoint/gguf.h"
#include "checkpoint/quantized.h"
#include "core/check.h"

namespace lockstep {
namespace {

// The keys of one architecture: "llama.block_count".
class Keys {
 public:
  explicit Keys(const GgufHeader& header) : metadata_(header.metadata) {
    const std::string* architecture = metadata_.string("general.architecture");
    check(architecture != nullptr, "{}: metadata general.architecture is missing", file());
    if (*architecture != "llama" && *architecture != "qwen2" && *architecture != "qwen3")
      fail("{}: architecture {} is not supported; llama (also for Mistral), qwen2 and qwen3 are",
           file(), quote_name(*architecture));
    architecture_ = *architecture;
  }

  const std::string& file() const { return metadata_.file; }
  const std::string& architecture() const { return architecture_; }

  std::optional<std::int64_t> integer(const char* key) const {
    return metadata_.integer(full(key));
  }
  std::optional<double> number(const char* key) const { return metadata_.number(full(key)); }
  const std::string* string(const char* key) const { return metadata_.string(full(key)); }

  std::int64_t required(const char* key) const {
    const auto value = integer(key);
    if (!value) fail("{}: metadata {} is missing", file(), full(key));
    return *value;
  }

 private:
  std::string full(const char* key) const { return architecture_ + "." + key; }

  const GgufMetadata& metadata_;
  std::string architecture_;
};

const GgufTensor* find_tensor(const GgufHeader& header, std::string_view name) {
  const auto place = std::find_if(header.tensors.begin(), header.tensors.end(),
                                  [&](const GgufTensor& tensor) { return tensor.name == name; });
  return place == header.tensors.end() ? nullptr : &*place;
}

void read_sizes(const GgufHeader& header, const Keys& keys, Config& config) {
  const std::string& file = keys.file();
  config.hidden_size = keys.required("embedding_length");
  config.intermediate_size = keys.required("feed_forward_length");
  config.num_hidden_layers = keys.required("block_count");
  check(0 < config.num_hidden_layers && config.num_hidden_layers <= kMaxLayers,
        "{}: metadata {}.block_count must be from 1 to {}, not {}", file, keys.architecture(),
        kMaxLayers, config.num_hidden_layers);
  config.num_attention_heads = keys.required("attention.head_count");
  check(config.num_attention_heads > 0,
        "{}: metadata {}.attention.head_count must be positive, not {}", file, keys.architecture(),
        config.num_attention_heads);
  config.num_key_value_heads =
      keys.integer("attention.head_count_kv").value_or(config.num_attention_heads);
  config.max_position_embeddings = keys.required("context_length");

  const auto key_length = keys.integer("attention.key_length");
  check(key_length || config.hidden_size % config.num_attention_heads == 0,
        "{}: embedding_length {} is not a multiple of attention.head_count {}, and there is no "
        "attention.key_length",
        file, config.hidden_size, config.num_attention_heads);
  config.head_dim = key_length.value_or(config.hidden_size / config.num_attention_heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    const std::int64_t size = keys.integer(key).value_or(config.head_dim);
    check(size == config.head_dim,
          "{}: metadata {}.{} is {}, but only the head size {} is supported", file,
          keys.architecture(), key, size, config.head_dim);
  }
  const std::int64_t experts = keys.integer("expert_count").value_or(0);
  check(experts == 0, "{}: mixtures of experts ({} experts) are not supported", file, experts);

  // The embedding has a row for each token; the key, where there is one, must agree.
  const GgufTensor* embedding = find_tensor(header, "token_embd.weight");
  check(embedding != nullptr, "{}: tensor \"token_embd.weight\" is missing", file);
  config.vocab_size = embedding->shape.front();
  const std::int64_t vocabulary = keys.integer("vocab_size").value_or(config.vocab_size);
  check(vocabulary == config.vocab_size,
        "{}: metadata {}.vocab_size is {}, but tensor \"token_embd.weight\" has {} rows", file,
        keys.architecture(), vocabulary, config.vocab_size);
}

void read_rope(const Keys& keys, Config& config) {
  config.rope_theta = static_cast<float>(keys.number("rope.freq_base").value_or(10000.0));
  const std::string* type = keys.string("rope.scaling.type");
  if (type && *type != "none" && *type != "linear")
    fail("{}: rope scaling {} is not supported; none and linear are", keys.file(),
         quote_name(*type));
  if (type && *type == "none") return;
  // rope.scale_linear: how the first GGUF files said it.
  auto factor = keys.number("rope.scaling.factor");
  if (!factor) factor = keys.number("rope.scale_linear");
  check(factor || !type, "{}: metadata {}.rope.scaling.factor is missing", keys.file(),
        keys.architecture());
  if (!factor || (!type && *factor == 1.0)) return;
  config.rope_scaling.type = RopeScaling::Type::kLinear;
  config.rope_scaling.factor = static_cast<float>(*factor);
}

// What the matrices were kept as; 16-bit floats hold what quantized ones expand to best.
DType read_dtype(const GgufHeader& header) {
  const GgufTensor* tensor = find_tensor(header, "blk.0.attn_q.weight");
  if (tensor && tensor->type == static_cast<std::uint32_t>(GgmlType::kF32)) return DType::kFloat32;
  if (tensor && tensor->type == static_cast<std::uint32_t>(GgmlType::kBF16))
    return DType::kBFloat16;
  return DType::kFloat16;
}

void read_special_tokens(const GgufHeader& header, Config& config) {
  const GgufMetadata& metadata = header.metadata;
  config.bos_token_id = metadata.integer("tokenizer.ggml.bos_token_id").value_or(-1);
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                          "tokenizer.ggml.eom_token_id"}) {
    const auto id = metadata.integer(key);
    auto& list = config.eos_token_ids;
    if (id && std::find(list.begin(), list.end(), *id) == list.end()) list.push_back(*id);
  }
}

}  // namespace

Config config_from_gguf(const GgufHeader& header) {
  const Keys keys(header);
  const std::int64_t parts = header.metadata.integer("split.count").value_or(1);
  check(parts <= 1,
        "{}: one of {} parts of a split GGUF file; merge them first (llama-gguf-split --merge)",
        keys.file(), parts);

  Config config;
  config.model_type = keys.architecture();
  read_sizes(header, keys, config);
  read_rope(keys, config);
  const auto epsilon = keys.number("attention.layer_norm_rms_epsilon");
  check(epsilon.has_value(), "{}: metadata {}.attention.layer_norm_rms_epsilon is missing",
        keys.file(), keys.architecture());
  config.rms_norm_eps = static_cast<float>(*epsilon);
  config.sliding_window.assign(static_cast<std::size_t>(config.num_hidden_layers),
                               keys.integer("attention.sliding_window").value_or(0));

  config.tie_word_embeddings = !find_tensor(header, "output.weight");
  config.qkv_bias = find_tensor(header, "blk.0.attn_q.bias") != nullptr;
  config.o_bias = find_tensor(header, "blk.0.attn_output.bias") != nullptr;
  config.mlp_bias = find_tensor(header, "blk.0.ffn_gate.bias") != nullptr;
  config.qk_norm = keys.architecture() == "qwen3";
  config.dtype = read_dtype(header);
  read_special_tokens(header, config);
  validate(config, keys.file());
  return config;
}

}  // namespace lockstep
