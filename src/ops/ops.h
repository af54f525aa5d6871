// Ops: the operations that a transformer needs, on one device. The same names on CPU and CUDA.
//
// Shapes: rows = tokens of this step, `local_` = this rank's share. Activations are float32 on the
// CPU. All sums have one fixed order (docs/canonical-sum.md): a row of a result depends on that row
// of the input alone, never on how many rows there are or on where it stands among them.
//
// Calls are made from the rank's own thread, in order; on a GPU they are enqueued on the rank's
// stream. Arguments are checked on the host, and a violation throws Error.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "core/buffer.h"
#include "core/dummy.h"
#include "lockstep/comm.h"
#include "lockstep/tensor.h"

namespace lockstep {

// Number of leaves that a whole input dimension is cut into.
inline constexpr int kLeaves = 8;
// Rows of a Matrix can be viewed from multiples of this; vocabulary shards begin at such rows.
inline constexpr std::int64_t kRowBlock = 16;
// Tokens of one block of the KV cache.
inline constexpr std::int64_t kKvBlockSize = 16;

// A weight [out_features, in_features] in the layout of the backend that made it. A copy shares the
// memory.
struct Matrix {
  std::int64_t out_features = 0;
  std::int64_t in_features = 0;
  // Leaves of the canonical sum that in_features covers: kLeaves for a whole input dimension, fewer
  // for a row-parallel share that is made of whole leaves.
  int leaves = kLeaves;
  DType dtype = DType::kFloat32;  // float32, bfloat16 or float16
  std::shared_ptr<const Buffer> storage;
  void* data = nullptr;  // within storage

  std::size_t bytes = 0;  // with padding
};

// What the rows of a step are; in device memory, because it changes from step to step.
struct BatchView {
  std::int64_t rows = 0;
  Tensor positions;     // [rows] int32: the token's place in its sequence, from 0
  Tensor row_sequence;  // [rows] int32: its sequence's row of block_tables
  Tensor block_tables;  // [sequences, max_blocks] int32: where positions [16i, 16i+16) are kept
  bool one_row_a_sequence = false;  // no sequence has two rows; false where that is not known
  std::int64_t longest = 0;         // all positions are below it; 0 where that is not known
};

// One layer's keys and values of one rank: num_blocks blocks of kKvBlockSize positions for each
// local KV head. The order within a block is the backend's. Both [num_blocks, local_kv_heads,
// kKvBlockSize, head_dim].
struct KvLayer {
  Tensor keys;
  Tensor values;
};

struct AttentionShape {
  std::int64_t local_heads = 0;     // query heads of this rank
  std::int64_t local_kv_heads = 0;  // key/value heads of this rank
  std::int64_t head_dim = 0;
  std::int64_t group_size = 1;  // query heads that share a KV head, in the whole model
  // Global number of the first local query head minus group_size times that of the first local KV
  // head: local query head h uses local KV head (h + group_offset) / group_size.
  std::int64_t group_offset = 0;
  std::int64_t window = 0;  // a query sees itself and the window-1 positions before it; 0: all
};

// How one sequence's next token is chosen (sampling.h says what the fields mean). Plain data: it is
// copied to the device as it is.
struct SlotSampling {
  float temperature = 1.0f;  // 0: greedy
  float top_p = 1.0f;
  float min_p = 0.0f;
  std::int32_t top_k = 0;  // 0: off
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  std::int32_t prompt_length = 0;
  std::int32_t num_bias = 0;
  std::uint64_t seed = 0;
};
inline constexpr std::int64_t kMaxLogitBias = 1024;

// The logit rows of a step and their sequences, by slot; in device memory.
struct SamplingView {
  std::int64_t rows = 0;
  Tensor slots;        // [rows] int32
  Tensor positions;    // [rows] int32: of the token whose successor is chosen
  Tensor tokens;       // [slots, max_length] int32: prompt and output so far
  Tensor parameters;   // [slots, sizeof(SlotSampling)] uint8
  Tensor bias_ids;     // [slots, kMaxLogitBias] int32
  Tensor bias_values;  // [slots, kMaxLogitBias] float32
};

// A copy from the device that nobody has to wait for. ready() may be called from any thread.
class Download {
 public:
  virtual ~Download() = default;
  // Enqueues a copy of `source`, which may be empty; the copy before it has been waited for.
  virtual void start(const Tensor& source) = 0;
  // Whether the copy, and with it everything enqueued before it, is done. Throws Error when
  // something of that failed.
  virtual bool ready() = 0;
  // What was copied, in host memory; valid until the next start().
  virtual const void* data() const = 0;
};

// Runs pieces of work that are repeated often. A piece enqueues the same operations with the same
// tensors each time that it is run under one key; on a GPU it is recorded as a graph and replayed.
class Recorder {
 public:
  virtual ~Recorder() = default;
  virtual void run(std::uint64_t key, const std::function<void()>& work) = 0;
};

class Ops {
 public:
  virtual ~Ops() = default;

