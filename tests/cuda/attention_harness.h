// What the tests of attention share: caches with the same values on the CPU and the GPU, steps, and
// the results of both.
#pragma once

#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "cuda/harness.h"

namespace lockstep::test {

struct Row {
  std::int32_t sequence;
  std::int32_t position;
};

inline AttentionShape attention_shape(std::int64_t heads, std::int64_t kv_heads,
                                      std::int64_t head_dim, std::int64_t group_size,
                                      std::int64_t group_offset = 0, std::int64_t window = 0) {
  return {heads, kv_heads, head_dim, group_size, group_offset, window};
}

// Positions [begin, end) of a sequence.
inline std::vector<Row> run(std::int32_t sequence, std::int32_t begin, std::int32_t end) {
  std::vector<Row> rows;
  for (std::int32_t position = begin; position < end; ++position)
    rows.push_back({sequence, position});
  return rows;
}

inline std::vector<Row> operator+(std::vector<Row> a, const std::vector<Row>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline std::int64_t width_of(const AttentionShape& shape) {
  return (shape.local_heads + 2 * shape.local_kv_heads) * shape.head_dim;
}

// A layer's cache, the same values in the CPU's and the GPU's layout. Positions from a sequence's
// length on are NaN, and so are blocks that belong to nobody.
struct Cache {
  std::vector<std::uint8_t> cpu_keys, cpu_values;
  KvLayer cpu, gpu;
  std::vector<std::int32_t> table;
  std::int64_t sequences, max_blocks;
};

class Attention : public OnGpu {
 protected:
  // `max_blocks` 0: as many as the longest sequence needs.
  Cache make_cache(const AttentionShape& shape, DType dtype,
                   const std::vector<std::int64_t>& lengths, std::int64_t max_blocks = 0) {
    Cache cache;
    cache.sequences = static_cast<std::int64_t>(lengths.size());
    std::int64_t blocks = 3;
    for (std::int64_t length : lengths) {
      blocks += (length + 15) / 16;
      max_blocks = std::max(max_blocks, (length + 15) / 16);
    }
    cache.max_blocks = max_blocks;
    std::vector<std::int32_t> order(size(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    cache.table.assign(lengths.size() * size(max_blocks), -1);

    const std::int64_t kv_heads = shape.local_kv_heads, dim = shape.head_dim;
    const Shape cache_shape{blocks, kv_heads, 16, dim};
    std::vector<float> keys(size(cache_shape.numel()), kNaN), values = keys, cpu_keys = keys;
    std::size_t next = 0;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const std::vector<float> k = noise(lengths[i] * kv_heads * dim, 100 + unsigned(i));
      const std::vector<float> v = noise(lengths[i] * kv_heads * dim, 200 + unsigned(i));
      for (std::int64_t position = 0; position < lengths[i]; ++position) {
        if (position % 16 == 0)
          cache.table[i * size(max_blocks) + size(position / 16)] = order[next++];
        const std::int64_t block = order[next - 1], slot = position % 16;
        for (std::int64_t head = 0; head < kv_heads; ++head) {
          for (std::int64_t d = 0; d < dim; ++d) {
            const std::int64_t from = (position * kv_heads + head) * dim + d;
            const std::int64_t start = (block * kv_heads + head) * 16 * dim;
            keys[size(start + slot * dim + d)] = k[size(from)];
            cpu_keys[size(start + d * 16 + slot)] = k[size(from)];
            values[size(start + slot * dim + d)] = v[size(from)];
          }
        }
      }
    }
    cache.cpu_keys = encode(cpu_keys, dtype);
    cache.cpu_values = encode(values, dtype);
    cache.cpu = {{cache.cpu_keys.data(), dtype, cache_shape, {}},
                 {cache.cpu_values.data(), dtype, cache_shape, {}}};
    cache.gpu = {put_as(dtype, keys, cache_shape), put_as(dtype, values, cache_shape)};
    return cache;
  }

  BatchView gpu_batch(const Cache& cache, const std::vector<Row>& rows) {
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<std::int32_t> positions, sequences;
    for (const Row& row : rows) {
      positions.push_back(row.position);
      sequences.push_back(row.sequence);
    }
    return {count, put(positions, {count}), put(sequences, {count}),
            put(cache.table, {cache.sequences, cache.max_blocks})};
  }

  // A row's query is a function of its sequence and position.
  std::vector<float> queries(const AttentionShape& shape, const std::vector<Row>& rows) {
    std::vector<float> qkv;
    for (const Row& row : rows) {
      const auto values =
          noise(width_of(shape), 7919u * unsigned(row.sequence + 1) + unsigned(row.position),
                query_scale_);
      qkv.insert(qkv.end(), values.begin(), values.end());
    }
    return qkv;
  }

  std::vector<float> on_gpu(const AttentionShape& shape, const Cache& cache,
                            const std::vector<Row>& rows, DType dtype = DType::kFloat32) {
    return on_gpu(shape, cache, rows, queries(shape, rows), dtype);
  }
  std::vector<float> on_gpu(const AttentionShape& shape, const Cache& cache,
                            const std::vector<Row>& rows, const std::vector<float>& qkv,
                            DType dtype = DType::kFloat32) {
    const auto count = static_cast<std::int64_t>(rows.size());
    const Tensor out = poisoned(dtype, {count, shape.local_heads * shape.head_dim});
    gpu().attention(out, put(qkv, {count, width_of(shape)}), shape, cache.gpu,
                    gpu_batch(cache, rows));
    return floats(out);
  }

  std::vector<float> on_cpu(const AttentionShape& shape, Cache& cache,
                            const std::vector<Row>& rows) {
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<std::int32_t> positions, sequences;
    for (const Row& row : rows) {
      positions.push_back(row.position);
      sequences.push_back(row.sequence);
    }
    std::vector<float> qkv = queries(shape, rows);
    std::vector<float> out(size(count * shape.local_heads * shape.head_dim), kNaN);
    cpu().attention(host(out, {count, shape.local_heads * shape.head_dim}),
                    host(qkv, {count, width_of(shape)}), shape, cache.cpu,
                    {count, host(positions, {count}), host(sequences, {count}),
                     host(cache.table, {cache.sequences, cache.max_blocks})});
    return out;
  }

  void expect_as_on_cpu(const AttentionShape& shape, DType dtype,
                        const std::vector<std::int64_t>& lengths, const std::vector<Row>& rows,
                        DType out_dtype = DType::kFloat32, double allowed = 1e-5) {
    Cache cache = make_cache(shape, dtype, lengths);
    EXPECT_LE(difference(on_cpu(shape, cache, rows), on_gpu(shape, cache, rows, out_dtype)),
              tolerance(out_dtype, allowed))
        << name_of(dtype) << ", " << shape.local_heads << " heads of " << shape.head_dim << ", "
        << shape.local_kv_heads << " KV heads, window " << shape.window << ", " << rows.size()
        << " rows";
  }

  // For steps that take the kernel for prompts, which rounds queries and weights to the cache's
  // dtype: by half a unit in the last place, at most u of each. A score is a sum of many such
  // errors and so off by less than u times its size, and so is, relatively, the weight; with the
  // weight's own rounding, and another u of either for the sum that it is divided by, that is 4u.
  void expect_prompt_as_on_cpu(const AttentionShape& shape, DType dtype,
                               const std::vector<std::int64_t>& lengths,
                               const std::vector<Row>& rows, DType out_dtype = DType::kFloat32) {
    ASSERT_GT(rows.size(), 64u);
    expect_as_on_cpu(shape, dtype, lengths, rows, out_dtype,
                     4 * query_scale_ * (dtype == DType::kBFloat16 ? 0x1p-8 : 0x1p-11));
  }

  float query_scale_ = 1;
};

constexpr DType kHalfTypes[] = {DType::kBFloat16, DType::kFloat16};

}  // namespace lockstep::test
