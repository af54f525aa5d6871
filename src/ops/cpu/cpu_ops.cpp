#include "ops/cpu/cpu_ops.h"

#include "ops/cpu/simd_targets.h"
// After simd_targets.h.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "ops/cpu/checks.h"
#include "ops/cpu/sampling.h"

namespace lockstep {

std::unique_ptr<Ops> make_cpu_ops() { return std::make_unique<cpu::CpuOps>(); }

namespace cpu {

float* Scratch::floats(std::size_t count) {
  const std::size_t bytes = count * sizeof(float);
  if (bytes > buffer_.bytes()) {
    const std::size_t larger = std::max(bytes, 2 * buffer_.bytes());
    buffer_ = Buffer();  // first give back, then ask
    buffer_ = allocate_host(larger);
  }
  return static_cast<float*>(buffer_.data());
}

std::unique_ptr<Recorder> CpuOps::make_recorder() {
  class DirectRecorder final : public Recorder {
    void run(std::uint64_t, const std::function<void()>& work) override { work(); }
  };
  return std::make_unique<DirectRecorder>();
}

std::unique_ptr<Download> CpuOps::make_download() {
  class Copy final : public Download {
    void start(const Tensor& source) override {
      const char* from = source.as<const char>();
      data_.assign(from, from + source.bytes());
    }
    bool ready() override { return true; }
    const void* data() const override { return data_.data(); }

    std::vector<char> data_;
  };
  return std::make_unique<Copy>();
}

Buffer CpuOps::allocate(std::size_t bytes) { return allocate_host(bytes); }

void* CpuOps::stage(std::size_t bytes) {
  if (stage_.bytes() < bytes) {
    stage_ = Buffer();  // first give back, then ask
    stage_ = allocate_host(bytes);
  }
  return stage_.data();
}

void CpuOps::upload(const Tensor& destination, const Tensor& host) {
  check_tensor("upload", "destination", destination, host.dtype, host.shape);
  check_tensor("upload", "host", host, host.dtype, host.shape);
  if (host.bytes() > 0) std::memcpy(destination.data, host.data, host.bytes());
}

void CpuOps::download(const Tensor& host, const Tensor& source) {
  check_tensor("download", "host", host, source.dtype, source.shape);
  check_tensor("download", "source", source, source.dtype, source.shape);
  if (host.bytes() > 0) std::memcpy(host.data, source.data, host.bytes());
}

void CpuOps::gather_rows(const Tensor& out, const Tensor& x, const Tensor& indices) {
  check_table("gather_rows", "x", x);
  const std::int64_t count = indices.num_rows();
  check_tensor("gather_rows", "indices", indices, DType::kInt32, {count});
  check_tensor("gather_rows", "out", out, x.dtype, {count, x.shape[1]});
  const std::size_t bytes = static_cast<std::size_t>(x.shape[1]) * size_of(x.dtype);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int32_t index = indices.as<const std::int32_t>()[i];
    check(index >= 0 && index < x.shape[0], "gather_rows: row {} is not within [0, {})", index,
          x.shape[0]);
    if (bytes > 0)
      std::memcpy(out.as<char>() + static_cast<std::size_t>(i) * bytes,
                  x.as<const char>() + static_cast<std::size_t>(index) * bytes, bytes);
  }
}

void CpuOps::copy_columns(const Tensor& out, std::int64_t out_column, const Tensor& x,
                          std::int64_t x_column, std::int64_t columns) {
  check_table("copy_columns", "x", x);
  check_table("copy_columns", "out", out);
  check_tensor("copy_columns", "x", x, DType::kFloat32, x.shape);
  check_tensor("copy_columns", "out", out, DType::kFloat32, {x.shape[0], out.shape[1]});
  check(columns >= 0 && out_column >= 0 && x_column >= 0 && out_column + columns <= out.shape[1] &&
            x_column + columns <= x.shape[1],
        "copy_columns: {} columns from {} of {} to {} of {}", columns, x_column, x.shape[1],
        out_column, out.shape[1]);
  for (std::int64_t row = 0; row < x.shape[0]; ++row)
    std::copy_n(x.as<const float>() + row * x.shape[1] + x_column, columns,
                out.as<float>() + row * out.shape[1] + out_column);
}

void CpuOps::token_ids(const Tensor& ids, const Tensor& tokens, const BatchView& batch) {
  check_table("token_ids", "tokens", tokens);
  check_tensor("token_ids", "tokens", tokens, DType::kInt32, tokens.shape);
  check_tensor("token_ids", "ids", ids, DType::kInt32, {batch.rows});
  check_tensor("token_ids", "positions", batch.positions, DType::kInt32, {batch.rows});
  check_tensor("token_ids", "row_sequence", batch.row_sequence, DType::kInt32, {batch.rows});
  const std::int64_t slots = tokens.shape[0], length = tokens.shape[1];
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const std::int32_t slot = batch.row_sequence.as<const std::int32_t>()[row];
    const std::int32_t position = batch.positions.as<const std::int32_t>()[row];
    check(slot >= 0 && slot < slots, "token_ids: sequence {} is not within [0, {})", slot, slots);
    check(position >= 0 && position < length, "token_ids: position {} is not within [0, {})",
          position, length);
    ids.as<std::int32_t>()[row] = tokens.as<const std::int32_t>()[slot * length + position];
  }
}

void CpuOps::penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view) {
  cpu::penalize(logits, first_id, view);
}

void CpuOps::filter_thresholds(const Tensor& thresholds, const Tensor& logits,
                               const SamplingView& view) {
  cpu::filter_thresholds(thresholds, logits, view);
}

void CpuOps::draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id,
                  const Tensor* thresholds, const SamplingView& view) {
  cpu::draw(keys, logits, first_id, thresholds, view);
}

void CpuOps::append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view) {
  cpu::append_tokens(ids, keys, view);
}

std::vector<std::string> simd_targets() {
  hwy::SetSupportedTargetsForTest(0);
  std::vector<std::string> names;
  for (std::int64_t target : hwy::SupportedAndGeneratedTargets())
    names.emplace_back(hwy::TargetName(target));
  // The fallback that every program has, whether or not Highway lists it.
  if (names.empty() || names.back() != hwy::TargetName(HWY_STATIC_TARGET))
    names.emplace_back(hwy::TargetName(HWY_STATIC_TARGET));
  return names;
}

void use_simd_target(const std::string& name) {
  const std::vector<std::string> names = simd_targets();
  check(name.empty() || std::find(names.begin(), names.end(), name) != names.end(),
        "this machine has no SIMD target {}", name);
  std::int64_t chosen = hwy::SupportedTargets();
  for (std::int64_t bits = HWY_TARGETS; bits != 0 && !name.empty(); bits &= bits - 1)
    if (const std::int64_t target = bits & -bits; name == hwy::TargetName(target)) chosen = target;
  hwy::GetChosenTarget().Update(chosen);
}

}  // namespace cpu
}  // namespace lockstep