  // For work on this device alone; not to outlive it, nor the tensors of what it recorded.
  virtual std::unique_ptr<Recorder> make_recorder() = 0;

  // For copies from this device alone; not to outlive it.
  virtual std::unique_ptr<Download> make_download() = 0;

  // Waits until everything that was enqueued is done. Throws Error when something of it failed.
  virtual void synchronize() = 0;

  // What linear() takes its input as, for weights kept as `weights`: float32 on the CPU, the
  // weights' own dtype on a GPU. Everything else that is computed is float32.
  virtual DType activation_dtype(DType weights) const = 0;

  // Memory of this device, zeroed.
  virtual Buffer allocate(std::size_t bytes) = 0;
  // Host memory that upload() and write_rows() are quickest from. It is the caller's until stages()
  // more calls; on a GPU, whose copies go on after the call, it is not to be written to after the
  // copy was asked for.
  virtual void* stage(std::size_t bytes) = 0;
  virtual int stages() const = 0;
  // Between host memory and this device; sizes and dtypes agree. download() waits for all work
  // before it.
  virtual void upload(const Tensor& destination, const Tensor& host) = 0;
  virtual void download(const Tensor& host, const Tensor& source) = 0;

  // A matrix of zeros.
  virtual Matrix make_matrix(std::int64_t out_features, std::int64_t in_features, int leaves,
                             DType dtype) = 0;
  // Sets rows [first_row, first_row + n) from host memory `rows` [n, in_features] in float32,
  // bfloat16 or float16; converts to the matrix's dtype (round to nearest even).
  virtual void write_rows(const Matrix& matrix, std::int64_t first_row, const Tensor& rows) = 0;
  // Sets rows [first_row, first_row + rows) to seeded values: elements (source_row + r,
  // source_column + c) of `source`. False where the device has no way of its own: the host has to
  // make them.
  virtual bool write_dummy_rows(const Matrix& matrix, std::int64_t first_row, std::int64_t rows,
                                const DummySource& source, std::int64_t source_row,
                                std::int64_t source_column) = 0;
  // Rows [begin, end) as a matrix that shares the memory; begin is a multiple of kRowBlock.
  virtual Matrix row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) = 0;

  // Reads every byte of the matrix and nothing else: the floor that a benchmark compares with.
  virtual void read(const Matrix& matrix) = 0;

  // out[r] = table[ids[r]].  out [rows, in_features], ids [rows] int32 within the table's rows.
  virtual void embedding(const Tensor& out, const Matrix& table, const Tensor& ids) = 0;

  // out[r] = x[r] * weight^T (+ bias).  x [rows, in_features] in the activation dtype, out [rows,
  // out_features], bias [out_features] float32 or null. Every element is the canonical sum over
  // matrix.leaves leaves.
  virtual void linear(const Tensor& out, const Tensor& x, const Matrix& weight,
                      const Tensor* bias = nullptr) = 0;

  // out[r, i] = silu(g[r, i]) * g[r, size + i], where g = linear(x, weight, bias): gates, then what
  // they are for. weight [2 size, in_features], out [rows, size] in the activation dtype; gate_up
  // [rows, 2 size] float32 is changed or not.
  virtual void gated_linear(const Tensor& out, const Tensor& x, const Matrix& weight,
                            const Tensor* bias, const Tensor& gate_up);

  // x += y.  Both [rows, size]; or y [size], added to every row.
  virtual void add(const Tensor& x, const Tensor& y) = 0;

  // Completes a residual stream and normalises it: stream += partial (+ bias), then rms_norm. All
  // [rows, size] float32, out in the activation dtype, bias [size] or null; partial is changed.
  virtual void add_rms_norm(const Tensor& out, const Tensor& stream, const Tensor& partial,
                            const Tensor* bias, const Tensor& weight, float eps) = 0;

