// Rotary position embedding, and the way of keys and values into the cache: one warp a head of a
// row.
#include "ops/cuda/cache.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/cuda/element.h"
#include "ops/cuda/launch.h"
#include "ops/cuda/rotary.h"

namespace lockstep::cuda {
namespace {

constexpr int kHeadsAtOnce = 4;                    // warps of a block
constexpr int kPairs = kMaxRotaryDim / 2 / kWarp;  // of a lane

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

  RotaryHead<kPairs> x(data, lane, half);
  const bool is_query = head < heads, is_value = head >= heads + kv_heads;
  if (!is_value) {
    const float* weight = is_query ? arguments.q_norm : arguments.k_norm;
    if (weight != nullptr) x.normalize(weight, lane, half, arguments.eps);
    x.rotate(RotaryAngles<kPairs>(place.position, arguments.inverse_frequencies, lane, half));
  }

  if (is_query) {
    x.for_each(lane, half, [&](int i, float value) { data[i] = value; });
    return;
  }
  const std::int64_t block = cache_block(arguments.rows, place, place.position / kKvBlockSize);
  if (block < 0) return;
  const int kv_head = head - heads - (is_value ? kv_heads : 0);
  T* to = static_cast<T*>(is_value ? arguments.values : arguments.keys) +
          ((block * kv_heads + kv_head) * kKvBlockSize + place.position % kKvBlockSize) *
              arguments.head_dim;
  x.for_each(lane, half, [&](int i, float value) { to[i] = from_float<T>(value); });
}

}  // namespace

void CudaOps::rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                             const Tensor& inverse_frequencies, const Tensor* q_norm,
                             const Tensor* k_norm, float eps, const KvLayer& cache,
                             const BatchView& batch) {
  const char* op = "rope_and_cache";
  check_attention(op, qkv, shape, cache, batch);
  check_rotary(op, shape, inverse_frequencies, q_norm, k_norm);
  const RopeArguments arguments{qkv.as<float>(),
                                inverse_frequencies.as<const float>(),
                                q_norm != nullptr ? q_norm->as<const float>() : nullptr,
                                k_norm != nullptr ? k_norm->as<const float>() : nullptr,
                                cache.keys.data,
                                cache.values.data,
                                cache_rows(cache, batch),
                                static_cast<int>(shape.local_heads),
                                static_cast<int>(shape.local_kv_heads),
                                static_cast<int>(shape.head_dim),
                                eps};
  const std::int64_t heads = shape.local_heads + 2 * shape.local_kv_heads;
  with_element_type(cache.keys.dtype, [&](auto element) {
    launch(stream_, rope_kernel<decltype(element)>, batch.rows, divide_up(heads, kHeadsAtOnce), 1,
           kHeadsAtOnce * kWarp, arguments);
  });
}

}  // namespace lockstep::cuda
