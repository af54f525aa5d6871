// rope_and_cache() and rotary_attention(), against the CPU's and against each other.
#include "cuda/attention_harness.h"

namespace lockstep::test {
namespace {

class Rope : public Attention {
 protected:
  // Runs one step on both and compares the queries and what has been written to the cache.
  void expect_as_on_cpu(const AttentionShape& shape, DType dtype, bool norms) {
    const std::int64_t dim = shape.head_dim, kv_heads = shape.local_kv_heads;
    Cache cache = make_cache(shape, dtype, {100, 3000});
    const std::vector<Row> rows = {{0, 99}, {1, 2999}, {1, 0}, {0, 15}, {0, 16}};
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<float> qkv = queries(shape, rows), frequencies, q_norm = noise(dim, 21),
                       k_norm = noise(dim, 22);
    for (std::int64_t i = 0; i < dim / 2; ++i)
      frequencies.push_back(
          std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(dim)));
    std::vector<std::int32_t> positions, sequences;
    for (const Row& row : rows) {
      positions.push_back(row.position);
      sequences.push_back(row.sequence);
    }
    const Tensor gpu_qkv = put(qkv, {count, width_of(shape)});
    const Tensor gpu_q = put(q_norm, {dim}), gpu_k = put(k_norm, {dim});
    gpu().rope_and_cache(gpu_qkv, shape, put(frequencies, {dim / 2}), norms ? &gpu_q : nullptr,
                         norms ? &gpu_k : nullptr, 1e-6f, cache.gpu, gpu_batch(cache, rows));
    const Tensor cpu_q = host(q_norm, {dim}), cpu_k = host(k_norm, {dim});
    cpu().rope_and_cache(host(qkv, {count, width_of(shape)}), shape, host(frequencies, {dim / 2}),
                         norms ? &cpu_q : nullptr, norms ? &cpu_k : nullptr, 1e-6f, cache.cpu,
                         {count, host(positions, {count}), host(sequences, {count}),
                          host(cache.table, {cache.sequences, cache.max_blocks})});
    EXPECT_LE(difference(qkv, floats(gpu_qkv)), 2e-6) << dim;

    // The caches, in the GPU's order; NaN where nothing was ever written.
    std::vector<float> keys = to_float32(cache.cpu.keys), ordered(keys.size());
    for (std::int64_t head = 0; head < cache.cpu.keys.shape[0] * kv_heads; ++head)
      for (std::int64_t slot = 0; slot < 16; ++slot)
        for (std::int64_t d = 0; d < dim; ++d)
          ordered[size((head * 16 + slot) * dim + d)] = keys[size((head * dim + d) * 16 + slot)];
    std::vector<float> found = floats(cache.gpu.keys), values = to_float32(cache.cpu.values),
                       found_values = floats(cache.gpu.values);
    for (std::size_t i = 0; i < found.size(); ++i) {
      ASSERT_EQ(std::isnan(ordered[i]), std::isnan(found[i])) << i;
      ASSERT_EQ(std::isnan(values[i]), std::isnan(found_values[i])) << i;
      if (std::isnan(found[i])) found[i] = ordered[i] = found_values[i] = values[i] = 0;
    }
    EXPECT_LE(difference(ordered, found), tolerance(dtype, 2e-6)) << dim;
    EXPECT_TRUE(same_bits(values, found_values)) << dim;
  }
};

TEST_F(Rope, MatchesTheCpu) {
  for (DType dtype : kFloatTypes)
    for (std::int64_t dim : {2, 6, 64, 80, 128, 256})
      for (bool norms : {false, true})
        expect_as_on_cpu(attention_shape(7, 3, dim, 3, 1), dtype, norms);
}

TEST_F(Rope, ARowsBitsDoNotDependOnItsNeighbours) {
  const AttentionShape shape = attention_shape(4, 2, 128, 2);
  std::vector<float> frequencies(64);
  for (std::size_t i = 0; i < 64; ++i) frequencies[i] = std::pow(1e6f, -float(i) / 64);
  const Tensor norm = put(noise(128, 31), {128}), turns = put(frequencies, {64});
  const auto run = [&](const std::vector<Row>& rows) {
    const auto count = static_cast<std::int64_t>(rows.size());
    const Cache cache = make_cache(shape, DType::kBFloat16, {200, 3000});
    const Tensor qkv = put(queries(shape, rows), {count, width_of(shape)});
    gpu().rope_and_cache(qkv, shape, turns, &norm, &norm, 1e-6f, cache.gpu, gpu_batch(cache, rows));
    return floats(qkv);
  };
  const std::vector<float> alone = run({{1, 2777}});
  std::vector<Row> rows;
  for (std::int32_t i = 0; i < 64; ++i) rows.push_back({0, i});
  rows[37] = {1, 2777};
  const std::vector<float> together = run(rows);
  EXPECT_TRUE(same_bits(alone, std::span(together).subspan(37 * alone.size(), alone.size())));
}

// What one kernel does for a step of one token a sequence is what two operations do.
class RotaryAttention : public Attention {
 protected:
  void expect_as_two_operations(const AttentionShape& shape, DType dtype, bool norms,
                                const std::vector<std::int64_t>& lengths) {
    const std::int64_t dim = shape.head_dim;
    std::vector<Row> rows;
    for (std::size_t i = 0; i < lengths.size(); ++i)
      rows.push_back({std::int32_t(i), std::int32_t(lengths[i] - 1)});
    if (rows.size() > 1) rows.push_back({0, -1});  // padding
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < dim / 2; ++i)
      frequencies.push_back(std::pow(10000.0f, -2.0f * float(i) / float(dim)));
    const Tensor turns = put(frequencies, {dim / 2});
    const Tensor q_norm = put(noise(dim, 21), {dim}), k_norm = put(noise(dim, 22), {dim});
    const Cache separate = make_cache(shape, dtype, lengths);
    const Cache together = make_cache(shape, dtype, lengths);
    const std::vector<float> qkv = queries(shape, rows);
    const Shape out_shape{count, shape.local_heads * dim};
    const auto run = [&](const Cache& cache, bool one_row_a_sequence) {
      const Tensor out = poisoned(dtype, out_shape);
      BatchView batch = gpu_batch(cache, rows);
      batch.one_row_a_sequence = one_row_a_sequence;
      if (one_row_a_sequence) batch.longest = *std::ranges::max_element(lengths);
      gpu().rotary_attention(out, put(qkv, {count, width_of(shape)}), shape, turns,
                             norms ? &q_norm : nullptr, norms ? &k_norm : nullptr, 1e-6f, cache.gpu,
                             batch);
      return floats(out);
    };
    const std::vector<float> expected = run(separate, false);
    for (int i = 0; i < 3; ++i)
      ASSERT_TRUE(same_bits(expected, run(together, true)))
          << name_of(dtype) << ", " << shape.local_heads << " heads of " << dim << ", "
          << shape.local_kv_heads << " KV heads, window " << shape.window << ", time " << i;
    EXPECT_TRUE(same_bits(floats(separate.gpu.keys), floats(together.gpu.keys)));
    EXPECT_TRUE(same_bits(floats(separate.gpu.values), floats(together.gpu.values)));
  }
};

