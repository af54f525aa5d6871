#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "checkpoint/file.h"
#include "checkpoint/formats.h"
#include "core/check.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

void expect_layer(const Config& config, std::int64_t layer, std::vector<ExpectedTensor>& list) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;
  const auto vector = [&](const char* name, std::int64_t size) {
    list.push_back({prefix + name + ".weight", {size}});
  };
  const auto linear = [&](const char* name, std::int64_t out, std::int64_t in, bool has_bias) {
    list.push_back({prefix + name + ".weight", {out, in}});
    if (has_bias) list.push_back({prefix + name + ".bias", {out}});
  };
  vector("input_layernorm", hidden);
  linear("self_attn.q_proj", queries, hidden, config.qkv_bias);
  linear("self_attn.k_proj", keys, hidden, config.qkv_bias);
  linear("self_attn.v_proj", keys, hidden, config.qkv_bias);
  if (config.qk_norm) {
    vector("self_attn.q_norm", config.head_dim);
    vector("self_attn.k_norm", config.head_dim);
  }
  linear("self_attn.o_proj", hidden, queries, config.o_bias);
  vector("post_attention_layernorm", hidden);
  linear("mlp.gate_proj", config.intermediate_size, hidden, config.mlp_bias);
  linear("mlp.up_proj", config.intermediate_size, hidden, config.mlp_bias);
  linear("mlp.down_proj", hidden, config.intermediate_size, config.mlp_bias);
}

// A file that is not GGUF, as far as its first bytes and its name tell what it is.
[[noreturn]] void reject_file(const File& file, std::string_view start) {
  reject_git_lfs_pointer(file);
  const fs::path path(file.name());
  const std::string extension = path.extension().string();
  if (start.starts_with("PK") || start.starts_with("\x80\x02") || extension == ".bin" ||
      extension == ".pth" || extension == ".pt")
    fail("{}: a PyTorch checkpoint, which is not supported; convert it to safetensors",
         file.name());
  if (extension == ".safetensors" || path.filename() == "config.json")
    fail("{}: give the directory that holds config.json and the safetensors files", file.name());
  fail(
      "{}: neither a directory with config.json and safetensors nor a GGUF file: it starts with {}",
      file.name(), quote_name(start));
}

}  // namespace

std::vector<ExpectedTensor> expected_tensors(const Config& config) {
  std::vector<ExpectedTensor> list;
  list.push_back({"model.embed_tokens.weight", {config.vocab_size, config.hidden_size}});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer)
    expect_layer(config, layer, list);
  list.push_back({"model.norm.weight", {config.hidden_size}});
  if (!config.tie_word_embeddings)
    list.push_back({"lm_head.weight", {config.vocab_size, config.hidden_size}});
  return list;
}

std::unique_ptr<Checkpoint> open_checkpoint(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  check(fs::exists(status), "{}: there is no such file or directory", path.string());
  if (fs::is_directory(status)) {
    check(fs::exists(path / "config.json", error), "{}: the directory has no config.json",
          path.string());
    return open_safetensors_checkpoint(path);
  }
  const File file(path);
  std::array<char, 4> start{};
  const std::size_t size = std::min<std::size_t>(start.size(), file.size());
  file.read(0, size, start.data());
  const std::string_view magic(start.data(), size);
  if (magic == "GGUF" || path.extension() == ".gguf") return open_gguf_checkpoint(path);
  reject_file(file, magic);
}

}  // namespace lockstep
