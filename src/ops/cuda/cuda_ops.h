// CudaOps: Ops on one NVIDIA GPU. Owns the rank's stream; every operation is enqueued there and
// returns at once, and none allocates, so that a step can be captured as a graph. Kernels take
// pointers, sizes and a stream; the methods check shapes. One file an operation, named as on the
// CPU.
//
// A Matrix is kept row-major, [out_features, in_features] in its dtype, rows padded to 16 bytes'
// multiples. Inputs of linear() are in the matrix's dtype ("activation dtype"); everything else is
// float32.
#pragma once

#include <cuda_runtime_api.h>

#include <array>
#include <cstdint>
#include <memory>

#include "comm/cuda/peer_reduce.h"
#include "core/buffer.h"
#include "ops/cuda/matmul.h"
#include "ops/ops.h"

namespace lockstep::cuda {

struct RotaryArguments;
enum class Result;  // of linear()

// Rows of a step up to which everything has the same bits in every step and at every world size,
// deterministic or not.
inline constexpr std::int64_t kMaxDecodeRows = 64;

class CudaOps final : public Ops {
 public:
  // Makes `device` the calling thread's device, for good. deterministic: linear() and
  // attention() have the same bits at every world size and in every step for any number of rows,
  // not only for those of a decode step.
  explicit CudaOps(int device, bool deterministic = false);
  ~CudaOps() override;

  cudaStream_t stream() const { return stream_; }
  int device() const { return device_; }
  int num_multiprocessors() const { return num_multiprocessors_; }
  // How this rank's kernels reach the other ranks of `comm`; null where they cannot.
  void use_peers(const Comm& comm, const PeerGroup* peers);

  std::unique_ptr<Recorder> make_recorder() override;
  std::unique_ptr<Download> make_download() override;
  void synchronize() override;
  DType activation_dtype(DType weights) const override { return weights; }
  Buffer allocate(std::size_t bytes) override;
  void* stage(std::size_t bytes) override;
  int stages() const override { return kStages; }
  void upload(const Tensor& destination, const Tensor& host) override;
  void download(const Tensor& host, const Tensor& source) override;

  Matrix make_matrix(std::int64_t out_features, std::int64_t in_features, int leaves,
                     DType dtype) override;
  void write_rows(const Matrix& matrix, std::int64_t first_row, const Tensor& rows) override;
  bool write_dummy_rows(const Matrix& matrix, std::int64_t first_row, std::int64_t rows,
                        const DummySource& source, std::int64_t source_row,
                        std::int64_t source_column) override;
  Matrix row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) override;
  void read(const Matrix& matrix) override;

  void embedding(const Tensor& out, const Matrix& table, const Tensor& ids) override;
  void linear(const Tensor& out, const Tensor& x, const Matrix& weight,
              const Tensor* bias) override;
  void gated_linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias,
                    const Tensor& gate_up) override;
  void partial_linear(Comm& comm, const Tensor& partial, const Tensor& x,
                      const Matrix& weight) override;
  void add(const Tensor& x, const Tensor& y) override;
  void add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                    const Tensor* bias, const Tensor& weight, float eps) override;
  void all_reduce_add_rms_norm(Comm& comm, const Tensor& out, const Tensor& stream,
                               const Tensor& partial, const Tensor* bias, const Tensor& weight,
                               float eps) override;
  void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) override;
  void rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                      const Tensor& inverse_frequencies, const Tensor* q_norm, const Tensor* k_norm,
                      float eps, const KvLayer& cache, const BatchView& batch) override;
  void attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                 const KvLayer& cache, const BatchView& batch) override;
  void rotary_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                        const Tensor& inverse_frequencies, const Tensor* q_norm,
                        const Tensor* k_norm, float eps, const KvLayer& cache,
                        const BatchView& batch) override;
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
  void launch_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                        const KvLayer& cache, const BatchView& batch,
                        const RotaryArguments* rotary);
  template <Result kResult>
  void canonical_linear(const Tensor& out, const Tensor& x, const Matrix& weight,
                        const Tensor* bias);
  // Whether a product of so many rows is cuBLASLt's.
  bool uses_cublaslt(std::int64_t rows, const Matrix& weight) const;
  // Whether partial_linear() leaves a product in 16 bits.
  bool rounds_partials(const Comm& comm, std::int64_t rows, const Matrix& weight) const;
  // Whether rows of this size can be exchanged by partial_linear().
  static bool exchanges_rows_of(std::int64_t size);
  void norm(const char* op, const Tensor& out, const Tensor& stream, const Tensor* partial,
            const Tensor* bias, const Tensor& weight, float eps, const PeerGroup* peers = nullptr);

  int device_;
  const Comm* comm_ = nullptr;  // that peers_ is for
  const PeerGroup* peers_ = nullptr;
  // What partial_linear() left for all_reduce_add_rms_norm().
  struct PartialSum {
    bool exchanged = false;  // it was sent as it was computed, and is to be received
    DType dtype = DType::kFloat32;
  };
  PartialSum pending_;
  int num_multiprocessors_ = 0;
  cudaStream_t stream_ = nullptr;
  Buffer attention_scratch_;  // partial results of key splits; allocated once, in the constructor
  Buffer attention_words_, attention_launches_;  // of launches that merge the splits themselves
  bool deterministic_;
  std::unique_ptr<Matmul> matmul_;
  // Pinned host memory that uploads pass through, used as a ring.
  Buffer staging_;
  std::size_t staged_ = 0;
  // Pinned host memory for stage(), and when the copies from it are done.
  struct Stage {
    Buffer memory;
    cudaEvent_t copied = nullptr;
  };
  static constexpr int kStages = 8;
  std::array<Stage, kStages> stages_;
  int next_stage_ = 0;
  Buffer unconverted_;  // rows on their way into a matrix of another dtype or width
};

}  // namespace lockstep::cuda
