#include "model/layers.h"

#include "core/check.h"

namespace lockstep {
namespace {

constexpr std::size_t kAlignment = 256;

}  // namespace

Workspace::Workspace(Rank& rank, std::size_t bytes)
    : device_(rank.device()), buffer_(rank.ops().allocate(bytes)) {}

Tensor Workspace::make(std::int64_t rows, std::int64_t columns, DType dtype) {
  Tensor tensor{nullptr, dtype, {rows, columns}, device_};
  check(used_ + tensor.bytes() <= buffer_.bytes(), "the workspace of {} bytes is used up",
        buffer_.bytes());
  tensor.data = static_cast<char*>(buffer_.data()) + used_;
  used_ += (tensor.bytes() + kAlignment - 1) / kAlignment * kAlignment;
  return tensor;
}

Residual::Residual(Rank& rank, std::int64_t max_rows, std::int64_t max_kept_rows,
                   std::int64_t hidden_size)
    : rank_(rank),
      all_(make_state(max_rows, hidden_size)),
      kept_(make_state(max_kept_rows, hidden_size)) {}

Residual::State Residual::make_state(std::int64_t max_rows, std::int64_t hidden_size) const {
  const auto make = [&] {
    return allocate_tensor(rank_.ops(), rank_.device(), DType::kFloat32, {max_rows, hidden_size});
  };
  return {make(), make()};
}

Tensor Residual::start(std::int64_t rows) {
  state_ = &all_;
  rows_ = rows;
  pending_ = nullptr;
  return state_->stream.tensor.rows(0, rows);
}

void Residual::keep_rows(const Tensor& indices) {
  const std::int64_t count = indices.num_rows();
  if (count == rows_) return;  // ascending, so all of them
  check(state_ == &all_, "rows were chosen before");
  check(pending_ == nullptr, "rows are chosen while a partial sum is pending");
  rank_.ops().gather_rows(kept_.stream.tensor.rows(0, count), all_.stream.tensor.rows(0, rows_),
                          indices);
  state_ = &kept_;
  rows_ = count;
}

void Residual::add_partial(const Tensor& x, const LinearWeights& linear) {
  check(pending_ == nullptr, "a partial sum is still pending");
  rank_.ops().partial_linear(rank_.comm(), state_->partial.tensor.rows(0, rows_), x, linear.weight);
  pending_ = &linear;
}

void Residual::norm(const Tensor& out, const Tensor& weight, float eps) {
  const Tensor stream = state_->stream.tensor.rows(0, rows_);
  if (pending_ == nullptr) {
    rank_.ops().rms_norm(out, stream, weight, eps);
    return;
  }
  const Tensor sum = state_->partial.tensor.rows(0, rows_);
  const Tensor* bias = pending_->bias ? &pending_->bias->tensor : nullptr;
  rank_.ops().all_reduce_add_rms_norm(rank_.comm(), out, stream, sum, bias, weight, eps);
  pending_ = nullptr;
}

Tensor column_linear(Rank& rank, Workspace& workspace, const Tensor& x,
                     const LinearWeights& linear) {
  const Tensor out = workspace.make(x.num_rows(), linear.weight.out_features);
  rank.ops().linear(out, x, linear.weight, linear.bias ? &linear.bias->tensor : nullptr);
  return out;
}

Tensor gated_linear(Rank& rank, Workspace& workspace, const Tensor& x, const LinearWeights& linear,
                    DType dtype) {
  const std::int64_t rows = x.num_rows(), both = linear.weight.out_features;
  const Tensor gate_up = workspace.make(rows, both);
  const Tensor out = workspace.make(rows, both / 2, dtype);
  rank.ops().gated_linear(out, x, linear.weight, linear.bias ? &linear.bias->tensor : nullptr,
                          gate_up);
  return out;
}

}  // namespace lockstep
