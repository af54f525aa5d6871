// Rotary position embedding, and the way of keys and values into the cache: one warp a head of a
// row.
#include "ops/cuda/cache.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"

namespace lockstep::cuda {
namespace {

constexpr int kHeadsAtOnce = 4;  // warps of a block
constexpr int kMaxHeadDim = 256;
constexpr int kMaxPairs = kMaxHeadDim / 2 / kWarp;  // of a lane

struct RopeArguments {
  float* qkv;
  const float* inverse_frequencies;
  const float* q_norm;  // may be null
  const float* k_norm;
  void* keys;
  void* values;
  CacheRows rows;
  int heads;
  int kv_heads;
  int head_dim;
  float eps;
};

// x / sqrt(mean(x^2) + eps) * weight for a head whose pair (i, i + half) is (a[j], b[j]), i = lane
// + 32 j. A lane adds its squares in order, pairs' first elements first; then lanes are added.
__device__ void normalize(float (&a)[kMaxPairs], float (&b)[kMaxPairs], const float* weight,
                          int lane, int half, float eps) {
  float sum = 0.0f;
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) sum = fmaf(b[j], b[j], fmaf(a[j], a[j], sum));
  sum = warp_sum(sum);
  const float scale = 1.0f / sqrtf(__fadd_rn(sum / static_cast<float>(2 * half), eps));
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + j * kWarp;
    if (i >= half) break;
    a[j] = a[j] * scale * weight[i];
    b[j] = b[j] * scale * weight[i + half];
  }
}

template <typename T>
__global__ void __launch_bounds__(kHeadsAtOnce* kWarp) rope_kernel(RopeArguments arguments) {
  begin_kernel();
  const std::int64_t row = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int head =
      static_cast<int>(blockIdx.y) * kHeadsAtOnce + static_cast<int>(threadIdx.x) / kWarp;
  const int heads = arguments.heads, kv_heads = arguments.kv_heads;
  if (head >= heads + 2 * kv_heads) return;
  const RowPlace place = row_place(arguments.rows, row);
  if (place.position < 0) return;
  const int half = arguments.head_dim / 2;
  float* data =
      arguments.qkv + (row * (heads + 2 * kv_heads) + head) * std::int64_t{arguments.head_dim};

  float a[kMaxPairs], b[kMaxPairs];
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + j * kWarp;
    a[j] = i < half ? data[i] : 0.0f;
    b[j] = i < half ? data[i + half] : 0.0f;
  }
  const bool is_query = head < heads, is_value = head >= heads + kv_heads;
  if (!is_value) {
    const float* weight = is_query ? arguments.q_norm : arguments.k_norm;
    if (weight != nullptr) normalize(a, b, weight, lane, half, arguments.eps);
#pragma unroll
    for (int j = 0; j < kMaxPairs; ++j) {
      const int i = lane + j * kWarp;
      if (i >= half) break;
      // The angle is a float32 product, as on the CPU.
      const float angle =
          __fmul_rn(static_cast<float>(place.position), arguments.inverse_frequencies[i]);
      float sine, cosine;
      sincosf(angle, &sine, &cosine);
      const float x = a[j], y = b[j];
      a[j] = __fsub_rn(__fmul_rn(x, cosine), __fmul_rn(y, sine));
      b[j] = __fadd_rn(__fmul_rn(y, cosine), __fmul_rn(x, sine));
    }
  }

  if (is_query) {
#pragma unroll
    for (int j = 0; j < kMaxPairs; ++j) {
      const int i = lane + j * kWarp;
      if (i >= half) break;
      data[i] = a[j];
      data[i + half] = b[j];
    }
    return;
  }
  const std::int64_t block = cache_block(arguments.rows, place, place.position / kKvBlockSize);
  if (block < 0) return;
  const int kv_head = head - heads - (is_value ? kv_heads : 0);
  T* to = static_cast<T*>(is_value ? arguments.values : arguments.keys) +
          ((block * kv_heads + kv_head) * kKvBlockSize + place.position % kKvBlockSize) *
              arguments.head_dim;
#pragma unroll
  for (int j = 0; j < kMaxPairs; ++j) {
    const int i = lane + j * kWarp;
    if (i >= half) break;
    to[i] = from_float<T>(a[j]);
    to[i + half] = from_float<T>(b[j]);
  }
}

}  // namespace

void CudaOps::rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                             const Tensor& inverse_frequencies, const Tensor* q_norm,
                             const Tensor* k_norm, float eps, const KvLayer& cache,
                             const BatchView& batch) {
  const char* op = "rope_and_cache";
  check_attention(op, qkv, shape, cache, batch);
  check(shape.head_dim <= kMaxHeadDim, "{}: heads of {} are too large for the GPU, at most {}", op,
        shape.head_dim, kMaxHeadDim);
  const std::int64_t size = shape.head_dim;
  check_tensor(op, "inverse_frequencies", inverse_frequencies, DType::kFloat32, {size / 2});
  if (q_norm != nullptr) check_tensor(op, "q_norm", *q_norm, DType::kFloat32, {size});
  if (k_norm != nullptr) check_tensor(op, "k_norm", *k_norm, DType::kFloat32, {size});
  const RopeArguments arguments{qkv.as<float>(),
                                inverse_frequencies.as<const float>(),
                                q_norm != nullptr ? q_norm->as<const float>() : nullptr,
                                k_norm != nullptr ? k_norm->as<const float>() : nullptr,
                                cache.keys.data,
                                cache.values.data,
                                cache_rows(cache, batch),
                                static_cast<int>(shape.local_heads),
                                static_cast<int>(shape.local_kv_heads),
                                static_cast<int>(size),
                                eps};
  const std::int64_t heads = shape.local_heads + 2 * shape.local_kv_heads;
  with_element_type(cache.keys.dtype, [&](auto element) {
    launch(stream_, rope_kernel<decltype(element)>, batch.rows, divide_up(heads, kHeadsAtOnce), 1,
           kHeadsAtOnce * kWarp, arguments);
  });
}

}  // namespace lockstep::cuda
