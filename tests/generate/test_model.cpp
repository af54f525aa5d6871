#include "generate/test_model.h"

#include <limits>
#include <map>

#include "checkpoint/file.h"
#include "checkpoint/safetensors.h"
#include "core/check.h"
#include "generate/model_impl.h"

namespace lockstep::test {
namespace {

namespace fs = std::filesystem;

// Tokens as a byte-level vocabulary spells them (Ġ: space, Ċ: newline, Ã ©: é, ð Ł ĺ Ģ: 😀), and
// their bytes.
std::vector<std::pair<std::string, std::string>> tiny_tokens() {
  std::vector<std::pair<std::string, std::string>> tokens = {
      {"<unk>", "<unk>"}, {"<s>", "<s>"}, {"</s>", "</s>"}};
  for (char c = 'a'; c <= 'z'; ++c) tokens.emplace_back(std::string(1, c), std::string(1, c));
  tokens.insert(tokens.end(), {{"Ġ", " "}, {".", "."}, {"Ċ", "\n"}});
  for (const char* text : {"ab", "bc", "abc", "END", "E", "N", "D"})
    tokens.emplace_back(text, text);
  tokens.insert(
      tokens.end(),
      {{"Ã", "\xc3"}, {"©", "\xa9"}, {"ð", "\xf0"}, {"Ł", "\x9f"}, {"ĺ", "\x98"}, {"Ģ", "\x80"}});
  while (std::ssize(tokens) < kTinyTokens) {
    const std::string text = fmt::format("<{}>", tokens.size());
    tokens.emplace_back(text, text);
  }
  return tokens;
}

SafetensorsTensor find_tensor(const fs::path& path, const std::string& name) {
  for (const SafetensorsTensor& tensor : read_safetensors_header(File(path)))
    if (tensor.name == name) return tensor;
  fail("{}: no tensor {}", path.string(), name);
}

}  // namespace

template <typename T>
std::vector<T> read_tensor(const fs::path& path, const std::string& name) {
  const SafetensorsTensor tensor = find_tensor(path, name);
  std::vector<T> values(tensor.bytes / sizeof(T));
  File(path).read(tensor.offset, values.size() * sizeof(T), values.data());
  return values;
}
template std::vector<float> read_tensor(const fs::path&, const std::string&);
template std::vector<std::int32_t> read_tensor(const fs::path&, const std::string&);

Mesh cpu_mesh(int ranks) { return Mesh::tensor_parallel(ranks, DeviceType::kCpu); }

fs::path golden_model(const std::string& name) {
  return fs::path(LOCKSTEP_GOLDEN_DIR) / "model" / name;
}

Model load_golden(const std::string& name, int ranks) {
  return load_model(golden_model(name), cpu_mesh(ranks));
}

fs::path smollm2_path() {
  const fs::path path =
      fs::path(LOCKSTEP_SOURCE_DIR) / ".cache" / "SmolLM2-135M-Instruct.Q4_1.gguf";
  check(fs::exists(path), "{} is absent: run scripts/demo-model.sh", path.string());
  return path;
}

TinyModel::TinyModel() {
  for (const char* name : {"config.json", "model.safetensors"})
    write(name, read_file(golden_model("llama") / name));
}

void TinyModel::add_tokenizer() {
  nlohmann::json vocab = nlohmann::json::object(), added = nlohmann::json::array();
  std::int32_t id = 0;
  for (const auto& [spelling, bytes] : tiny_tokens()) {
    if (id < 3)
      added.push_back({{"id", id}, {"content", spelling}, {"special", true}});
    else
      vocab[spelling] = id;
    ++id;
  }
  write("tokenizer.json",
        nlohmann::json{
            {"added_tokens", added},
            {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
            {"decoder", {{"type", "ByteLevel"}}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}}
            .dump());
}

void TinyModel::poison_embedding(std::int32_t id) {
  constexpr std::size_t kRowBytes = 32 * sizeof(float);
  std::string bytes = read_file(path() / "model.safetensors");
  const std::size_t row =
      find_tensor(path() / "model.safetensors", "model.embed_tokens.weight").offset +
      static_cast<std::size_t>(id) * kRowBytes;
  for (std::size_t at = row; at < row + kRowBytes; at += sizeof(float))
    bytes.replace(at, sizeof(float), bytes_of(std::numeric_limits<float>::quiet_NaN()));
  write("model.safetensors", bytes);
}

Model TinyModel::load(int ranks, const LoadOptions& options) const {
  return load_model(path(), cpu_mesh(ranks), options);
}

std::int32_t tiny_id(const std::string& bytes) {
  static const auto ids = [] {
    std::map<std::string, std::int32_t> map;
    for (const auto& token : tiny_tokens())
      map.emplace(token.second, static_cast<std::int32_t>(map.size()));
    return map;
  }();
  return ids.at(bytes);
}

std::vector<std::int32_t> some_ids(int count, int seed) {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < count; ++i) ids.push_back(3 + (i * 37 + seed * 11 + i * i) % 80);
  return ids;
}

SamplingParams greedy(int max_tokens) {
  SamplingParams params;
  params.temperature = 0;
  params.max_tokens = max_tokens;
  params.ignore_eos = true;
  return params;
}

SamplingParams drawn(int max_tokens, std::uint64_t seed) {
  SamplingParams params = greedy(max_tokens);
  params.temperature = 1;
  params.seed = seed;
  return params;
}

std::vector<std::int32_t> ids_of(const Completion& completion) {
  std::vector<std::int32_t> ids;
  for (const Token& token : completion.tokens) ids.push_back(token.id);
  return ids;
}

Hold::Hold(const Model& model)
    : thread_([this, team = model.impl()->team] {
        team->run("hold", [this](Rank& rank) {
          if (rank.id() != 0) return;
          begun_.set_value();
          released_.get_future().wait();
        });
      }) {
  begun_.get_future().wait();
}

void Hold::release() {
  if (released_already_) return;
  released_already_ = true;
  released_.set_value();
  thread_.join();
}

}  // namespace lockstep::test
