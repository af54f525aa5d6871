// rope_and_cache() and attention() against plain double precision, and against themselves: a row's
// bits depend on its sequence alone.
#include <algorithm>
#include <numeric>

#include "core/check.h"
#include "ops/helpers.h"

namespace lockstep::test {
namespace {

// A layer, one or more sequences with random queries, keys and values for each of their tokens, and
// a cache in which everything that was not written is NaN.
class Layer {
 public:
  Layer(Ops& ops, const AttentionShape& shape, DType dtype,
        const std::vector<std::int64_t>& lengths, std::uint32_t seed = 1)
      : ops_(ops), shape_(shape), lengths_(lengths) {
    width_ = (shape.local_heads + 2 * shape.local_kv_heads) * shape.head_dim;
    std::int64_t longest = 0, blocks = 3;
    for (std::int64_t length : lengths) {
      tokens_.push_back(noise(length * width_, seed + static_cast<std::uint32_t>(tokens_.size())));
      blocks += (length + 15) / 16;
      longest = std::max(longest, length);
    }
    max_blocks_ = (longest + 15) / 16;
    // Blocks are dealt out in a random order; places without one hold a number that is none.
    std::vector<std::int32_t> order(size(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(seed));
    table_.assign(lengths.size() * size(max_blocks_), -1);
    for (std::size_t i = 0, next = 0; i < lengths.size(); ++i)
      for (std::int64_t block = 0; block < (lengths[i] + 15) / 16; ++block)
        table_[i * size(max_blocks_) + size(block)] = order[next++];

    const Shape cache_shape{blocks, shape.local_kv_heads, 16, shape.head_dim};
    keys_ = allocate_tensor(ops, {}, dtype, cache_shape);
    values_ = allocate_tensor(ops, {}, dtype, cache_shape);
    std::memset(keys_.tensor.data, 0xff, keys_.tensor.bytes());
    std::memset(values_.tensor.data, 0xff, values_.tensor.bytes());
    for (std::int64_t i = 0; i < shape.head_dim / 2; ++i)
      frequencies.push_back(
          std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(shape.head_dim)));
  }

  struct Row {
    std::int32_t sequence;
    std::int32_t position;
  };

