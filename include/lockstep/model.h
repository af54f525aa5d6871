/// @file
/// Loading a model onto a mesh.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lockstep/chat.h"
#include "lockstep/export.h"
#include "lockstep/hub.h"
#include "lockstep/mesh.h"
#include "lockstep/sampling.h"
#include "lockstep/tensor.h"

namespace lockstep {

/// How load_model() loads.
struct LoadOptions {
  /// What weights and KV cache are kept as: float32, bfloat16, float16. Unset: as the checkpoint;
  /// float16 for quantized ones.
  std::optional<DType> dtype;
  /// Seeded random weights from a config.json alone, the same values for every mesh.
  bool dummy_weights = false;
  /// Seed of dummy_weights.
  std::uint64_t dummy_seed = 0;
  /// GPUs: prompts, too, have the same bits on any number of ranks, which makes them slower. On the
  /// CPU they always have.
  bool deterministic = false;
  /// Refuse a model that does not fit into the memory that is free, before anything is loaded, and
  /// later generators that do not fit.
  bool check_memory = true;
  /// The Generator that is planned, as in GeneratorOptions: taken into account when memory is
  /// checked. A batch of 0: none.
  int planned_batch_size = 0;
  /// Tokens of one sequence; 0: GeneratorOptions' default.
  std::int64_t planned_length = 0;
  /// Overlay SamplingParams' defaults by the model's generation_config.json.
  bool use_generation_config = true;
  /// Called with bytes of weights in place and of all weights, over all ranks; from any rank's
  /// thread, one at a time. What it throws makes the loading fail.
  std::function<void(std::uint64_t done, std::uint64_t total)> progress;
  /// How a model that is a name on the hub is fetched when the cache does not have it.
  PullOptions pull;
};

/// A model's weights, sharded over running ranks, and its tokenizer. A handle: copies share the
/// model, which lives as long as the last of them. Thread-safe.
class LOCKSTEP_API Model {
 public:
  /// The devices that hold the model.
  const Mesh& mesh() const;
  /// What weights and KV cache are kept as.
  DType dtype() const;
  /// Number of token ids: they are from 0 to vocab_size() - 1.
  std::int64_t vocab_size() const;
  /// Positions that the model was made for: tokens of a prompt and its output together.
  std::int64_t max_length() const;
  /// Whether prompts can be text; without a tokenizer they are token ids.
  bool has_tokenizer() const;
  /// Whether it comes with a template for conversations, and a tokenizer to encode them.
  bool has_chat_template() const;
  /// A conversation as Generator::chat() gives it to the model, without a beginning-of-sequence
  /// token but for the one that the template writes. Added tokens are recognised only in what the
  /// template wrote; what comes from messages and options is encoded as the plain text that it is.
  /// Throws Error without a tokenizer or template, for JSON that is none, and for what the template
  /// refuses, naming its line.
  RenderedChat render_chat(const std::vector<ChatMessage>& messages,
                           const ChatOptions& options = {}) const;
  /// SamplingParams' defaults, overlaid by the model's generation_config.json.
  const SamplingParams& default_sampling() const;

  /// What a handle shares. For code within Lockstep.
  struct Impl;
  /// For code within Lockstep: programs call load_model().
  explicit Model(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  /// For code within Lockstep.
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

/// Loads `model`: a directory with config.json and safetensors, a .gguf file, or a name on the hub
/// such as org/name (see locate_model(); a path that exists wins). Every rank reads its own slices,
/// all ranks at the same time. Blocks until the weights are in place. Throws Error naming file and
/// tensor for anything wrong with it, for more ranks than query heads, and with the numbers when it
/// does not fit into memory.
LOCKSTEP_API Model load_model(const std::string& model, const Mesh& mesh,
                              const LoadOptions& options = {});

}  // namespace lockstep
