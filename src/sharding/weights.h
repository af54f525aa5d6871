// Weights: one rank's slices of a model, in the layouts of its Ops.
#pragma once

#include <optional>
#include <vector>

#include "core/buffer.h"
#include "ops/ops.h"

namespace lockstep {

// A matrix and, where the model has one, its bias [out_features] float32.
struct LinearWeights {
  Matrix weight;
  std::optional<OwnedTensor> bias;
};

struct LayerWeights {
  OwnedTensor input_layernorm;  // [hidden_size] float32
  LinearWeights qkv_proj;       // [(local_heads + 2 local_kv_heads) * head_dim, hidden_size]
  std::optional<OwnedTensor> q_norm, k_norm;  // [head_dim] float32
  LinearWeights o_proj;                       // [hidden_size, local_heads * head_dim]
  OwnedTensor post_attention_layernorm;       // [hidden_size] float32
  LinearWeights gate_up_proj;  // [2 * local_intermediate, hidden_size]: gate, then up
  LinearWeights down_proj;     // [hidden_size, local_intermediate]
};

struct Weights {
  Matrix embed_tokens;  // [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  OwnedTensor norm;  // [hidden_size] float32
  Matrix lm_head;    // [local_vocab, hidden_size]; a view into embed_tokens where they are tied
};

}  // namespace lockstep
