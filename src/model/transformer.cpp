#include "model/transformer.h"

#include <algorithm>
#include <vector>

namespace lockstep {
namespace {

// The most that half a block, or the head of the model, keeps in the workspace at once.
std::size_t workspace_bytes(const Config& config, const RankShard& shard,
                            const BatchLimits& limits) {
  const std::int64_t qkv = (shard.heads.size() + 2 * shard.kv_heads.size()) * config.head_dim;
  const std::int64_t attended = shard.heads.size() * config.head_dim;
  const std::int64_t columns =
      config.hidden_size + std::max(qkv + 2 * attended, 3 * shard.intermediate.size());
  constexpr std::int64_t kPadding = 4 * 256;  // of four tensors
  return static_cast<std::size_t>(limits.max_rows * columns) * sizeof(float) + kPadding;
}

}  // namespace

Transformer::Transformer(Rank& rank, const Config& config, const ShardPlan& plan,
                         const Weights& weights, const BatchLimits& limits)
    : rank_(rank),
      config_(config),
      shard_(plan.ranks.at(static_cast<std::size_t>(rank.id()))),
      weights_(weights),
      activation_(rank.ops().activation_dtype(weights.embed_tokens.dtype)),
      inverse_frequencies_(
          allocate_tensor(rank.ops(), rank.device(), DType::kFloat32, {config.head_dim / 2})),
      token_ids_(allocate_tensor(rank.ops(), rank.device(), DType::kInt32, {limits.max_rows})),
      logits_(allocate_tensor(rank.ops(), rank.device(), DType::kFloat32,
                              {limits.max_logit_rows, shard_.vocab.size()})),
      residual_(rank, limits.max_rows, limits.max_logit_rows, config.hidden_size),
      workspace_(rank, workspace_bytes(config, shard_, limits)) {
  std::vector<float> frequencies = rotary_frequencies(config);
  const Tensor& target = inverse_frequencies_.tensor;
  rank.ops().upload(target, Tensor{frequencies.data(), target.dtype, target.shape, Device{}});
}

Tensor Transformer::forward(const Batch& batch, const KvCache& cache) {
  const BatchView view = batch.view();
  const Tensor token_ids = token_ids_.tensor.rows(0, view.rows);
  rank_.ops().token_ids(token_ids, batch.tokens(), view);
  rank_.ops().embedding(residual_.start(view.rows), weights_.embed_tokens, token_ids);

  // After the last attention the other rows have given what they were needed for: their keys and
  // values.
  const Tensor logit_rows = batch.logit_rows();
  for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    attention(i, view, cache.layer(i), i + 1 == config_.num_hidden_layers ? &logit_rows : nullptr);
    if (residual_.rows() > 0) mlp(i);
  }
  if (residual_.rows() == 0) return logits_.tensor.rows(0, 0);

  workspace_.reset();
  const Tensor hidden = workspace_.make(residual_.rows(), config_.hidden_size, activation_);
  residual_.norm(hidden, weights_.norm.tensor, config_.rms_norm_eps);
  const Tensor logits = logits_.tensor.rows(0, residual_.rows());
  rank_.ops().linear(logits, hidden, weights_.lm_head);
  return logits;
}

void Transformer::attention(std::int64_t index, const BatchView& batch, const KvLayer& cache,
                            const Tensor* kept) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(index)];
  const AttentionShape shape = attention_shape(config_, shard_, index);
  const float eps = config_.rms_norm_eps;
  workspace_.reset();
  const Tensor normed = workspace_.make(batch.rows, config_.hidden_size, activation_);
  residual_.norm(normed, w.input_layernorm.tensor, eps);
  const Tensor qkv = column_linear(rank_, workspace_, normed, w.qkv_proj);
  Tensor attended = workspace_.make(batch.rows, shape.local_heads * shape.head_dim, activation_);
  rank_.ops().rotary_attention(attended, qkv, shape, inverse_frequencies_.tensor,
                               w.q_norm ? &w.q_norm->tensor : nullptr,
                               w.k_norm ? &w.k_norm->tensor : nullptr, eps, cache, batch);
  if (kept != nullptr && kept->num_rows() < batch.rows) {
    const Tensor all = attended;
    attended = workspace_.make(kept->num_rows(), all.row_size(), activation_);
    rank_.ops().gather_rows(attended, all, *kept);
    residual_.keep_rows(*kept);
  }
  if (residual_.rows() > 0) residual_.add_partial(attended, w.o_proj);
}

void Transformer::mlp(std::int64_t index) {
  const LayerWeights& w = weights_.layers[static_cast<std::size_t>(index)];
  const std::int64_t rows = residual_.rows();
  workspace_.reset();
  const Tensor normed = workspace_.make(rows, config_.hidden_size, activation_);
  residual_.norm(normed, w.post_attention_layernorm.tensor, config_.rms_norm_eps);
  const Tensor activated = gated_linear(rank_, workspace_, normed, w.gate_up_proj, activation_);
  residual_.add_partial(activated, w.down_proj);
}

}  // namespace lockstep