// With the padding no more than eight rows: more are two operations anyway.
TEST_F(RotaryAttention, HasTheBitsOfTwoOperations) {
  const std::vector<std::int64_t> cases[] = {{1, 2, 16, 17}, {300, 127, 128, 129, 1, 130, 1025}};
  for (const auto& lengths : cases) {
    for (DType dtype : kFloatTypes) {
      if (kSimulated && dtype == DType::kFloat16) continue;
      for (std::int64_t dim : {2, 6, 64, 80, 128, 256})
        if (!kSimulated || dim % 64 != 0)
          expect_as_two_operations(attention_shape(7, 3, dim, 3, 1), dtype, dim % 64 == 0, lengths);
      expect_as_two_operations(attention_shape(3, 3, 128, 1), dtype, false, lengths);
      expect_as_two_operations(attention_shape(32, 8, 128, 4), dtype, false, lengths);
      expect_as_two_operations(attention_shape(14, 2, 64, 7), dtype, false, lengths);
      expect_as_two_operations(attention_shape(8, 2, 128, 4, 0, 100), dtype, true, lengths);
    }
  }
}

// A block has one head or all of a group, and one split or several.
TEST_F(RotaryAttention, OfOneRow) {
  for (std::int64_t length : {1, 128, 129, 500, 640, 2100}) {
    expect_as_two_operations(attention_shape(32, 8, 128, 4), DType::kBFloat16, false, {length});
    expect_as_two_operations(attention_shape(7, 3, 64, 3, 1), DType::kFloat32, true, {length});
    expect_as_two_operations(attention_shape(9, 1, 256, 9), DType::kFloat16, true, {length});
  }
  expect_as_two_operations(attention_shape(32, 8, 128, 4, 0, 700), DType::kBFloat16, false, {5000});
}

TEST_F(RotaryAttention, InALongContext) {
  for (DType dtype : kFloatTypes) {  // 16 bits hide what merging many splits makes of the last ones
    expect_as_two_operations(attention_shape(32, 8, 128, 4), dtype, false, {5000});
    if (kSimulated) continue;
    expect_as_two_operations(attention_shape(32, 8, 128, 4), dtype, false, {5000, 4200});
  }
}

TEST_F(Rope, RowsWithoutAPlaceStoreNothing) {
  const AttentionShape shape = attention_shape(2, 1, 64, 2);
  const Cache cache = make_cache(shape, DType::kFloat32, {20});
  const std::vector<Row> rows = {{0, -1}, {1, 5}, {0, 5000}};
  const std::vector<float> qkv = queries(shape, rows), keys = floats(cache.gpu.keys);
  const Tensor gpu_qkv = put(qkv, {3, width_of(shape)});
  gpu().rope_and_cache(gpu_qkv, shape, put(std::vector<float>(32, 1.0f), {32}), nullptr, nullptr,
                       1e-6f, cache.gpu, gpu_batch(cache, rows));
  EXPECT_TRUE(same_bits(qkv, floats(gpu_qkv)));
  EXPECT_TRUE(same_bits(keys, floats(cache.gpu.keys)));
}

}  // namespace
}  // namespace lockstep::test
