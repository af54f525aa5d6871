// The budget of one token on one GPU: each operation of a decode step alone, repeated in a recorded
// graph over enough different weights that the L2 cache cannot hold them.
//   cuda_ops_bench [rows] [ranks whose share is measured] [context]
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "ops/cuda/cuda_check.h"
#include "ops/cuda/cuda_ops.h"

namespace lockstep {
namespace {

using cuda::check_cuda;
using cuda::CudaOps;

constexpr Device kGpu{DeviceType::kCuda, 0};
constexpr int kRepeats = 48;  // operations of one graph
constexpr DType kDType = DType::kBFloat16;

OwnedTensor make(CudaOps& ops, DType dtype, const Shape& shape) {
  return allocate_tensor(ops, kGpu, dtype, shape);
}

OwnedTensor make_ints(CudaOps& ops, const std::vector<std::int32_t>& values, const Shape& shape) {
  OwnedTensor owned = make(ops, DType::kInt32, shape);
  ops.upload(owned.tensor,
             {const_cast<std::int32_t*>(values.data()), DType::kInt32, shape, Device{}});
  return owned;
}

// 0, 1, 2, ...
std::vector<std::int32_t> numbers(std::int64_t count) {
  std::vector<std::int32_t> values(static_cast<std::size_t>(count));
  std::iota(values.begin(), values.end(), 0);
  return values;
}

// Microseconds of one call of `operation`, which gets the number of the repetition; the median of
// 20 graphs.
double measure(CudaOps& ops, const std::function<void(int)>& operation) {
  const auto recorder = ops.make_recorder();
  const auto run = [&] {
    recorder->run(0, [&] {
      for (int i = 0; i < kRepeats; ++i) operation(i);
    });
  };
  for (int i = 0; i < 3; ++i) run();
  cudaEvent_t begin = nullptr, end = nullptr;
  check_cuda(cudaEventCreate(&begin));
  check_cuda(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 20; ++i) {
    check_cuda(cudaEventRecord(begin, ops.stream()));
    run();
    check_cuda(cudaEventRecord(end, ops.stream()));
    check_cuda(cudaEventSynchronize(end));
    times.push_back(0);
    check_cuda(cudaEventElapsedTime(&times.back(), begin, end));
  }
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::nth_element(times.begin(), times.begin() + 10, times.end());
  return 1e3 * times[10] / kRepeats;
}

void measure_linear(CudaOps& ops, const std::string& name, std::int64_t rows,
                    std::int64_t out_features, std::int64_t in_features, int leaves) {
  const auto make_matrix = [&] {
    const Matrix matrix = ops.make_matrix(out_features, in_features, leaves, kDType);
    ops.write_dummy_rows(matrix, 0, out_features, {.key = 1, .dtype = kDType}, 0, 0);
    return matrix;
  };
  const Matrix probe = make_matrix();
  const auto copies = std::clamp<std::size_t>((std::size_t{400} << 20) / probe.bytes, 2, kRepeats);
  std::vector<Matrix> weights = {probe};
  while (weights.size() < copies) weights.push_back(make_matrix());
  const OwnedTensor x = make(ops, kDType, {rows, in_features});
  const OwnedTensor out = make(ops, DType::kFloat32, {rows, out_features});
  const double us = measure(ops, [&](int i) {
    ops.linear(out.tensor, x.tensor, weights[static_cast<std::size_t>(i) % copies], nullptr);
  });
  fmt::print("{:<28} {:>9.2f} us {:>9.0f} GB/s\n", name, us,
             static_cast<double>(probe.bytes) / us / 1e3);
}

// A prompt's first `rows` tokens in one step.
void measure_prompt_attention(CudaOps& ops, const AttentionShape& shape, std::int64_t rows) {
  const std::int64_t blocks = (rows + kKvBlockSize - 1) / kKvBlockSize;
  const OwnedTensor table = make_ints(ops, numbers(blocks), {1, blocks});
  const OwnedTensor positions = make_ints(ops, numbers(rows), {rows});
  const OwnedTensor slots = make(ops, DType::kInt32, {rows});
  const BatchView batch{rows, positions.tensor, slots.tensor, table.tensor};
  const Shape cache_shape{blocks, shape.local_kv_heads, kKvBlockSize, shape.head_dim};
  const OwnedTensor keys = make(ops, kDType, cache_shape), values = make(ops, kDType, cache_shape);
  const OwnedTensor out = make(ops, kDType, {rows, shape.local_heads * shape.head_dim});
  const OwnedTensor qkv =
      make(ops, DType::kFloat32,
           {rows, (shape.local_heads + 2 * shape.local_kv_heads) * shape.head_dim});
  const double us = measure(ops, [&](int) {
    ops.attention(out.tensor, qkv.tensor, shape, {keys.tensor, values.tensor}, batch);
  });
  // Two products, half of whose elements are masked.
  const double flops = 2.0 * static_cast<double>(rows * (rows + 1)) *
                       static_cast<double>(shape.local_heads * shape.head_dim);
  fmt::print("{:<28} {:>9.2f} us {:>9.0f} TFLOP/s\n", "attention of a prompt", us,
             flops / us / 1e6);
}

// A step's rows: the last token of as many sequences of `context` tokens.
struct Sequences {
  Sequences(CudaOps& ops, std::int64_t count, std::int64_t context)
      : rows(count),
        blocks((context + kKvBlockSize - 1) / kKvBlockSize),
        table(make_ints(ops, numbers(rows * blocks), {rows, blocks})),
        positions(make_ints(ops,
                            std::vector<std::int32_t>(static_cast<std::size_t>(rows),
                                                      static_cast<std::int32_t>(context - 1)),
                            {rows})),
        slots(make_ints(ops, numbers(rows), {rows})) {}

