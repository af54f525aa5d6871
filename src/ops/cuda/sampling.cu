// Penalties, the draw, and the way of the drawn token into its sequence. What threads race for are
// integers alone, so no result depends on who comes first.
#include "ops/cuda/sampling.h"

#include <algorithm>

#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/sampling_keys.h"

namespace lockstep::cuda {
namespace {

constexpr int kThreads = 256;

// ---- Penalties

// Tokens of the vocabulary that one block counts.
constexpr int kPenaltyIds = 8192;
constexpr unsigned kSeen = 0x80000000u;

// What `count` occurrences in the output, and at least one in prompt or output, make of a logit. As
// on the CPU, operation by operation.
__device__ float penalized(float value, const SlotSampling& sampling, unsigned count) {
  const float repetition = sampling.repetition_penalty;
  if (repetition != 1.0f) value = value > 0 ? value / repetition : __fmul_rn(value, repetition);
  value = __fsub_rn(value, __fmul_rn(sampling.frequency_penalty, static_cast<float>(count)));
  if (count > 0) value = __fsub_rn(value, sampling.presence_penalty);
  return value;
}

// Grid: rows, runs of kPenaltyIds tokens. A block counts its own tokens in the whole history.
__global__ void __launch_bounds__(kThreads)
    penalize_kernel(float* logits, std::int64_t size, std::int64_t first_id, SamplingRows view) {
  begin_kernel();
  __shared__ unsigned counts[kPenaltyIds];  // in the output; kSeen: somewhere in the prompt
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = slot_of(view, row);
  if (slot < 0) return;
  const SlotSampling sampling = view.parameters[slot];
  const std::int64_t first = std::int64_t{blockIdx.y} * kPenaltyIds;
  const int ids = static_cast<int>(min(std::int64_t{kPenaltyIds}, size - first));
  float* values = logits + row * size + first;
  const auto local = [&](std::int32_t id) {  // this block's number of a token, -1 if not its own
    const std::int64_t place = id - first_id - first;
    return place >= 0 && place < ids ? static_cast<int>(place) : -1;
  };
  const int thread = static_cast<int>(threadIdx.x);

  if (sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0 ||
      sampling.frequency_penalty != 0) {
    for (int i = thread; i < ids; i += kThreads) counts[i] = 0;
    __syncthreads();
    const std::int32_t* tokens = view.tokens + slot * view.max_length;
    const std::int64_t length = min(std::int64_t{view.positions[row]} + 1, view.max_length);
    for (std::int64_t i = thread; i < length; i += kThreads) {
      const int id = local(tokens[i]);
      if (id < 0) continue;
      if (i >= sampling.prompt_length)
        atomicAdd(&counts[id], 1u);
      else
        atomicOr(&counts[id], kSeen);
    }
    __syncthreads();
    for (int i = thread; i < ids; i += kThreads)
      if (counts[i] != 0) values[i] = penalized(values[i], sampling, counts[i] & ~kSeen);
  }

  // Each thread adds what concerns its own tokens, in the order of the list.
  const std::int64_t num_bias = min(std::int64_t{sampling.num_bias}, view.max_bias);
  for (std::int64_t i = 0; i < num_bias; ++i) {
    const int id = local(view.bias_ids[slot * view.max_bias + i]);
    if (id >= 0 && id % kThreads == thread)
      values[id] = __fadd_rn(values[id], view.bias_values[slot * view.max_bias + i]);
  }
}

// ---- The draw

constexpr int kDrawsPerThread = 4;

// The key of a token's logit in the race; kNoCandidateKey if it is not in it.
__device__ std::int64_t draw_key(float logit, std::int64_t id, const SlotSampling& sampling,
                                 std::int32_t position, float threshold) {
  if (isnan(logit)) return sampling::kNotANumberKey;
  float value = logit;
  if (sampling.temperature > 0) {
    if (logit < threshold) return sampling::kNoCandidateKey;
    value = __fdiv_rn(logit, sampling.temperature);
    if (value == -INFINITY) return sampling::kNoCandidateKey;
    // Gumbel-max: the largest of logit / temperature + Gumbel noise is a draw from the softmax.
    const double noise = -log(-log(sampling::uniform(sampling.seed, position, id)));
    value = __fadd_rn(value, static_cast<float>(noise));
  }
  return sampling::candidate_key(__float_as_uint(__fadd_rn(value, 0.0f)), id);  // -0 + 0 is 0
}

__global__ void __launch_bounds__(kThreads)
    clear_keys_kernel(std::int64_t* keys, std::int64_t rows) {
  begin_kernel();
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row < rows) keys[row] = sampling::kNoCandidateKey;
}

// Grid: rows, runs of kThreads * kDrawsPerThread tokens.
__global__ void __launch_bounds__(kThreads)
    draw_kernel(std::int64_t* keys, const float* logits, std::int64_t size, std::int64_t first_id,
                const float* thresholds, SamplingRows view) {
  begin_kernel();
  __shared__ long long best_of_warp[kThreads / kWarp];
  const std::int64_t row = blockIdx.x;
  const std::int32_t slot = slot_of(view, row);
  if (slot < 0) return;
  const SlotSampling sampling = view.parameters[slot];
  const std::int32_t position = view.positions[row];
  const float threshold = thresholds != nullptr ? thresholds[row] : -INFINITY;
  long long best = sampling::kNoCandidateKey;
#pragma unroll
  for (int j = 0; j < kDrawsPerThread; ++j) {
    const std::int64_t i =
        (std::int64_t{blockIdx.y} * kDrawsPerThread + j) * kThreads + threadIdx.x;
    if (i >= size) break;
    const long long key =
        draw_key(logits[row * size + i], first_id + i, sampling, position, threshold);
    best = max(best, key);
  }
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    best = max(best, __shfl_xor_sync(kAllLanes, best, offset));
  if (threadIdx.x % kWarp == 0) best_of_warp[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kThreads / kWarp; ++warp) best = max(best, best_of_warp[warp]);
  atomicMax(reinterpret_cast<long long*>(keys) + row, best);
}

// ---- The drawn token

__global__ void __launch_bounds__(kThreads)
    append_tokens_kernel(std::int32_t* ids, const std::int64_t* keys, SamplingRows view) {
  begin_kernel();
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= view.rows) return;
  const std::int64_t key = keys[row];
  const std::int32_t slot = slot_of(view, row);
  std::int32_t id = sampling::candidate_id(key);
  if (slot < 0 || key == sampling::kNoCandidateKey) id = sampling::kNoCandidateId;
  if (key == sampling::kNotANumberKey) id = sampling::kNotANumberId;
  ids[row] = id;
  const std::int64_t next = std::int64_t{view.positions[row]} + 1;
  // The step after this one may run before the host has seen the id: it gets a valid token.
  if (slot >= 0 && next >= 0 && next < view.max_length)
    view.tokens[slot * view.max_length + next] = max(id, 0);
}

