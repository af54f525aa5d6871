// CpuOps: Ops on the CPU. Owns the scratch memory that its operations reuse, which makes it, like
// every Ops, the property of one rank's thread. Its methods are spread over the files of this
// folder.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/buffer.h"
#include "ops/ops.h"

namespace lockstep::cpu {

// Memory that grows and is never given back; its contents do not outlive the call that asked for
// it.
class Scratch {
 public:
  float* floats(std::size_t count);

 private:
  Buffer buffer_;
};

// Memory for weights. Small ones stand side by side in chunks that the system can back with huge
// pages: on ordinary pages reading them is much slower. A chunk lives as long as any of its
// weights.
class WeightArena {
 public:
  struct Piece {
    std::shared_ptr<const Buffer> storage;
    void* data;
  };
  // Zeroed, aligned to kAlignment. Throws Error when there is not enough memory.
  Piece allocate(std::size_t bytes);

 private:
  static constexpr std::size_t kAlignment = 256;
  static constexpr std::size_t kHugePage = std::size_t{2} << 20;
  static constexpr std::size_t kChunk = std::size_t{64} << 20;

  std::shared_ptr<const Buffer> chunk_;
  std::size_t used_ = 0;  // from the chunk's start
};

// The sines and cosines of a step's rotations: every layer of a step needs the same ones.
struct Rotations {
  std::vector<std::int32_t> positions;
  std::vector<float> inverse_frequencies;
  std::vector<float> cosines;  // [rows, head_dim / 2]
  std::vector<float> sines;
};

class CpuOps final : public Ops {
 public:
  std::unique_ptr<Recorder> make_recorder() override;
  std::unique_ptr<Download> make_download() override;
  void synchronize() override {}
  DType activation_dtype(DType) const override { return DType::kFloat32; }
  Buffer allocate(std::size_t bytes) override;
  void* stage(std::size_t bytes) override;
  int stages() const override { return 1; }
  void upload(const Tensor& destination, const Tensor& host) override;
  void download(const Tensor& host, const Tensor& source) override;

  Matrix make_matrix(std::int64_t out_features, std::int64_t in_features, int leaves,
                     DType dtype) override;
  void write_rows(const Matrix& matrix, std::int64_t first_row, const Tensor& rows) override;
  bool write_dummy_rows(const Matrix&, std::int64_t, std::int64_t, const DummySource&, std::int64_t,
                        std::int64_t) override {
    return false;
  }
  Matrix row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) override;

  void read(const Matrix& matrix) override;
  void embedding(const Tensor& out, const Matrix& table, const Tensor& ids) override;
  void linear(const Tensor& out, const Tensor& x, const Matrix& weight,
              const Tensor* bias) override;
  void add(const Tensor& x, const Tensor& y) override;
  void add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                    const Tensor* bias, const Tensor& weight, float eps) override;
  void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) override;
  void rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                      const Tensor& inverse_frequencies, const Tensor* q_norm, const Tensor* k_norm,
                      float eps, const KvLayer& cache, const BatchView& batch) override;
  void attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                 const KvLayer& cache, const BatchView& batch) override;
  void silu_multiply(const Tensor& out, const Tensor& gate_up) override;
  void gather_rows(const Tensor& out, const Tensor& x, const Tensor& indices) override;
  void copy_columns(const Tensor& out, std::int64_t out_column, const Tensor& x,
                    std::int64_t x_column, std::int64_t columns) override;
  void token_ids(const Tensor& ids, const Tensor& tokens, const BatchView& batch) override;

  void penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view) override;
  void filter_thresholds(const Tensor& thresholds, const Tensor& logits,
                         const SamplingView& view) override;
  void draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id,
            const Tensor* thresholds, const SamplingView& view) override;
  void append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view) override;

 private:
  WeightArena weights_;
  Scratch scratch_;
  Rotations rotations_;
  Buffer stage_;
};

// The instruction sets that this machine can run the kernels with, best first ("AVX3", "AVX2",
// "SCALAR").
std::vector<std::string> simd_targets();
// Makes the whole process use this one of them, or the best again for "". For tests and benchmarks;
// while no operation runs. Throws Error for a name that simd_targets() does not list.
void use_simd_target(const std::string& name);

}  // namespace lockstep::cpu
