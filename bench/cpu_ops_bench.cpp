// The CPU operations against what the machine can do, on one thread: bytes of weights a second
// against a plain read loop, multiply-adds a second against a loop that stays in registers. The two
// references are measured right before each benchmark that is compared with them; `of_read` and
// `of_fma` are the ratios.
//
//   cpu_ops_bench --benchmark_filter=decode
#include <benchmark/benchmark.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/convert.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/ops.h"

namespace lockstep {
namespace {

// Processor seconds of this thread: what other programs do in the meantime does not count.
double now() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// The shortest of several times.
class Best {
 public:
  template <typename Function>
  void measure(const Function& function) {
    const double start = now();
    function();
    seconds_ = std::min(seconds_, now() - start);
  }
  double seconds() const { return seconds_; }

 private:
  double seconds_ = 1e9;
};

// ---- What the machine can do.

// Much larger than the last-level cache: every pass comes from memory.
constexpr std::size_t kReadBytes = std::size_t{512} << 20;

#if defined(__x86_64__)
#define LOCKSTEP_CLONES                                        \
  __attribute__((noinline, optimize("O3", "fp-contract=fast"), \
                 target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define LOCKSTEP_CLONES __attribute__((noinline, optimize("O3", "fp-contract=fast")))
#endif

// A vector as wide as the machine's, or several registers where they are narrower.
typedef float Floats __attribute__((vector_size(64)));
typedef std::uint64_t Words __attribute__((vector_size(64)));

LOCKSTEP_CLONES void read_all(const Words* data, std::size_t count, Words* sum) {
  Words s0 = {}, s1 = {}, s2 = {}, s3 = {};
  for (std::size_t i = 0; i < count; i += 4) {
    s0 += data[i];
    s1 += data[i + 1];
    s2 += data[i + 2];
    s3 += data[i + 3];
  }
  *sum = s0 + s1 + s2 + s3;
}

// 8 independent chains: enough to fill two pipelines of four cycles, few enough for 16 registers of
// 32 bytes.
LOCKSTEP_CLONES void multiply_add(std::size_t steps, Floats* sums) {
  Floats a, b;
  for (int i = 0; i < 16; ++i) {
    a[i] = 0.9999f;
    b[i] = 1e-5f;
  }
  Floats s[12];
  for (Floats& sum : s) sum = b;
  for (std::size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (Floats& sum : s) sum = sum * a + b;
  }
  for (int i = 0; i < 12; ++i) sums[i] = s[i];
}

// Bytes a second that a plain loop reads from memory: the best of several passes.
double read_rate() {
  static const Buffer buffer = [] {
    Buffer memory = allocate_host(kReadBytes);
    std::memset(memory.data(), 1, kReadBytes);
    return memory;
  }();
  Best best;
  for (int pass = 0; pass < 4; ++pass) {
    Words sum;
    best.measure([&] {
      read_all(static_cast<const Words*>(buffer.data()), kReadBytes / sizeof(Words), &sum);
    });
    benchmark::DoNotOptimize(sum);
  }
  return static_cast<double>(kReadBytes) / best.seconds();
}

// Multiply-adds a second of a loop that stays in registers.
double multiply_add_rate() {
  constexpr std::size_t kSteps = 1 << 20;
  Best best;
  for (int pass = 0; pass < 4; ++pass) {
    Floats sums[12];
    best.measure([&] { multiply_add(kSteps, sums); });
    benchmark::DoNotOptimize(sums);
  }
  return kSteps * 12.0 * 16.0 / best.seconds();
}

// ---- Shapes.

struct Layer {
  const char* model;
  const char* name;
  std::int64_t out_features;
  std::int64_t in_features;
  int leaves;
};

// The last ones are the row-parallel shares of 4 ranks.
constexpr Layer kLayers[] = {
    {"smollm2", "qkv_proj", 960, 576, 8},           {"smollm2", "o_proj", 576, 576, 8},
    {"smollm2", "gate_up_proj", 3072, 576, 8},      {"smollm2", "down_proj", 576, 1536, 8},
    {"smollm2", "lm_head", 49152, 576, 8},          {"mistral", "qkv_proj", 6144, 4096, 8},
    {"mistral", "o_proj", 4096, 4096, 8},           {"mistral", "gate_up_proj", 28672, 4096, 8},
    {"mistral", "down_proj", 4096, 14336, 8},       {"smollm2", "down_proj_1_of_4", 576, 384, 2},
    {"mistral", "down_proj_1_of_2", 4096, 7168, 4}, {"mistral", "down_proj_1_of_4", 4096, 3584, 2},
    {"mistral", "down_proj_1_of_8", 4096, 1792, 1},
};
constexpr DType kDTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};

Tensor view(std::vector<float>& values, const Shape& shape) {
  return {values.data(), DType::kFloat32, shape, {}};
}

std::vector<float> noise(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 1;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
  }
  return values;
}

Matrix random_matrix(Ops& ops, const Layer& layer, DType dtype) {
  Matrix matrix = ops.make_matrix(layer.out_features, layer.in_features, layer.leaves, dtype);
  std::vector<float> rows = noise(static_cast<std::size_t>(16 * layer.in_features));
  for (std::int64_t row = 0; row < layer.out_features; row += 16)
    ops.write_rows(matrix, row, view(rows, {16, layer.in_features}));
  return matrix;
}

// One row, with as many copies of the layer as it takes to come from memory every time.
void decode_linear(benchmark::State& state, const Layer& layer, DType dtype) {
  const auto ops = make_cpu_ops();
  std::vector<Matrix> copies;
  std::size_t bytes = 0;
  while (bytes < kReadBytes / 2) {
    copies.push_back(random_matrix(*ops, layer, dtype));
    bytes += copies.back().bytes;
  }
  std::vector<float> x = noise(static_cast<std::size_t>(layer.in_features));
  std::vector<float> out(static_cast<std::size_t>(layer.out_features));
  double reference = read_rate();
  Best best;
  for (auto _ : state)
    best.measure([&] {
      for (const Matrix& matrix : copies)
        ops->linear(view(out, {1, layer.out_features}), view(x, {1, layer.in_features}), matrix,
                    nullptr);
    });
  reference = std::max(reference, read_rate());
  const double rate = static_cast<double>(bytes) / best.seconds();
  state.counters["GB/s"] = rate * 1e-9;
  state.counters["read_GB/s"] = reference * 1e-9;
  state.counters["of_read"] = rate / reference;
}

void rows_linear(benchmark::State& state, const Layer& layer, DType dtype, std::int64_t rows) {
  const auto ops = make_cpu_ops();
  const Matrix matrix = random_matrix(*ops, layer, dtype);
  std::vector<float> x = noise(static_cast<std::size_t>(rows * layer.in_features));
  std::vector<float> out(static_cast<std::size_t>(rows * layer.out_features));
  const double reference = multiply_add_rate();
  Best best;
  for (auto _ : state)
    best.measure([&] {
      ops->linear(view(out, {rows, layer.out_features}), view(x, {rows, layer.in_features}), matrix,
                  nullptr);
    });
  const double rate =
      static_cast<double>(rows * layer.out_features * layer.in_features) / best.seconds();
  state.counters["Gfma/s"] = rate * 1e-9;
  state.counters["register_Gfma/s"] = reference * 1e-9;
  state.counters["of_fma"] = rate / reference;
}

// ---- Attention.

struct AttentionCase {
  const char* model;
  std::int64_t heads, kv_heads, head_dim;
};
constexpr AttentionCase kAttention[] = {{"smollm2", 9, 3, 64}, {"mistral", 32, 8, 128}};

// `rows` queries at the end of a sequence of `length`.
void run_attention(benchmark::State& state, const AttentionCase& c, DType dtype,
                   std::int64_t length, std::int64_t rows) {
  const auto ops = make_cpu_ops();
  const std::int64_t blocks = (length + kKvBlockSize - 1) / kKvBlockSize;
  const Shape cache_shape{blocks, c.kv_heads, kKvBlockSize, c.head_dim};
  OwnedTensor keys = allocate_tensor(*ops, {}, dtype, cache_shape);
  OwnedTensor values = allocate_tensor(*ops, {}, dtype, cache_shape);
  const AttentionShape shape{c.heads, c.kv_heads, c.head_dim, c.heads / c.kv_heads, 0, 0};
  std::vector<std::int32_t> positions, sequence(static_cast<std::size_t>(length)), table;
  for (std::int64_t i = 0; i < length; ++i) positions.push_back(static_cast<std::int32_t>(i));
  for (std::int64_t i = 0; i < blocks; ++i) table.push_back(static_cast<std::int32_t>(i));
  const auto batch = [&](std::int64_t first) {
    const std::int64_t n = length - first;
    return BatchView{n,
                     {positions.data() + first, DType::kInt32, {n}, {}},
                     {sequence.data() + first, DType::kInt32, {n}, {}},
                     {table.data(), DType::kInt32, {1, blocks}, {}}};
  };
  const std::int64_t width = (c.heads + 2 * c.kv_heads) * c.head_dim;
  std::vector<float> qkv = noise(static_cast<std::size_t>(length * width));
  std::vector<float> frequencies(static_cast<std::size_t>(c.head_dim / 2), 0.01f);
  ops->rope_and_cache(view(qkv, {length, width}), shape, view(frequencies, {c.head_dim / 2}),
                      nullptr, nullptr, 0, {keys.tensor, values.tensor}, batch(0));
  std::vector<float> out(static_cast<std::size_t>(rows * c.heads * c.head_dim));
  const double reference = multiply_add_rate();
  Best best;
  for (auto _ : state)
    best.measure([&] {
      ops->attention(view(out, {rows, c.heads * c.head_dim}),
                     view(qkv, {length, width}).rows(0, rows), shape, {keys.tensor, values.tensor},
                     batch(length - rows));
    });
  const double pairs = static_cast<double>(rows) *
                       (static_cast<double>(length) - static_cast<double>(rows - 1) / 2.0);
  const double rate = 2.0 * pairs * static_cast<double>(c.heads * c.head_dim) / best.seconds();
  state.counters["Gfma/s"] = rate * 1e-9;
  state.counters["of_fma"] = rate / reference;
  state.counters["us_per_row"] = best.seconds() * 1e6 / static_cast<double>(rows);
}

void register_all() {
  const auto named = [](const std::string& name, auto function) {
    benchmark::RegisterBenchmark(name.c_str(), function)->Unit(benchmark::kMicrosecond);
  };
  for (DType dtype : kDTypes) {
    const std::string type(name_of(dtype));
    for (const Layer& layer : kLayers) {
      const std::string name = std::string(layer.model) + "/" + layer.name + "/" + type;
      named("decode/" + name, [&layer, dtype](auto& s) { decode_linear(s, layer, dtype); });
      for (std::int64_t rows : {2, 3, 4, 8, 32, 512})
        named("rows" + std::to_string(rows) + "/" + name,
              [&layer, dtype, rows](auto& s) { rows_linear(s, layer, dtype, rows); });
    }
    for (const AttentionCase& c : kAttention)
      for (std::int64_t length : {512, 8192})
        for (std::int64_t rows : {1, 512})
          named("attention/" + std::string(c.model) + "/" + type + "/length" +
                    std::to_string(length) + "/rows" + std::to_string(rows),
                [&c, dtype, length, rows](auto& s) { run_attention(s, c, dtype, length, rows); });
  }
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  lockstep::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