  // linear(), for this rank's share of a sum over the ranks of `comm`. The next call that concerns
  // it is all_reduce_add_rms_norm() with the same partial, whose contents are not said till then:
  // its way to the other ranks may begin here.
  virtual void partial_linear(Comm& comm, const Tensor& partial, const Tensor& x,
                              const Matrix& weight);

  // add_rms_norm(), where the partials of all ranks of `comm` are to be added first, as its
  // all_reduce adds them; of partial_linear().
  virtual void all_reduce_add_rms_norm(Comm& comm, const Tensor& out, const Tensor& stream,
                                       const Tensor& partial, const Tensor* bias,
                                       const Tensor& weight, float eps);

  // out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight.  x and out [rows, size], weight [size].
  virtual void rms_norm(const Tensor& out, const Tensor& x, const Tensor& weight, float eps) = 0;

  // For every row: normalises each query and key head by q_norm, k_norm [head_dim] (unless null),
  // rotates queries (in place, in qkv) and keys by the row's position, and stores keys and values
  // in the cache. qkv [rows, (local_heads + 2 local_kv_heads) * head_dim]: queries, keys, values.
  // inverse_frequencies [head_dim / 2] float32: element i turns the pair (i, i + head_dim/2) by
  // position * frequency.
  virtual void rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                              const Tensor& inverse_frequencies, const Tensor* q_norm,
                              const Tensor* k_norm, float eps, const KvLayer& cache,
                              const BatchView& batch) = 0;

  // out[r, h] = softmax(q . keys / sqrt(head_dim)) . values over the positions that row r may see,
  // out [rows, local_heads * head_dim]; queries are read from qkv, keys and values from the cache.
  virtual void attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                         const KvLayer& cache, const BatchView& batch) = 0;

  // rope_and_cache(), then attention(); what becomes of qkv is not said.
  virtual void rotary_attention(const Tensor& out, const Tensor& qkv, const AttentionShape& shape,
                                const Tensor& inverse_frequencies, const Tensor* q_norm,
                                const Tensor* k_norm, float eps, const KvLayer& cache,
                                const BatchView& batch);

  // out[r, i] = silu(gate_up[r, i]) * gate_up[r, size + i].  gate_up [rows, 2 size], out [rows,
  // size].
  virtual void silu_multiply(const Tensor& out, const Tensor& gate_up) = 0;

  // out[i] = x[indices[i]].  x [rows, size], indices [n] int32, out [n, size].
  virtual void gather_rows(const Tensor& out, const Tensor& x, const Tensor& indices) = 0;

  // out[r, out_column + i] = x[r, x_column + i] for i < columns.  Both float32 matrices of as many
  // rows.
  virtual void copy_columns(const Tensor& out, std::int64_t out_column, const Tensor& x,
                            std::int64_t x_column, std::int64_t columns) = 0;

  // ids[r] = tokens[row_sequence[r]][positions[r]].  ids [rows] int32, tokens [slots, max_length]
  // int32.
  virtual void token_ids(const Tensor& ids, const Tensor& tokens, const BatchView& batch) = 0;

  // Sampling. Logits are [rows, local_vocab] float32, column i being token first_id + i.

  // In place: repetition, presence and frequency penalties, then logit bias.
  virtual void penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view) = 0;
  // thresholds[r]: the smallest logit that top_k, top_p and min_p leave in the race. thresholds
  // [rows] float32; logits [rows, vocab_size], the whole vocabulary.
  virtual void filter_thresholds(const Tensor& thresholds, const Tensor& logits,
                                 const SamplingView& view) = 0;
  // keys[r] [rows] int64: the local candidate, in an order in which the largest key of all ranks is
  // the chosen token: greedy, or a draw among logits >= thresholds[r] (null: all) by the Gumbel-max
  // trick with noise that is a function of (seed, position, token) alone. Throws Error for a NaN.
  virtual void draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id,
                    const Tensor* thresholds, const SamplingView& view) = 0;
  // ids[r] = the token of keys[r], and appends it to its slot's tokens. ids [rows] int32.
  virtual void append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view) = 0;
};

// A zeroed tensor of this dtype and shape in the device's memory.
OwnedTensor allocate_tensor(Ops& ops, Device device, DType dtype, const Shape& shape);

// Operations on the CPU, for one rank's thread.
std::unique_ptr<Ops> make_cpu_ops();

}  // namespace lockstep