  BatchView batch() const { return {rows, positions.tensor, slots.tensor, table.tensor, true}; }

  std::int64_t rows, blocks;  // blocks: of a sequence
  OwnedTensor table, positions, slots;
};

// Mistral-7B.
void run(std::int64_t rows, int ranks, std::int64_t context) {
  CudaOps ops(0);
  const std::int64_t hidden = 4096, head_dim = 128, heads = 32 / ranks, kv_heads = 8 / ranks;
  const std::int64_t intermediate = 14336 / ranks;
  const std::int64_t qkv = (heads + 2 * kv_heads) * head_dim;
  fmt::print("{} rows, a share of {}, {} tokens of context\n", rows, ranks, context);
  measure_linear(ops, "qkv_proj", rows, qkv, hidden, kLeaves);
  measure_linear(ops, "o_proj", rows, hidden, heads * head_dim, kLeaves / ranks);
  measure_linear(ops, "gate_up_proj", rows, 2 * intermediate, hidden, kLeaves);
  measure_linear(ops, "down_proj", rows, hidden, intermediate, kLeaves / ranks);
  measure_linear(ops, "lm_head", rows, 32000 / ranks, hidden, kLeaves);

  const auto report = [&](const std::string& name, const std::function<void(int)>& operation) {
    fmt::print("{:<28} {:>9.2f} us\n", name, measure(ops, operation));
  };
  const OwnedTensor stream = make(ops, DType::kFloat32, {rows, hidden});
  const OwnedTensor partial = make(ops, DType::kFloat32, {rows, hidden});
  const OwnedTensor weight = make(ops, DType::kFloat32, {hidden});
  const OwnedTensor normed = make(ops, kDType, {rows, hidden});
  report("add_rms_norm", [&](int) {
    ops.add_rms_norm(normed.tensor, stream.tensor, partial.tensor, nullptr, weight.tensor, 1e-5f);
  });
  const OwnedTensor gate_up = make(ops, DType::kFloat32, {rows, 2 * intermediate});
  const OwnedTensor activated = make(ops, kDType, {rows, intermediate});
  report("silu_multiply", [&](int) { ops.silu_multiply(activated.tensor, gate_up.tensor); });

  const Sequences sequences(ops, rows, context);
  const BatchView batch = sequences.batch();
  const Shape cache_shape{rows * sequences.blocks, kv_heads, kKvBlockSize, head_dim};
  const OwnedTensor keys = make(ops, kDType, cache_shape), values = make(ops, kDType, cache_shape);
  const KvLayer cache{keys.tensor, values.tensor};
  const AttentionShape shape{heads, kv_heads, head_dim, 4, 0, 0};
  const OwnedTensor qkv_out = make(ops, DType::kFloat32, {rows, qkv});
  const OwnedTensor frequencies = make(ops, DType::kFloat32, {head_dim / 2});
  const OwnedTensor attended = make(ops, kDType, {rows, heads * head_dim});
  report("rope_and_cache", [&](int) {
    ops.rope_and_cache(qkv_out.tensor, shape, frequencies.tensor, nullptr, nullptr, 1e-5f, cache,
                       batch);
  });
  report("attention (two kernels)",
         [&](int) { ops.attention(attended.tensor, qkv_out.tensor, shape, cache, batch); });
  if (rows > 1) measure_prompt_attention(ops, shape, rows);
}

// A decoder layer as a chain, and what it takes without one of its operations: what an operation
// costs where it stands, which is less than what it takes alone as far as it hides behind others.
void run_layer(std::int64_t rows, int ranks, std::int64_t context) {
  CudaOps ops(0);
  const std::int64_t hidden = 4096, head_dim = 128, heads = 32 / ranks, kv_heads = 8 / ranks;
  const std::int64_t intermediate = 14336 / ranks, qkv = (heads + 2 * kv_heads) * head_dim;
  constexpr int kLayers = 16;
  struct Layer {
    Matrix qkv, o, gate_up, down;
    OwnedTensor keys, values;
  };
  const Sequences sequences(ops, rows, context);
  const BatchView batch = sequences.batch();
  std::vector<Layer> layers;
  for (int i = 0; i < kLayers; ++i) {
    const auto weight = [&](std::int64_t out, std::int64_t in, int leaves) {
      const Matrix matrix = ops.make_matrix(out, in, leaves, kDType);
      ops.write_dummy_rows(matrix, 0, out, {.key = 1, .dtype = kDType}, 0, 0);
      return matrix;
    };
    const auto cache = [&] {
      return make(ops, kDType, {rows * sequences.blocks, kv_heads, kKvBlockSize, head_dim});
    };
    layers.push_back({weight(qkv, hidden, kLeaves),
                      weight(hidden, heads * head_dim, kLeaves / ranks),
                      weight(2 * intermediate, hidden, kLeaves),
                      weight(hidden, intermediate, kLeaves / ranks), cache(), cache()});
  }
  const AttentionShape shape{heads, kv_heads, head_dim, 4, 0, 0};
  const OwnedTensor stream = make(ops, DType::kFloat32, {rows, hidden});
  const OwnedTensor partial = make(ops, DType::kFloat32, {rows, hidden});
  const OwnedTensor norm = make(ops, DType::kFloat32, {hidden});
  const OwnedTensor normed = make(ops, kDType, {rows, hidden});
  const OwnedTensor qkv_out = make(ops, DType::kFloat32, {rows, qkv});
  const OwnedTensor frequencies = make(ops, DType::kFloat32, {head_dim / 2});
  const OwnedTensor attended = make(ops, kDType, {rows, heads * head_dim});
  const OwnedTensor gate_up = make(ops, DType::kFloat32, {rows, 2 * intermediate});
  const OwnedTensor activated = make(ops, kDType, {rows, intermediate});
  const auto layer = [&](int i, const std::string& without) {
    const Layer& w = layers[static_cast<std::size_t>(i) % kLayers];
    const auto with = [&](const char* name) { return without != name; };
    const auto add_norm = [&] {
      ops.add_rms_norm(normed.tensor, stream.tensor, partial.tensor, nullptr, norm.tensor, 1e-5f);
    };
    if (with("both norms")) add_norm();
    if (with("qkv_proj")) ops.linear(qkv_out.tensor, normed.tensor, w.qkv, nullptr);
    if (with("attention"))
      ops.rotary_attention(attended.tensor, qkv_out.tensor, shape, frequencies.tensor, nullptr,
                           nullptr, 1e-5f, {w.keys.tensor, w.values.tensor}, batch);
    if (with("o_proj")) ops.linear(partial.tensor, attended.tensor, w.o, nullptr);
    if (with("both norms")) add_norm();
    if (with("gate_up_proj"))
      ops.gated_linear(activated.tensor, normed.tensor, w.gate_up, nullptr, gate_up.tensor);
    if (with("down_proj")) ops.linear(partial.tensor, activated.tensor, w.down, nullptr);
  };
  const double whole = measure(ops, [&](int i) { layer(i, ""); });
  fmt::print("{:<28} {:>9.2f} us\n", "a layer", whole);
  for (const char* name :
       {"both norms", "qkv_proj", "attention", "o_proj", "gate_up_proj", "down_proj"})
    fmt::print("{:<28} {:>9.2f} us\n", fmt::format("  of that {}", name),
               whole - measure(ops, [&](int i) { layer(i, name); }));
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    const auto argument = [&](int i, int otherwise) {
      return argc > i ? std::max(1, std::atoi(argv[i])) : otherwise;
    };
    lockstep::run(argument(1, 1), argument(2, 1), argument(3, 384));
    lockstep::run_layer(argument(1, 1), argument(2, 1), argument(3, 384));
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_ops_bench: {}\n", error.what());
    return 1;
  }
}
