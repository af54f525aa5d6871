// attention(), against the CPU's and against itself: a row's bits depend on its sequence alone.
#include "cuda/attention_harness.h"

namespace lockstep::test {
namespace {

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
