#include "generate/sampler.h"

#include <algorithm>

namespace lockstep {

Sampler::Sampler(Rank& rank, const ShardPlan& plan, const BatchLimits& limits) : rank_(rank) {
  std::int64_t largest = 0;
  for (const RankShard& shard : plan.ranks) {
    vocab_.push_back(shard.vocab);
    largest = std::max(largest, shard.vocab.size());
  }
  const auto allocate = [&](DType dtype, const Shape& shape) {
    return allocate_tensor(rank.ops(), rank.device(), dtype, shape);
  };
  const std::int64_t rows = limits.max_logit_rows;
  padded_ = allocate(DType::kFloat32, {rows, largest});
  gathered_ = allocate(DType::kFloat32, {rows * rank.world_size(), largest});
  whole_ = allocate(DType::kFloat32, {rows, vocab_.back().end});
  thresholds_ = allocate(DType::kFloat32, {rows});
  keys_ = allocate(DType::kInt64, {rows});
  ids_ = allocate(DType::kInt32, {rows});
}

void Sampler::sample(const Tensor& logits, const Batch& batch, const StepInput& input) {
  const SamplingView view = batch.sampling();
  const std::int64_t first_id = vocab_[static_cast<std::size_t>(rank_.id())].begin;
  const Tensor thresholds = thresholds_.tensor.rows(0, view.rows);
  const Tensor keys = keys_.tensor.rows(0, view.rows);
  Ops& ops = rank_.ops();

  if (input.any_penalty) ops.penalize(logits, first_id, view);
  if (input.any_filter) ops.filter_thresholds(thresholds, gather(logits), view);
  ops.draw(keys, logits, first_id, input.any_filter ? &thresholds : nullptr, view);
  rank_.comm().all_reduce(keys, ReduceOp::kMax);
  ops.append_tokens(ids(view.rows), keys, view);
}

Tensor Sampler::gather(const Tensor& logits) {
  const std::int64_t rows = logits.num_rows();
  const Tensor padded = padded_.tensor.rows(0, rows);
  const Tensor gathered = gathered_.tensor.rows(0, rows * rank_.world_size());
  const Tensor whole = whole_.tensor.rows(0, rows);
  rank_.ops().copy_columns(padded, 0, logits, 0, logits.shape[1]);
  rank_.comm().all_gather(gathered, padded);
  for (std::size_t r = 0; r < vocab_.size(); ++r) {
    const auto first_row = static_cast<std::int64_t>(r) * rows;
    rank_.ops().copy_columns(whole, vocab_[r].begin, gathered.rows(first_row, first_row + rows), 0,
                             vocab_[r].size());
  }
  return whole;
}

}  // namespace lockstep
