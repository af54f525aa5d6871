// The sharded layers: the only place of the model that communicates.
//
// Column-parallel: the output features are split, so each rank computes its own from the whole
// input, and nothing is exchanged. Row-parallel: the input features are split, so each rank's
// product is a partial sum, and the sum over ranks is owed (Megatron-LM, Shoeybi et al. 2019). It
// is paid as late as possible: by whoever needs the hidden state next.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/buffer.h"
#include "lockstep/spmd.h"
#include "ops/ops.h"
#include "sharding/weights.h"

namespace lockstep {

// Memory for one step's intermediate values. make() hands out the same addresses for the same
// calls; reset() takes everything back.
class Workspace {
 public:
  Workspace(Rank& rank, std::size_t bytes);

  // [rows, columns], not initialised.
  Tensor make(std::int64_t rows, std::int64_t columns, DType dtype = DType::kFloat32);
  void reset() { used_ = 0; }

 private:
  Device device_;
  Buffer buffer_;
  std::size_t used_ = 0;
};

// The hidden state of a step: the residual stream [rows, hidden_size] plus the partial sums that
// are still to be added to it.
class Residual {
 public:
  // max_kept_rows: the most that keep_rows() is asked for.
  Residual(Rank& rank, std::int64_t max_rows, std::int64_t max_kept_rows, std::int64_t hidden_size);

  // Begins a step: the stream's memory, to be filled by the embedding; nothing is pending.
  Tensor start(std::int64_t rows);

  // Row-parallel linear: x [rows, local_in_features] times weight^T is this rank's share of a sum
  // over ranks that is to be added to the stream; the bias is added once, after the reduction.
  void add_partial(const Tensor& x, const LinearWeights& linear);

  // Goes on with these rows alone, [n] int32, ascending; row i is then what row indices[i] was.
  // Nothing is pending.
  void keep_rows(const Tensor& indices);
  std::int64_t rows() const { return rows_; }

  // The RMS norm of the stream with everything pending added, into `out` [rows, hidden_size].
  void norm(const Tensor& out, const Tensor& weight, float eps);

 private:
  struct State {
    OwnedTensor stream;   // [max rows, hidden_size] float32
    OwnedTensor partial;  // the same
  };
  State make_state(std::int64_t max_rows, std::int64_t hidden_size) const;

  Rank& rank_;
  State all_, kept_;
  State* state_ = &all_;
  std::int64_t rows_ = 0;
  const LinearWeights* pending_ = nullptr;  // what state_->partial is the product of
};

// x [rows, in_features] times this rank's output features: [rows, local_out_features].
Tensor column_linear(Rank& rank, Workspace& workspace, const Tensor& x,
                     const LinearWeights& linear);

// The same for pairs of gates and what they are for: silu(gate) * up, [rows, local_out_features /
// 2] of `dtype`.
Tensor gated_linear(Rank& rank, Workspace& workspace, const Tensor& x, const LinearWeights& linear,
                    DType dtype);

}  // namespace lockstep
