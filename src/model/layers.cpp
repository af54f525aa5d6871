#include "model/layers.h"

#include "core/check.h"

namespace lockstep {
namespace {

constexpr std::size_t kAlignment = 256;

bool disjoint(const Range& a, const Range& b) { return a.end <= b.begin || b.end <= a.begin; }

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
  all_rows_ = rows;
  rows_ = {0, rows};
  pending_.clear();
  return state_->stream.tensor.rows(0, rows);
}

void Residual::select(Range rows) {
  check(0 <= rows.begin && rows.begin <= rows.end && rows.end <= all_rows_,
        "rows [{}, {}) of {} were selected", rows.begin, rows.end, all_rows_);
  rows_ = rows;
}

void Residual::keep_rows(const Tensor& indices) {
  const std::int64_t count = indices.num_rows();
  if (count == all_rows_) return;  // ascending, so all of them
  check(state_ == &all_, "rows were chosen before");
  check(rows() == all_rows_, "rows are chosen while some are selected");
  check(pending_.empty(), "rows are chosen while a partial sum is pending");
  rank_.ops().gather_rows(kept_.stream.tensor.rows(0, count), all_.stream.tensor.rows(0, all_rows_),
                          indices);
  state_ = &kept_;
  all_rows_ = count;
  rows_ = {0, count};
}

void Residual::add_partial(const Tensor& x, const LinearWeights& linear) {
  for (const Pending& other : pending_)
    check(disjoint(other.rows, rows_), "a partial sum is still pending");
  const Tensor partial = state_->partial.tensor.rows(rows_.begin, rows_.end);
  rank_.ops().partial_linear(rank_.comm(), partial, x, linear.weight);
  if (rows() < all_rows_) rank_.ops().start_sum(rank_.comm(), partial);  // others come next
  pending_.push_back({rows_, &linear});
}

void Residual::norm(const Tensor& out, const Tensor& weight, float eps) {
  std::int64_t done = 0;
  for (const auto& [rows, linear] : pending_) {
    if (disjoint(rows, rows_)) continue;
    const Tensor* bias = linear->bias ? &linear->bias->tensor : nullptr;
    rank_.ops().all_reduce_add_rms_norm(
        rank_.comm(), out.rows(rows.begin - rows_.begin, rows.end - rows_.begin),
        state_->stream.tensor.rows(rows.begin, rows.end),
        state_->partial.tensor.rows(rows.begin, rows.end), bias, weight, eps);
    done += rows.size();
  }
  std::erase_if(pending_, [&](const Pending& each) { return !disjoint(each.rows, rows_); });
  if (done == 0)
    rank_.ops().rms_norm(out, state_->stream.tensor.rows(rows_.begin, rows_.end), weight, eps);
  else
    check(done == rows(), "partial sums are pending for {} of {} rows", done, rows());
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