  // rope_and_cache() of these rows.
  void fill(const std::vector<Row>& rows) {
    positions_.clear();
    sequences_.clear();
    qkv.clear();
    for (const Row& row : rows) {
      positions_.push_back(row.position);
      sequences_.push_back(row.sequence);
      const auto from = tokens_[size(row.sequence)].begin() + row.position * width_;
      qkv.insert(qkv.end(), from, from + width_);
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    const Tensor q = q_norm.empty() ? Tensor{} : view(q_norm, {shape_.head_dim});
    const Tensor k = k_norm.empty() ? Tensor{} : view(k_norm, {shape_.head_dim});
    ops_.rope_and_cache(view(qkv, {count, width_}), shape_,
                        view(frequencies, {shape_.head_dim / 2}), q_norm.empty() ? nullptr : &q,
                        k_norm.empty() ? nullptr : &k, 1e-6f, cache(), batch(count));
  }

  // One step: rope_and_cache(), then attention(). Returns [rows, local_heads * head_dim].
  std::vector<float> step(const std::vector<Row>& rows) {
    fill(rows);
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<float> out(size(count * shape_.local_heads * shape_.head_dim), kPoison);
    ops_.attention(view(out, {count, shape_.local_heads * shape_.head_dim}),
                   view(qkv, {count, width_}), shape_, cache(), batch(count));
    return out;
  }

  // All of one sequence in chunks: [length, local_heads * head_dim].
  std::vector<float> run(std::int32_t sequence, std::int64_t chunk) {
    std::vector<float> out;
    const std::int64_t length = lengths_[size(sequence)];
    for (std::int64_t first = 0; first < length; first += chunk) {
      std::vector<Row> rows;
      for (std::int64_t i = first; i < std::min(length, first + chunk); ++i)
        rows.push_back({sequence, static_cast<std::int32_t>(i)});
      const auto part = step(rows);
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  }

  BatchView batch(std::int64_t rows) {
    return {rows, view(positions_, {rows}), view(sequences_, {rows}),
            view(table_, {static_cast<std::int64_t>(lengths_.size()), max_blocks_})};
  }
  KvLayer cache() { return {keys_.tensor, values_.tensor}; }

  // Query, key or value head of a token, before anything is done to it.
  const float* raw(std::int32_t sequence, std::int64_t position, std::int64_t head) const {
    return tokens_[size(sequence)].data() + position * width_ + head * shape_.head_dim;
  }
  std::vector<float>& tokens(std::int32_t sequence) { return tokens_[size(sequence)]; }
  std::int32_t block(std::int32_t sequence, std::int64_t position) const {
    return table_[size(sequence * max_blocks_ + position / 16)];
  }
  std::vector<std::int32_t>& table() { return table_; }
  const AttentionShape& shape() const { return shape_; }

  std::vector<float> frequencies;
  std::vector<float> q_norm, k_norm;  // empty: none
  std::vector<float> qkv;             // of the last step

 private:
  Ops& ops_;
  AttentionShape shape_;
  std::vector<std::int64_t> lengths_;
  std::int64_t width_ = 0;
  std::int64_t max_blocks_ = 0;
  std::vector<std::vector<float>> tokens_;
  std::vector<std::int32_t> table_, positions_, sequences_;
  OwnedTensor keys_, values_;
};

using Head = std::vector<double>;

// A head after norm and rotation, in double precision from the float32 angle.
Head rotated(const Layer& layer, const float* raw, std::int64_t position,
             const std::vector<float>& norm) {
  const std::size_t n = size(layer.shape().head_dim);
  Head head(raw, raw + n), out(n);
  if (!norm.empty()) {
    double squares = 0;
    for (double value : head) squares += value * value;
    for (std::size_t i = 0; i < n; ++i)
      head[i] *= norm[i] / std::sqrt(squares / static_cast<double>(n) + 1e-6);
  }
  for (std::size_t i = 0; i < n / 2; ++i) {
    const double angle = static_cast<float>(position) * layer.frequencies[i];
    out[i] = head[i] * std::cos(angle) - head[i + n / 2] * std::sin(angle);
    out[i + n / 2] = head[i + n / 2] * std::cos(angle) + head[i] * std::sin(angle);
  }
  return out;
}

// Element d of a cached key or value, by the layout that cache.h describes.
float cached(Layer& layer, bool key, std::int32_t sequence, std::int64_t position,
             std::int64_t kv_head, std::int64_t d) {
  const Tensor tensor = key ? layer.cache().keys : layer.cache().values;
  const std::int64_t head_dim = layer.shape().head_dim;
  const std::int64_t block = layer.block(sequence, position), place = position % 16;
  const std::int64_t at = (block * layer.shape().local_kv_heads + kv_head) * 16 * head_dim +
                          (key ? d * 16 + place : place * head_dim + d);
  return tensor.dtype == DType::kFloat32
             ? tensor.as<const float>()[at]
             : from_half(tensor.as<const std::uint16_t>()[at], tensor.dtype);
}

// What attention() should give for one token's head, from its rotated query and the cache.
Head exact_attention(Layer& layer, std::int32_t sequence, std::int64_t position, std::int64_t head,
                     const float* query) {
  const AttentionShape& shape = layer.shape();
  const std::int64_t kv_head = (head + shape.group_offset) / shape.group_size;
  const std::int64_t first =
      shape.window == 0 ? 0 : std::max<std::int64_t>(0, position - shape.window + 1);
  std::vector<double> weights;
  double total = 0;
  for (std::int64_t p = first; p <= position; ++p) {
    double score = 0;
    for (std::int64_t d = 0; d < shape.head_dim; ++d)
      score += static_cast<double>(query[d]) * cached(layer, true, sequence, p, kv_head, d);
    weights.push_back(score / std::sqrt(static_cast<double>(shape.head_dim)));
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    total += weight;
  }
  Head out(size(shape.head_dim));
  for (std::int64_t p = first; p <= position; ++p)
    for (std::int64_t d = 0; d < shape.head_dim; ++d)
      out[size(d)] +=
          weights[size(p - first)] / total * cached(layer, false, sequence, p, kv_head, d);
  return out;
}

AttentionShape shape_of(std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
                        std::int64_t window = 0) {
  return {heads, kv_heads, head_dim, std::max<std::int64_t>(1, heads / kv_heads), 0, window};
}

class Attention : public OnEveryTarget {};

TEST_P(Attention, RotatesNormalisesAndCaches) {
  for (DType dtype : kFloatTypes) {
    for (bool norm : {false, true}) {
      for (std::int64_t head_dim : {2, 6, 64}) {
        Layer layer(*ops_, shape_of(4, 2, head_dim), dtype, {37});
        if (norm) {
          layer.q_norm = noise(head_dim, 7);
          layer.k_norm = noise(head_dim, 8);
        }
        layer.run(0, 37);  // one step, so that layer.qkv has all rows
        const std::int64_t width = 8 * head_dim;
        // Three roundings of numbers up to sqrt(2) times the largest, and the norm's.
        const auto tolerance = [&](const Head& head) {
          double largest = 0;
          for (double value : head) largest = std::max(largest, std::abs(value));
          return 16 * 0x1p-24 * largest;
        };
        for (std::int64_t p = 0; p < 37; ++p) {
          for (std::int64_t h = 0; h < 4; ++h) {
            const Head exact = rotated(layer, layer.raw(0, p, h), p, layer.q_norm);
            for (std::int64_t d = 0; d < head_dim; ++d)
              ASSERT_NEAR(layer.qkv[size(p * width + h * head_dim + d)], exact[size(d)],
                          tolerance(exact));
          }
          for (std::int64_t h = 0; h < 2; ++h) {
            const Head key = rotated(layer, layer.raw(0, p, 4 + h), p, layer.k_norm);
            const float* value = layer.raw(0, p, 6 + h);
            for (std::int64_t d = 0; d < head_dim; ++d) {
              const double unit = dtype == DType::kFloat32    ? 0
                                  : dtype == DType::kBFloat16 ? 0x1p-8
                                                              : 0x1p-11;
              ASSERT_NEAR(cached(layer, true, 0, p, h, d), key[size(d)],
                          tolerance(key) + unit * std::abs(key[size(d)]) + 0x1p-25);
              ASSERT_EQ(cached(layer, false, 0, p, h, d), rounded(value[d], dtype));
            }
          }
        }
      }
    }
  }
}

TEST_P(Attention, IsCloseToDoublePrecision) {
  const AttentionShape shapes[] =
      {shape_of(3, 1, 8),      shape_of(9, 3, 6, 5),    shape_of(2, 2, 64, 16),
       shape_of(4, 2, 80, 23), shape_of(13, 1, 10, 40), shape_of(8, 2, 128),
       {4, 3, 16, 3, 2, 0},  // heads 2..5 of the whole model: 1 of the first group, 3 of the second
       {3, 2, 16, 4, 3, 7}};
  for (const AttentionShape& shape : shapes) {
    for (DType dtype : kFloatTypes) {
      SCOPED_TRACE(testing::Message() << shape.local_heads << " heads of " << shape.head_dim
                                      << ", window " << shape.window << ", " << name_of(dtype));
      Layer layer(*ops_, shape, dtype, {75});
      const auto out = layer.run(0, 75);
      const std::int64_t width = (shape.local_heads + 2 * shape.local_kv_heads) * shape.head_dim;
      for (std::int64_t p : {0, 1, 14, 15, 16, 17, 31, 32, 40, 63, 64, 73, 74}) {
        for (std::int64_t h = 0; h < shape.local_heads; ++h) {
          const float* query = layer.qkv.data() + p * width + h * shape.head_dim;
          const Head exact = exact_attention(layer, 0, p, h, query);
          // Values are below 5; scores of about 10 are off by up to 1e-6 each.
          for (std::int64_t d = 0; d < shape.head_dim; ++d)
            ASSERT_NEAR(out[size((p * shape.local_heads + h) * shape.head_dim + d)], exact[size(d)],
                        1e-5)
                << p << " " << h << " " << d;
        }
      }
    }
  }
}

TEST_P(Attention, BitsDoNotDependOnChunks) {
  for (std::int64_t window : {0, 7, 16, 33}) {
    for (const AttentionShape& shape :
         {shape_of(9, 3, 64, window), shape_of(2, 2, 6, window), shape_of(5, 1, 20, window)}) {
      Layer layer(*ops_, shape, DType::kBFloat16, {70});
      const auto expected = layer.run(0, 1);
      for (std::int64_t chunk : {2, 3, 7, 16, 31, 70})
        EXPECT_TRUE(same_bits(Layer(*ops_, shape, DType::kBFloat16, {70}).run(0, chunk), expected))
            << "chunks of " << chunk << ", window " << window;
    }
  }
}

TEST_P(Attention, BitsDoNotDependOnTheBatchOrOnPlacesInTheCache) {
  const AttentionShape shape = shape_of(6, 2, 32, 21);
  const std::vector<std::int64_t> lengths = {50, 33, 50};
  Layer together(*ops_, shape, DType::kFloat16, lengths);
  // The sequences advance at different speeds, and their rows are mixed, later ones before
  // earlier ones, next to each other and apart.
  const std::size_t row_size = size(shape.local_heads * shape.head_dim);
  std::vector<std::vector<float>> out(3);
  for (std::size_t i = 0; i < 3; ++i) out[i].resize(size(lengths[i]) * row_size);
  for (std::int32_t at = 0; at < 50; at += 2) {
    std::vector<Layer::Row> rows = {{2, at + 1}};
    if (at < 33) rows.push_back({1, at});
    rows.insert(rows.end(), {{0, at + 1}, {0, at}, {2, at}});
    if (at + 1 < 33) rows.push_back({1, at + 1});
    const auto part = together.step(rows);
    for (std::size_t i = 0; i < rows.size(); ++i)
      std::copy_n(part.begin() + static_cast<std::ptrdiff_t>(i * row_size), row_size,
                  out[size(rows[i].sequence)].begin() +
                      rows[i].position * static_cast<std::ptrdiff_t>(row_size));
  }
  for (std::int32_t sequence = 0; sequence < 3; ++sequence) {
    // Alone, with other blocks.
    Layer alone(*ops_, shape, DType::kFloat16, {lengths[size(sequence)]}, 99);
    alone.tokens(0) = together.tokens(sequence);
    EXPECT_TRUE(same_bits(alone.run(0, 50), out[size(sequence)])) << sequence;
  }
}

// Heads dealt out to ranks, KV heads on every rank that needs them: each head has the same bits.
TEST_P(Attention, BitsDoNotDependOnTheSplitOfHeads) {
  constexpr std::int64_t kHeads = 9, kGroup = 3, kHeadDim = 24, kLength = 40;
  Layer whole(*ops_, shape_of(kHeads, 3, kHeadDim), DType::kBFloat16, {kLength});
  const auto expected = whole.run(0, 8);
  for (auto [first, last] : {std::pair{0, 3}, {3, 5}, {5, 7}, {7, 9}, {2, 8}, {4, 5}}) {
    const std::int64_t first_kv = first / kGroup, last_kv = (last - 1) / kGroup + 1;
    const AttentionShape shape{last - first, last_kv - first_kv, kHeadDim,
                               kGroup,       first % kGroup,     0};
    Layer share(*ops_, shape, DType::kBFloat16, {kLength}, 5);
    std::vector<float> tokens;
    for (std::int64_t p = 0; p < kLength; ++p) {
      const auto take = [&](std::int64_t begin, std::int64_t end) {
        tokens.insert(tokens.end(), whole.raw(0, p, begin), whole.raw(0, p, end));
      };
      take(first, last);
      take(kHeads + first_kv, kHeads + last_kv);
      take(kHeads + 3 + first_kv, kHeads + 3 + last_kv);
    }
    share.tokens(0) = tokens;
    const auto out = share.run(0, 40);
    std::vector<float> part;
    for (std::int64_t p = 0; p < kLength; ++p)
      part.insert(part.end(), expected.begin() + (p * kHeads + first) * kHeadDim,
                  expected.begin() + (p * kHeads + last) * kHeadDim);
    EXPECT_TRUE(same_bits(out, part)) << "heads " << first << " to " << last;
  }
}

// What a later token brings, be it no number, cannot reach earlier ones of the same chunk.
TEST_P(Attention, LaterTokensDoNotReachEarlierOnes) {
  for (std::int64_t window : {0, 6}) {
    const AttentionShape shape = shape_of(3, 1, 18, window);
    const auto expected = Layer(*ops_, shape, DType::kFloat32, {40}).run(0, 40);
    for (std::int64_t first_bad : {1, 15, 16, 21}) {
      Layer layer(*ops_, shape, DType::kFloat32, {40});
      const std::int64_t width = 5 * 18, out_width = 3 * 18;
      for (std::size_t i = size(first_bad * width); i < layer.tokens(0).size(); ++i)
        layer.tokens(0)[i] = std::nanf("");
      auto out = layer.run(0, 40);
      out.resize(size(first_bad * out_width));
      EXPECT_TRUE(same_bits(out, {expected.begin(), expected.begin() + first_bad * out_width}));
    }
  }
}

TEST_P(Attention, LongContexts) {
  Layer layer(*ops_, shape_of(4, 2, 16), DType::kFloat32, {8200});
  std::vector<Layer::Row> rows;
  for (std::int32_t i = 0; i < 8199; ++i) rows.push_back({0, i});
  layer.fill(rows);
  const auto out = layer.step({{0, 8199}});
  for (std::int64_t h = 0; h < 4; ++h) {
    const Head exact = exact_attention(layer, 0, 8199, h, layer.qkv.data() + h * 16);
    for (std::int64_t d = 0; d < 16; ++d) EXPECT_NEAR(out[size(h * 16 + d)], exact[size(d)], 1e-5);
  }
}

TEST_P(Attention, ScoresFarApartNeitherOverflowNorVanish) {
  Layer layer(*ops_, shape_of(1, 1, 8), DType::kFloat32, {20});
  for (float& value : layer.tokens(0)) value *= 100.0f;
  const auto out = layer.run(0, 20);
  for (float value : out) EXPECT_TRUE(std::isfinite(value));
  for (std::int64_t p : {0, 7, 19}) {
    const Head exact = exact_attention(layer, 0, p, 0, layer.qkv.data() + p * 24);
    // Scores of 1e4 are off by 1e-2 at most, and so are weights that are not nearly 0 or 1.
    for (std::int64_t d = 0; d < 8; ++d) EXPECT_NEAR(out[size(p * 8 + d)], exact[size(d)], 1.0);
  }
}

TEST_P(Attention, RanksWithoutRowsOrHeads) {
  Layer layer(*ops_, shape_of(2, 1, 8), DType::kFloat32, {3});
  EXPECT_TRUE(layer.step({}).empty());
  Layer none(*ops_, AttentionShape{0, 0, 8, 2, 0, 0}, DType::kFloat32, {3});
  EXPECT_TRUE(none.step({{0, 0}, {0, 1}}).empty());
}

TEST_P(Attention, BadBatchesAreErrors) {
  const auto layer = [&] { return Layer(*ops_, shape_of(2, 1, 8), DType::kFloat32, {20, 40}); };
  EXPECT_ERROR(
      {
        Layer bad = layer();
        bad.tokens(0).resize(10000);
        bad.step({{0, 20}, {0, 48}});
      },
      "position 48, which is not within [0, 48)");
  EXPECT_ERROR(
      {
        Layer bad = layer();
        bad.tokens(0).resize(10000);
        bad.step({{0, 40}});
      },
      "block 2 of sequence 0 is in place -1");
  EXPECT_ERROR(
      {
        Layer bad = layer();
        bad.table()[0] = 1000;
        bad.step({{0, 3}});
      },
      "is in place 1000");
  Layer good = layer();
  good.step({{0, 0}});
  std::vector<float> out(16), qkv(32);
  BatchView batch = good.batch(1);
  std::int32_t number = -1;
  batch.positions.data = &number;
  const auto attention = [&] {
    ops_->attention(view(out, {1, 16}), view(qkv, {1, 32}), good.shape(), good.cache(), batch);
  };
  EXPECT_ERROR(attention(), "position -1");
  number = 2;
  batch.row_sequence.data = &number;
  EXPECT_ERROR(attention(), "sequence 2, which is not within [0, 2)");
}

TEST_P(Attention, WrongShapesAreErrors) {
  Layer layer(*ops_, shape_of(2, 1, 8), DType::kFloat32, {20});
  layer.step({{0, 0}});
  std::vector<float> out(16), qkv(32), frequencies(4);
  AttentionShape shape = layer.shape();
  KvLayer cache = layer.cache();
  const BatchView batch = layer.batch(1);
  const auto attention = [&](const Tensor& to, const Tensor& from) {
    ops_->attention(to, from, shape, cache, batch);
  };
  EXPECT_ERROR(attention(view(out, {1, 8}), view(qkv, {1, 32})), "out must be float32 [1, 16]");
  EXPECT_ERROR(attention(view(out, {1, 16}), view(qkv, {1, 16})), "qkv must be float32 [1, 32]");
  EXPECT_ERROR(ops_->rope_and_cache(view(qkv, {1, 32}), shape, view(frequencies, {3}), nullptr,
                                    nullptr, 0, cache, batch),
               "inverse_frequencies must be float32 [4]");
  cache.values.dtype = DType::kFloat16;
  EXPECT_ERROR(attention(view(out, {1, 16}), view(qkv, {1, 32})), "values must be float32");
  cache.keys.dtype = DType::kInt32;
  EXPECT_ERROR(attention(view(out, {1, 16}), view(qkv, {1, 32})), "found int32");
  shape.head_dim = 7;
  EXPECT_ERROR(attention(view(out, {1, 16}), view(qkv, {1, 32})), "no attention");
  shape = layer.shape();
  shape.group_size = 1;
  EXPECT_ERROR(attention(view(out, {1, 16}), view(qkv, {1, 32})), "has no KV head");
}

LOCKSTEP_ON_EVERY_TARGET(Attention);

// All targets of this machine agree in every bit.
TEST(Targets, AgreeInEveryBit) {
  const auto all_of = [](const std::string& target) {
    cpu::use_simd_target(target);
    const auto ops = make_cpu_ops();
    std::vector<float> all;
    const auto keep = [&](const std::vector<float>& part) {
      all.insert(all.end(), part.begin(), part.end());
    };
    for (DType dtype : kFloatTypes) {
      for (std::int64_t window : {0, 20}) {
        keep(Layer(*ops, shape_of(6, 2, 40, window), dtype, {60}).run(0, 60));
        keep(Layer(*ops, shape_of(6, 2, 22, window), dtype, {60}).run(0, 1));
      }
      for (int leaves : {1, 2, 3, 4, 8}) {
        auto weights = noise(50 * 70, 1), x = noise(30 * 70, 2);
        Matrix matrix = ops->make_matrix(50, 70, leaves, dtype);
        ops->write_rows(matrix, 0, view(weights, {50, 70}));
        for (std::int64_t rows : {1, 2, 3, 30}) {
          std::vector<float> out(size(rows * 50));
          x.resize(size(30 * 70));
          ops->linear(view(out, {rows, 50}), view(x, {30, 70}).rows(0, rows), matrix);
          keep(out);
        }
      }
    }
    auto gate_up = noise(2 * 500, 3, 20.0f);
    std::vector<float> out(500);
    ops->silu_multiply(view(out, {1, 500}), view(gate_up, {1, 1000}));
    keep(out);
    return all;
  };
  const auto targets = cpu::simd_targets();
  const auto expected = all_of(targets.front());
  for (const std::string& target : targets)
    EXPECT_TRUE(same_bits(all_of(target), expected)) << target << " against " << targets.front();
  cpu::use_simd_target("");
}

TEST(Targets, UnknownOnesAreErrors) {
  EXPECT_ERROR(cpu::use_simd_target("MMX"), "no SIMD target MMX");
}

}  // namespace
}  // namespace lockstep::test
