// The models that these tests run: tiny golden checkpoints, copies of them that a test changes, and
// the demo model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/test_files.h"
#include "lockstep/lockstep.h"

namespace lockstep::test {

Mesh cpu_mesh(int ranks);

// A checkpoint of tests/golden/model, without a tokenizer.
std::filesystem::path golden_model(const std::string& name);
Model load_golden(const std::string& name, int ranks = 1);

// The demo model. Throws Error that says how to get it when it is absent.
std::filesystem::path smollm2_path();

// A tensor of a safetensors file; T is float or std::int32_t.
template <typename T>
std::vector<T> read_tensor(const std::filesystem::path& file, const std::string& name);

// A copy of the golden checkpoint "llama" (104 tokens, 8 heads, 128 positions; end token 2).
class TinyModel {
 public:
  TinyModel();
  // Gives it a tokenizer of kTinyTokens tokens; the rest of the vocabulary is padding.
  void add_tokenizer();
  void write(const std::string& name, const std::string& text) { dir_.write(name, text); }
  // From now on, whatever attends to this token has logits that are no numbers.
  void poison_embedding(std::int32_t id);

  std::filesystem::path path() const { return dir_.path(); }
  Model load(int ranks = 1, const LoadOptions& options = {}) const;

 private:
  TempDir dir_;
};

inline constexpr std::int32_t kTinyTokens = 90;
// The id of a token of TinyModel's tokenizer: a small letter, " ", ".", "\n", "ab", "bc", "abc",
// "END", "E", "N", "D", one byte of "é" or "😀", or "<45>" to "<89>".
std::int32_t tiny_id(const std::string& bytes);

// "a", "b", ...: token ids that every golden checkpoint has, none of them special.
std::vector<std::int32_t> some_ids(int count, int seed = 0);

SamplingParams greedy(int max_tokens);
// Draws at temperature 1 with a seed; goes on after the end token.
SamplingParams drawn(int max_tokens, std::uint64_t seed);
std::vector<std::int32_t> ids_of(const Completion& completion);

// Keeps a model's ranks busy until release(): generators of the model make no step meanwhile.
class Hold {
 public:
  explicit Hold(const Model& model);
  ~Hold() { release(); }
  void release();

 private:
  std::promise<void> begun_, released_;
  bool released_already_ = false;
  std::jthread thread_;
};

}  // namespace lockstep::test
