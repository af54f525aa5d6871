// The model, written once for all families, devices and world sizes.
#pragma once

#include <cstdint>
#include <vector>

#include "checkpoint/config.h"
#include "core/buffer.h"
#include "lockstep/spmd.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/layers.h"
#include "sharding/plan.h"
#include "sharding/weights.h"

namespace lockstep {

// One rank's part of a decoder-only transformer (Llama 2/3, Mistral, Qwen2, Qwen3). Used from the
// rank's own thread. Refers to config, plan and weights, which outlive it.
class Transformer {
 public:
  Transformer(Rank& rank, const Config& config, const ShardPlan& plan, const Weights& weights,
              const BatchLimits& limits);

  // Runs the batch's rows, prompt chunks and single tokens alike, and writes their keys and values
  // to the cache. Returns the logits of the batch's logit rows for this rank's part of the
  // vocabulary, [logit rows, local_vocab] float32, valid until the next call.
  Tensor forward(const Batch& batch, const KvCache& cache);

  // What forward() is made of, for whoever runs a part of the model alone. The two halves of block
  // `index` take the hidden state out of residual() and owe it their result: attention over the
  // batch's rows and the cache, and the feed-forward network of residual().rows() rows. Only rows
  // `kept` of the batch go on after the attention, unless it is null.
  void attention(std::int64_t index, const BatchView& batch, const KvLayer& cache,
                 const Tensor* kept = nullptr);
  void mlp(std::int64_t index);
  Residual& residual() { return residual_; }

 private:
  Rank& rank_;
  const Config& config_;
  const RankShard& shard_;
  const Weights& weights_;
  const DType activation_;           // of linear layers' inputs
  OwnedTensor inverse_frequencies_;  // [head_dim / 2] float32
  OwnedTensor token_ids_;            // [max_rows] int32
  OwnedTensor logits_;               // [max_logit_rows, local_vocab] float32
  Residual residual_;
  Workspace workspace_;
};

// The rotary frequencies: element i of head_dim/2 turns by position * frequency (Su et al. 2021),
// stretched as config.rope_scaling says. The same float32 arithmetic as Hugging Face transformers.
std::vector<float> rotary_frequencies(const Config& config);

}  // namespace lockstep
