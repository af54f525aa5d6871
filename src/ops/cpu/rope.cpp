// Rotary position embedding, and the way of keys and values into the cache.
#include <algorithm>
#include <cmath>

#include "core/convert.h"
#include "ops/cpu/cache.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/norm.h"

namespace lockstep::cpu {

RowPlace row_place(const char* op, const BatchView& batch, std::int64_t row) {
  const std::int32_t position = batch.positions.as<const std::int32_t>()[row];
  const std::int32_t sequence = batch.row_sequence.as<const std::int32_t>()[row];
  const std::int64_t sequences = batch.block_tables.shape[0];
  const std::int64_t max_blocks = batch.block_tables.shape[1];
  if (sequence < 0 || sequence >= sequences) [[unlikely]]
    fail("{}: row {} is of sequence {}, which is not within [0, {})", op, row, sequence, sequences);
  if (position < 0 || position / kKvBlockSize >= max_blocks) [[unlikely]]
    fail("{}: row {} is at position {}, which is not within [0, {})", op, row, position,
         max_blocks * kKvBlockSize);
  return {position, sequence, batch.block_tables.as<const std::int32_t>() + sequence * max_blocks};
}

namespace {

// Makes `rotations` those of this step, unless they are already. The angle is a float32 product, as
// in Hugging Face's implementation.
void update(Rotations& rotations, const Tensor& positions, const Tensor& inverse_frequencies) {
  const auto* at = positions.as<const std::int32_t>();
  const auto* frequencies = inverse_frequencies.as<const float>();
  const auto rows = static_cast<std::size_t>(positions.numel());
  const auto half = static_cast<std::size_t>(inverse_frequencies.numel());
  if (std::equal(at, at + rows, rotations.positions.begin(), rotations.positions.end()) &&
      std::equal(frequencies, frequencies + half, rotations.inverse_frequencies.begin(),
                 rotations.inverse_frequencies.end()))
    return;
  rotations.positions.assign(at, at + rows);
  rotations.inverse_frequencies.assign(frequencies, frequencies + half);
  rotations.cosines.resize(rows * half);
  rotations.sines.resize(rows * half);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(at[row]) * frequencies[i];
      rotations.cosines[row * half + i] = std::cos(angle);
      rotations.sines[row * half + i] = std::sin(angle);
    }
  }
}

// Turns the pairs (i, i + half) of one head.
void rotate(float* head, const float* cosines, const float* sines, std::size_t half) {
  for (std::size_t i = 0; i < half; ++i) {
    const float a = head[i], b = head[i + half];
    head[i] = a * cosines[i] - b * sines[i];
    head[i + half] = b * cosines[i] + a * sines[i];
  }
}

// to[i * stride] = values[i], rounded to the cache's dtype.
void store(void* cache, DType dtype, std::int64_t offset, const float* values, std::int64_t size,
           std::int64_t stride) {
  if (dtype == DType::kFloat32) {
    float* to = static_cast<float*>(cache) + offset;
    for (std::int64_t i = 0; i < size; ++i) to[i * stride] = values[i];
  } else {
    auto* to = static_cast<std::uint16_t*>(cache) + offset;
    const bool bfloat16 = dtype == DType::kBFloat16;
    for (std::int64_t i = 0; i < size; ++i)
      to[i * stride] = bfloat16 ? float_to_bfloat16(values[i]) : float_to_float16(values[i]);
  }
}

}  // namespace

void CpuOps::rope_and_cache(const Tensor& qkv, const AttentionShape& shape,
                            const Tensor& inverse_frequencies, const Tensor* q_norm,
                            const Tensor* k_norm, float eps, const KvLayer& cache,
                            const BatchView& batch) {
  const char* op = "rope_and_cache";
  check_attention(op, qkv, shape, cache, batch);
  const std::int64_t size = shape.head_dim;
  check_tensor(op, "inverse_frequencies", inverse_frequencies, DType::kFloat32, {size / 2});
  if (q_norm != nullptr) check_tensor(op, "q_norm", *q_norm, DType::kFloat32, {size});
  if (k_norm != nullptr) check_tensor(op, "k_norm", *k_norm, DType::kFloat32, {size});
  update(rotations_, batch.positions, inverse_frequencies);

  const auto head_dim = static_cast<std::size_t>(size);
  const std::size_t half = head_dim / 2;
  float* key = scratch_.floats(head_dim);
  for (std::int64_t row = 0; row < batch.rows; ++row) {
    const RowPlace place = row_place(op, batch, row);
    const std::int64_t block =
        checked_block(op, place, place.position / kKvBlockSize, cache.keys.num_rows());
    const std::int64_t slot = place.position % kKvBlockSize;
    const float* cosines = rotations_.cosines.data() + static_cast<std::size_t>(row) * half;
    const float* sines = rotations_.sines.data() + static_cast<std::size_t>(row) * half;

    float* heads = qkv.as<float>() + row * qkv.shape[1];
    for (std::int64_t h = 0; h < shape.local_heads; ++h, heads += size) {
      if (q_norm != nullptr) normalize(heads, heads, q_norm->as<const float>(), head_dim, eps);
      rotate(heads, cosines, sines, half);
    }
    const float* keys = heads;
    const float* values = keys + shape.local_kv_heads * size;
    for (std::int64_t h = 0; h < shape.local_kv_heads; ++h) {
      if (k_norm != nullptr)
        normalize(key, keys + h * size, k_norm->as<const float>(), head_dim, eps);
      else
        std::copy_n(keys + h * size, size, key);
      rotate(key, cosines, sines, half);
      const std::int64_t start = (block * shape.local_kv_heads + h) * kKvBlockSize * size;
      store(cache.keys.data, cache.keys.dtype, start + slot, key, size, kKvBlockSize);
      store(cache.values.data, cache.values.dtype, start + slot * size, values + h * size, size, 1);
    }
  }
}

}  // namespace lockstep::cpu
