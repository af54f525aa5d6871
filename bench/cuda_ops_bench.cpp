// The budget of one token on one GPU: each operation of a decode step alone, repeated in a recorded
// graph over enough different weights that the L2 cache cannot hold them.
//   cuda_ops_bench [rows] [ranks whose share is measured] [context]
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
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
  const Matrix probe = ops.make_matrix(out_features, in_features, leaves, kDType);
  const auto copies = std::clamp<std::size_t>((std::size_t{400} << 20) / probe.bytes, 2, kRepeats);
  std::vector<Matrix> weights = {probe};
  while (weights.size() < copies)
    weights.push_back(ops.make_matrix(out_features, in_features, leaves, kDType));
  const OwnedTensor x = make(ops, kDType, {rows, in_features});
  const OwnedTensor out = make(ops, DType::kFloat32, {rows, out_features});
  const double us = measure(ops, [&](int i) {
    ops.linear(out.tensor, x.tensor, weights[static_cast<std::size_t>(i) % copies], nullptr);
  });
  fmt::print("{:<28} {:>9.2f} us {:>9.0f} GB/s\n", name, us,
             static_cast<double>(probe.bytes) / us / 1e3);
}

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

  const std::int64_t blocks = (context + kKvBlockSize - 1) / kKvBlockSize;
  std::vector<std::int32_t> table(static_cast<std::size_t>(rows * blocks));
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i);
  std::vector<std::int32_t> positions(static_cast<std::size_t>(rows),
                                      static_cast<std::int32_t>(context - 1));
  std::vector<std::int32_t> slots;
  for (std::int64_t i = 0; i < rows; ++i) slots.push_back(static_cast<std::int32_t>(i));
  const OwnedTensor device_table = make_ints(ops, table, {rows, blocks});
  const OwnedTensor device_positions = make_ints(ops, positions, {rows});
  const OwnedTensor device_slots = make_ints(ops, slots, {rows});
  const BatchView batch{rows, device_positions.tensor, device_slots.tensor, device_table.tensor};
  const OwnedTensor keys = make(ops, kDType, {rows * blocks, kv_heads, kKvBlockSize, head_dim});
  const OwnedTensor values = make(ops, kDType, {rows * blocks, kv_heads, kKvBlockSize, head_dim});
  const KvLayer cache{keys.tensor, values.tensor};
  AttentionShape shape;
  shape.local_heads = heads;
  shape.local_kv_heads = kv_heads;
  shape.head_dim = head_dim;
  shape.group_size = 4;
  const OwnedTensor qkv_out = make(ops, DType::kFloat32, {rows, qkv});
  const OwnedTensor frequencies = make(ops, DType::kFloat32, {head_dim / 2});
  const OwnedTensor attended = make(ops, kDType, {rows, heads * head_dim});
  report("rope_and_cache", [&](int) {
    ops.rope_and_cache(qkv_out.tensor, shape, frequencies.tensor, nullptr, nullptr, 1e-5f, cache,
                       batch);
  });
  report("attention (two kernels)",
         [&](int) { ops.attention(attended.tensor, qkv_out.tensor, shape, cache, batch); });
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    const auto argument = [&](int i, int otherwise) {
      return argc > i ? std::max(1, std::atoi(argv[i])) : otherwise;
    };
    lockstep::run(argument(1, 1), argument(2, 1), argument(3, 384));
  } catch (const std::exception& error) {
    fmt::print(stderr, "cuda_ops_bench: {}\n", error.what());
    return 1;
  }
}