// The logits of a view's rows: [rows, vocab] float32.
void check_logits(const char* op, const Tensor& logits, const SamplingView& view) {
  check_table(op, "logits", logits);
  check_tensor(op, "logits", logits, DType::kFloat32, {view.rows, logits.shape[1]});
}

}  // namespace

void CudaOps::penalize(const Tensor& logits, std::int64_t first_id, const SamplingView& view) {
  const char* op = "penalize";
  const SamplingRows rows = sampling_rows(op, view);
  check_logits(op, logits, view);
  launch(stream_, penalize_kernel, view.rows, divide_up(logits.shape[1], kPenaltyIds), 1, kThreads,
         logits.as<float>(), logits.shape[1], first_id, rows);
}

void CudaOps::draw(const Tensor& keys, const Tensor& logits, std::int64_t first_id,
                   const Tensor* thresholds, const SamplingView& view) {
  const char* op = "draw";
  const SamplingRows rows = sampling_rows(op, view);
  check_logits(op, logits, view);
  check_tensor(op, "keys", keys, DType::kInt64, {view.rows});
  if (thresholds != nullptr)
    check_tensor(op, "thresholds", *thresholds, DType::kFloat32, {view.rows});
  launch(stream_, clear_keys_kernel, divide_up(view.rows, kThreads), 1, 1, kThreads,
         keys.as<std::int64_t>(), view.rows);
  launch(stream_, draw_kernel, view.rows,
         divide_up(logits.shape[1], std::int64_t{kThreads} * kDrawsPerThread), 1, kThreads,
         keys.as<std::int64_t>(), logits.as<const float>(), logits.shape[1], first_id,
         thresholds != nullptr ? thresholds->as<const float>() : nullptr, rows);
}

void CudaOps::append_tokens(const Tensor& ids, const Tensor& keys, const SamplingView& view) {
  const char* op = "append_tokens";
  const SamplingRows rows = sampling_rows(op, view);
  check_tensor(op, "ids", ids, DType::kInt32, {view.rows});
  check_tensor(op, "keys", keys, DType::kInt64, {view.rows});
  launch(stream_, append_tokens_kernel, divide_up(view.rows, kThreads), 1, 1, kThreads,
         ids.as<std::int32_t>(), keys.as<const std::int64_t>(), rows);
}

}  // namespace lockstep::cuda
