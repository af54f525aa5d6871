// Sampler: logits to tokens, on the device, vocabulary-parallel.
#pragma once

#include "core/buffer.h"
#include "lockstep/spmd.h"
#include "model/batch.h"
#include "sharding/plan.h"

namespace lockstep {

// One rank's part. Ranks exchange one (value, id) candidate a row; whole logits only for rows with
// top_k, top_p or min_p, or when log-probabilities are wanted.
class Sampler {
 public:
  Sampler(Rank& rank, const ShardPlan& plan, const BatchLimits& limits);

  // Chooses the next token of every logit row and appends it to its slot's tokens; logits [rows,
  // local_vocab] are changed. ids() are then the tokens, the same on every rank.
  void sample(const Tensor& logits, const Batch& batch, const StepInput& input);

  // [rows] int32, valid until the next sample().
  Tensor ids(std::int64_t rows) const { return ids_.tensor.rows(0, rows); }

  // Every rank's columns of `logits` [rows, local_vocab] side by side: [rows, vocab_size] float32,
  // valid until the next call.
  Tensor gather(const Tensor& logits);

 private:
  Rank& rank_;
  std::vector<Range> vocab_;  // by rank
  OwnedTensor padded_;        // [max_logit_rows, largest local vocab] float32
  OwnedTensor gathered_;      // [world_size * max_logit_rows, largest local vocab] float32
  OwnedTensor whole_;         // [max_logit_rows, vocab_size] float32
  OwnedTensor thresholds_;    // [max_logit_rows] float32
  OwnedTensor keys_;          // [max_logit_rows] int64
  OwnedTensor ids_;           // [max_logit_rows] int32
};

}  // namespace lockstep
