// rope_and_cache() and attention(), against the CPU's and against themselves: a row's bits depend
// on its sequence alone.
#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "cuda/harness.h"

namespace lockstep::test {
namespace {

struct Row {
  std::int32_t sequence;
  std::int32_t position;
};

AttentionShape attention_shape(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                               std::int64_t group_size, std::int64_t group_offset = 0,
                               std::int64_t window = 0) {
  return {heads, kv_heads, head_dim, group_size, group_offset, window};
}

// Positions [begin, end) of a sequence.
std::vector<Row> run(std::int32_t sequence, std::int32_t begin, std::int32_t end) {
  std::vector<Row> rows;
  for (std::int32_t position = begin; position < end; ++position)
    rows.push_back({sequence, position});
  return rows;
}

std::vector<Row> operator+(std::vector<Row> a, const std::vector<Row>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::int64_t width_of(const AttentionShape& shape) {
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

TEST_F(Attention, MatchesTheCpuForEveryHeadSize) {
  for (DType dtype : kFloatTypes)
    for (std::int64_t head_dim : {2, 6, 10, 16, 36, 64, 80, 96, 100, 128, 134, 192, 256})
      expect_as_on_cpu(attention_shape(6, 2, head_dim, 3), dtype, {1, 300, 129},
                       {{0, 0}, {1, 299}, {2, 127}, {1, 16}, {2, 128}});
}

TEST_F(Attention, MatchesTheCpuForEveryGroup) {
  for (std::int64_t group : {1, 2, 3, 4, 5, 7, 8, 12, 16})
    expect_as_on_cpu(attention_shape(2 * group, 2, 64, group), DType::kBFloat16, {140, 33},
                     {{0, 139}, {1, 32}, {0, 3}});
}

TEST_F(Attention, MatchesTheCpuForUnevenShards) {
  expect_as_on_cpu(attention_shape(2, 2, 64, 3, 2), DType::kFloat32, {200}, {{0, 199}, {0, 10}});
  expect_as_on_cpu(attention_shape(4, 2, 64, 3, 1), DType::kFloat32, {200}, {{0, 199}, {0, 10}});
  expect_as_on_cpu(attention_shape(1, 1, 64, 4, 3), DType::kFloat16, {200}, {{0, 199}, {0, 10}});
  expect_as_on_cpu(attention_shape(9, 3, 128, 4, 2), DType::kBFloat16, {200}, {{0, 199}});
}

TEST_F(Attention, MatchesTheCpuForEveryOutputType) {
  for (DType dtype : kFloatTypes)
    expect_as_on_cpu(attention_shape(4, 1, 128, 4), DType::kBFloat16, {260}, {{0, 259}, {0, 5}},
                     dtype);
}

TEST_F(Attention, MatchesTheCpuInALongContext) {
  expect_as_on_cpu(attention_shape(4, 1, 128, 4), DType::kBFloat16, {3000, 2049},
                   {{0, 2999}, {1, 2048}, {0, 2047}});
}

TEST_F(Attention, MatchesTheCpuWithinAWindow) {
  for (std::int64_t window : {1, 2, 16, 100, 128, 129, 257, 1000})
    expect_as_on_cpu(attention_shape(4, 2, 64, 2, 0, window), DType::kFloat32, {900, 40},
                     {{0, 899}, {1, 39}, {0, 0}, {0, 127}, {0, 128}, {0, 400}});
}

TEST_F(Attention, PromptsMatchTheCpuForEveryHeadSize) {
  for (DType dtype : kHalfTypes)
    for (std::int64_t head_dim : {64, 96, 128})
      expect_prompt_as_on_cpu(attention_shape(3, 1, head_dim, 3), dtype, {5, 150}, run(1, 50, 150));
  // The others have no kernel of their own.
  expect_as_on_cpu(attention_shape(3, 1, 80, 3), DType::kFloat16, {5, 150}, run(1, 50, 150));
  expect_as_on_cpu(attention_shape(3, 1, 64, 3), DType::kFloat32, {5, 150}, run(1, 50, 150));
}

TEST_F(Attention, PromptsMatchTheCpuForEveryOutputType) {
  for (DType dtype : kFloatTypes)
    expect_prompt_as_on_cpu(attention_shape(2, 1, 128, 2), DType::kBFloat16, {200}, run(0, 0, 200),
                            dtype);
}

TEST_F(Attention, PromptsMatchTheCpuForEveryGroup) {
  const std::vector<std::int64_t> lengths = {90};
  const std::vector<Row> rows = run(0, 10, 90);
  for (std::int64_t group : {1, 2, 3, 5, 8})
    expect_prompt_as_on_cpu(attention_shape(2 * group, 2, 64, group), DType::kBFloat16, lengths,
                            rows);
  expect_prompt_as_on_cpu(attention_shape(2, 2, 64, 3, 2), DType::kFloat16, lengths, rows);
  expect_prompt_as_on_cpu(attention_shape(4, 2, 64, 3, 1), DType::kFloat16, lengths, rows);
  expect_prompt_as_on_cpu(attention_shape(1, 1, 64, 4, 3), DType::kFloat16, lengths, rows);
  expect_prompt_as_on_cpu(attention_shape(9, 3, 128, 4, 2), DType::kBFloat16, lengths, rows);
}

TEST_F(Attention, PromptsMatchTheCpuWithinAWindow) {
  for (std::int64_t window : {1, 2, 16, 63, 64, 65, 100, 129, 1000})
    expect_prompt_as_on_cpu(attention_shape(2, 1, 64, 2, 0, window), DType::kFloat16, {70, 400},
                            run(1, 130, 330) + run(0, 0, 70));
}

TEST_F(Attention, PromptsMatchTheCpuInALongContext) {
  expect_prompt_as_on_cpu(attention_shape(2, 1, 128, 2), DType::kFloat16, {3000},
                          run(0, 2850, 3000));
}

// Runs of all lengths, within tiles of rows and across them; rows of one token; positions that skip
// some, repeat, or fall.
TEST_F(Attention, PromptsMatchTheCpuForSeveralSequences) {
  std::vector<Row> rows = run(0, 0, 130) + run(1, 0, 7) + run(2, 0, 1) + run(3, 3, 64) +
                          run(4, 64, 65) + run(5, 17, 200) + run(1, 6, 7) + run(0, 100, 120);
  for (std::int32_t position : {5, 9, 70, 71, 129, 129, 128, 3, 127}) rows.push_back({0, position});
  for (DType dtype : kHalfTypes)
    expect_prompt_as_on_cpu(attention_shape(2, 1, 64, 2), dtype, {130, 7, 1, 64, 65, 200}, rows);
  expect_prompt_as_on_cpu(attention_shape(1, 1, 128, 1, 0, 30), DType::kFloat16,
                          {130, 7, 1, 64, 65, 200}, rows);
}

// Scores that grow so much that what was added up before has to be rescaled.
TEST_F(Attention, PromptsMatchTheCpuForLargeScores) {
  query_scale_ = 8;
  expect_prompt_as_on_cpu(attention_shape(4, 1, 128, 4), DType::kFloat16, {700}, run(0, 560, 700));
}

TEST_F(Attention, APromptsBitsDoNotDependOnItsChunks) {
  for (std::int64_t window : {0, 50}) {
    const AttentionShape shape = attention_shape(2, 1, 128, 2, 0, window);
    const Cache cache = make_cache(shape, DType::kBFloat16, {330, 200});
    const std::size_t width = size(shape.local_heads * shape.head_dim);
    const std::vector<float> whole = on_gpu(shape, cache, run(0, 0, 330));
    for (std::int32_t begin : {0, 1, 16, 33, 64, 100, 191, 265}) {
      for (std::int32_t before : {0, 1, 47, 130}) {
        const std::int32_t end = std::min(330, begin + 65 + begin % 50);
        const std::vector<float> found =
            on_gpu(shape, cache, run(1, 0, before) + run(0, begin, end) + run(1, 150, 153));
        EXPECT_TRUE(
            same_bits(std::span(whole).subspan(size(begin) * width, size(end - begin) * width),
                      std::span(found).subspan(size(before) * width, size(end - begin) * width)))
            << "positions from " << begin << " to " << end << ", behind " << before
            << " other rows, window " << window;
      }
    }
  }
}

// Many heads are worked on in other tiles of rows than few.
TEST_F(Attention, APromptsBitsDoNotDependOnItsShard) {
  for (DType dtype : kHalfTypes) {
    const std::int64_t heads = 320, dim = 64, first = 100, count = 80;
    const AttentionShape whole = attention_shape(heads, 1, dim, heads);
    const AttentionShape part = attention_shape(2, 1, dim, heads, first);
    const Cache cache = make_cache(whole, dtype, {200});
    const std::vector<Row> rows = run(0, 110, 110 + count);
    const std::vector<float> qkv = queries(whole, rows);
    std::vector<float> part_qkv(size(count * width_of(part)));
    for (std::int64_t row = 0; row < count; ++row)
      std::copy_n(qkv.begin() + row * width_of(whole) + first * dim, 2 * dim,
                  part_qkv.begin() + row * width_of(part));
    const std::vector<float> all = on_gpu(whole, cache, rows, qkv);
    const std::vector<float> two = on_gpu(part, cache, rows, part_qkv);
    for (std::int64_t row = 0; row < count; ++row)
      EXPECT_TRUE(
          same_bits(std::span(all).subspan(size((row * heads + first) * dim), size(2 * dim)),
                    std::span(two).subspan(size(row * 2 * dim), size(2 * dim))))
          << name_of(dtype) << ", row " << row;
  }
}

TEST_F(Attention, APromptsRowsWithoutAPlaceAreZero) {
  const AttentionShape shape = attention_shape(2, 1, 64, 2);
  const Cache cache = make_cache(shape, DType::kFloat16, {200});
  const std::vector<Row> nowhere = {{0, -1}, {1, 3}, {-1, 3}, {0, 300}};
  const std::size_t width = size(shape.local_heads * shape.head_dim);
  const std::vector<float> expected = on_gpu(shape, cache, run(0, 100, 200));
  const std::vector<float> found =
      on_gpu(shape, cache, nowhere + run(0, 100, 150) + nowhere + run(0, 150, 200) + nowhere);
  const auto part = [&](const std::vector<float>& values, std::size_t row, std::size_t count) {
    return std::span(values).subspan(row * width, count * width);
  };
  EXPECT_TRUE(same_bits(part(expected, 0, 50), part(found, 4, 50)));
  EXPECT_TRUE(same_bits(part(expected, 50, 50), part(found, 58, 50)));
  for (std::size_t row : {0, 54, 108})
    EXPECT_TRUE(same_bits(std::vector<float>(4 * width, 0.0f), part(found, row, 4))) << row;
}

// Blocks that the cache does not have are not seen, whatever the kernel.
TEST_F(Attention, APromptsMissingBlocksAreNotSeen) {
  const AttentionShape shape = attention_shape(2, 1, 64, 2);
  Cache cache = make_cache(shape, DType::kFloat16, {200});
  cache.table[2] = -1;
  cache.table[5] = 1000;
  const std::vector<Row> rows = run(0, 20, 120);
  const std::size_t width = size(shape.local_heads * shape.head_dim);
  const std::vector<float> found = on_gpu(shape, cache, rows);
  std::vector<float> expected;
  for (std::size_t row = 0; row < rows.size(); row += 50) {
    const std::vector<float> some =
        on_gpu(shape, cache,
               {rows.begin() + std::ptrdiff_t(row), rows.begin() + std::ptrdiff_t(row + 50)});
    expected.insert(expected.end(), some.begin(), some.end());
  }
  ASSERT_EQ(expected.size(), rows.size() * width);
  EXPECT_LE(difference(expected, found), 4 * 0x1p-11);
}

TEST_F(Attention, ARowsBitsDependOnItsSequenceAlone) {
  const AttentionShape shape = attention_shape(4, 2, 128, 2);
  const std::vector<std::int64_t> lengths = {700, 40, 129};
  const Cache cache = make_cache(shape, DType::kBFloat16, lengths);
  const std::vector<Row> wanted = {{0, 699}, {1, 39}, {2, 128}, {0, 130}};
  const std::size_t width = size(shape.local_heads * shape.head_dim);
  const std::vector<float> expected = on_gpu(shape, cache, wanted);
  EXPECT_TRUE(same_bits(expected, on_gpu(shape, cache, wanted)));
  for (std::int64_t count : kRowCounts) {
    if (count > 64) continue;  // these may take the kernel for prompts, which has other bits
    std::mt19937 random(static_cast<unsigned>(count));
    for (std::size_t w = 0; w < wanted.size(); ++w) {
      std::vector<Row> rows(size(count));
      for (Row& row : rows) {
        row.sequence = static_cast<std::int32_t>(random() % 3);
        row.position = static_cast<std::int32_t>(random() % size(lengths[size(row.sequence)]));
      }
      const std::size_t place = random() % size(count);
      rows[place] = wanted[w];
      const std::vector<float> found = on_gpu(shape, cache, rows);
      EXPECT_TRUE(same_bits(std::span(expected).subspan(w * width, width),
                            std::span(found).subspan(place * width, width)))
          << count << " rows, place " << place;
      if (count >= 33) break;
    }
  }
}

TEST_F(Attention, DeterministicBitsDoNotDependOnTheNumberOfRows) {
  const AttentionShape shape = attention_shape(2, 1, 128, 2);
  const Cache cache = make_cache(shape, DType::kBFloat16, {300});
  const std::vector<Row> rows = run(0, 200, 300);
  const std::size_t width = size(shape.local_heads * shape.head_dim);
  const std::vector<float> few = on_gpu(shape, cache, {rows.begin(), rows.begin() + 50});
  const std::vector<float> many = on_gpu(shape, cache, rows);
  EXPECT_FALSE(same_bits(few, std::span(many).first(50 * width)));

  const Tensor out = poisoned(DType::kFloat32, {100, shape.local_heads * shape.head_dim});
  const Tensor qkv = put(queries(shape, rows), {100, width_of(shape)});
  const BatchView batch = gpu_batch(cache, rows);
  gpu().synchronize();
  cuda::CudaOps deterministic(0, true);
  deterministic.attention(out, qkv, shape, cache.gpu, batch);
  deterministic.synchronize();
  const std::vector<float> found = floats(out);
  EXPECT_TRUE(same_bits(few, std::span(found).first(50 * width)));
}

TEST_F(Attention, AHeadsBitsDoNotDependOnItsShard) {
  for (DType dtype : kFloatTypes) {
    for (std::int64_t dim : {64, 80, 128, 256, 36, 34}) {
      const AttentionShape whole = attention_shape(4, 1, dim, 4);
      const AttentionShape part = attention_shape(1, 1, dim, 4, 2);
      const Cache cache = make_cache(whole, dtype, {300});
      const std::vector<Row> rows = {{0, 299}, {0, 77}};
      const std::vector<float> qkv = queries(whole, rows);
      std::vector<float> part_qkv(size(2 * width_of(part)));
      for (std::int64_t row = 0; row < 2; ++row)
        std::copy_n(qkv.begin() + row * width_of(whole) + 2 * dim, dim,
                    part_qkv.begin() + row * width_of(part));
      const std::vector<float> all = on_gpu(whole, cache, rows, qkv);
      const std::vector<float> one = on_gpu(part, cache, rows, part_qkv);
      for (std::int64_t row = 0; row < 2; ++row)
        EXPECT_TRUE(same_bits(std::span(all).subspan(size((row * 4 + 2) * dim), size(dim)),
                              std::span(one).subspan(size(row * dim), size(dim))))
            << name_of(dtype) << " " << dim;
    }
  }
}

// A table for very long sequences leaves scratch memory for few rows at a time.
TEST_F(Attention, BitsDoNotDependOnTheLongestContext) {
  const AttentionShape shape = attention_shape(32, 8, 128, 4);
  const std::vector<std::int64_t> lengths = {300, 17};
  std::vector<Row> rows;
  for (std::int32_t i = 0; i < 20; ++i) rows.push_back({i % 2, i % 2 == 0 ? 280 + i : i / 2});
  const std::vector<float> expected =
      on_gpu(shape, make_cache(shape, DType::kFloat16, lengths), rows);
  EXPECT_TRUE(
      same_bits(expected, on_gpu(shape, make_cache(shape, DType::kFloat16, lengths, 8192), rows)));
  EXPECT_THROW(on_gpu(shape, make_cache(shape, DType::kFloat16, lengths, 1 << 20), rows), Error);
}

TEST_F(Attention, RowsWithoutAPlaceAreZero) {
  const AttentionShape shape = attention_shape(4, 2, 64, 2);
  const Cache cache = make_cache(shape, DType::kFloat32, {200});
  const std::vector<float> found = on_gpu(shape, cache, {{0, -1}, {0, 150}, {1, 3}, {0, 300}});
  const std::vector<float> expected = on_gpu(shape, cache, {{0, 150}});
  const std::size_t width = expected.size();
  EXPECT_TRUE(same_bits(expected, std::span(found).subspan(width, width)));
  for (std::size_t row : {0, 2, 3})
    EXPECT_TRUE(
        same_bits(std::vector<float>(width, 0.0f), std::span(found).subspan(row * width, width)));
}

// What changes from step to step is in the GPU's memory, so a recorded step can be replayed.
TEST_F(Attention, ARecordedStepFollowsThePositions) {
  const AttentionShape shape = attention_shape(4, 2, 128, 2);
  const Cache cache = make_cache(shape, DType::kBFloat16, {700, 40});
  const std::unique_ptr<Recorder> recorder = gpu().make_recorder();
  const BatchView batch = gpu_batch(cache, {{0, 0}, {0, 0}});
  const Tensor qkv = make(DType::kFloat32, {2, width_of(shape)});
  const Tensor out = poisoned(DType::kFloat32, {2, 4 * 128});
  const std::vector<Row> steps[] = {
      {{0, 10}, {1, 3}}, {{0, 699}, {1, 39}}, {{0, 128}, {0, 127}}, {{1, 0}, {0, 600}}};
  for (const std::vector<Row>& rows : steps) {
    std::vector<std::int32_t> positions = {rows[0].position, rows[1].position};
    std::vector<std::int32_t> sequences = {rows[0].sequence, rows[1].sequence};
    std::vector<float> values = queries(shape, rows);
    gpu().upload(batch.positions, host(positions, {2}));
    gpu().upload(batch.row_sequence, host(sequences, {2}));
    gpu().upload(qkv, host(values, {2, width_of(shape)}));
    recorder->run(1, [&] { gpu().attention(out, qkv, shape, cache.gpu, batch); });
    const std::vector<float> found = floats(out);
    EXPECT_TRUE(same_bits(on_gpu(shape, cache, rows), found)) << positions[0];
  }
}

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
    rows.push_back({0, -1});  // padding
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

TEST_F(RotaryAttention, HasTheBitsOfTwoOperations) {
  const std::vector<std::int64_t> lengths = {1, 2, 16, 17, 127, 128, 129, 300, 1025};
  for (DType dtype : kFloatTypes) {
    for (std::int64_t dim : {2, 6, 64, 80, 128, 256})
      expect_as_two_operations(attention_shape(7, 3, dim, 3, 1), dtype, dim % 64 == 0, lengths);
    expect_as_two_operations(attention_shape(3, 3, 128, 1), dtype, false, lengths);
    expect_as_two_operations(attention_shape(32, 8, 128, 4), dtype, false, lengths);
    expect_as_two_operations(attention_shape(14, 2, 64, 7), dtype, false, lengths);
    expect_as_two_operations(attention_shape(8, 2, 128, 4, 0, 100), dtype, true, lengths);
  }
}

TEST_F(RotaryAttention, OfOneRowInALongContext) {
  expect_as_two_operations(attention_shape(32, 8, 128, 4), DType::kBFloat16, false, {5000});
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

TEST_F(Attention, WrongArgumentsAreErrors) {
  const AttentionShape shape = attention_shape(2, 1, 64, 2);
  const Cache cache = make_cache(shape, DType::kFloat32, {20});
  const std::vector<Row> rows = {{0, 3}};
  const std::vector<float> qkv = queries(shape, rows);
  AttentionShape wrong = shape;
  wrong.local_kv_heads = 2;
  EXPECT_THROW(on_gpu(wrong, cache, rows, qkv), Error);
  wrong = shape;
  wrong.group_size = 1;  // the second head has no KV head
  EXPECT_THROW(on_gpu(wrong, cache, rows, qkv), Error);
  const AttentionShape large = attention_shape(1, 1, 258, 1);
  const Cache large_cache = make_cache(large, DType::kFloat32, {20});
  EXPECT_THROW(on_gpu(large, large_cache, rows), Error);
}

}  // namespace
}  // namespace lockstep::test
