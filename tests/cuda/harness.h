// What the tests of the CUDA operations share: a GPU (or a clear skip), tensors in its memory, and
// comparisons with the CPU's results.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "core/convert.h"
#include "ops/cuda/cuda_ops.h"
#include "ops/ops.h"
#include "spmd/devices.h"

namespace lockstep::test {

inline constexpr DType kFloatTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
// Numbers of rows that a step may have: decode batches, odd ones, prompt chunks.
inline constexpr std::int64_t kRowCounts[] = {1, 2, 7, 8, 13, 33, 64, 100};
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

inline std::size_t size(std::int64_t count) { return static_cast<std::size_t>(count); }

inline std::vector<float> noise(std::int64_t count, std::uint32_t seed, float scale = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(size(count));
  for (float& value : values) value = normal(random);
  return values;
}

// Simulated GPUs (tests/simulated_gpu) take smaller numbers.
#ifdef LOCKSTEP_SIMULATED_GPU
inline constexpr bool kSimulated = true;
#else
inline constexpr bool kSimulated = false;
#endif
inline constexpr int sized(int on_gpus, int simulated) { return kSimulated ? simulated : on_gpus; }
// Whether products of so many multiplications are left out. Those in float32 have no tensor cores.
inline constexpr bool too_large(std::int64_t multiplications, DType dtype) {
  return kSimulated && multiplications > (dtype == DType::kFloat32 ? 1 << 17 : 1 << 21);
}

// A tensor over a vector.
template <typename T>
Tensor host(std::vector<T>& values, const Shape& shape) {
  constexpr DType dtype = std::is_same_v<T, float>          ? DType::kFloat32
                          : std::is_same_v<T, std::int32_t> ? DType::kInt32
                          : std::is_same_v<T, std::int64_t> ? DType::kInt64
                                                            : DType::kUInt8;
  return {values.data(), dtype, shape, {}};
}

// As many elements of `dtype` as bytes, and back.
inline std::vector<std::uint8_t> encode(const std::vector<float>& values, DType dtype) {
  std::vector<std::uint8_t> bytes(values.size() * size_of(dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::kFloat32) {
      std::memcpy(bytes.data() + 4 * i, &values[i], 4);
    } else {
      const std::uint16_t bits =
          dtype == DType::kBFloat16 ? float_to_bfloat16(values[i]) : float_to_float16(values[i]);
      std::memcpy(bytes.data() + 2 * i, &bits, 2);
    }
  }
  return bytes;
}

// The largest difference, as a part of the largest expected value.
inline double difference(const std::vector<float>& expected, const std::vector<float>& found) {
  if (expected.size() != found.size()) return std::numeric_limits<double>::infinity();
  double largest = 0, scale = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double error = std::abs(static_cast<double>(expected[i]) - found[i]);
    if (!(error <= largest))
      largest = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
    scale = std::max(scale, std::abs(static_cast<double>(expected[i])));
  }
  return largest == 0 ? 0 : largest / scale;
}

// Half a unit in the last place of a result in `dtype`, on top of what float32 is allowed.
inline double tolerance(DType dtype, double float32) {
  return float32 + (dtype == DType::kBFloat16 ? 0x1p-8 : dtype == DType::kFloat16 ? 0x1p-11 : 0);
}

inline ::testing::AssertionResult same_bits(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size())
    return ::testing::AssertionFailure() << a.size() << " values against " << b.size();
  for (std::size_t i = 0; i < a.size(); ++i)
    if (std::bit_cast<std::uint32_t>(a[i]) != std::bit_cast<std::uint32_t>(b[i]))
      return ::testing::AssertionFailure() << "value " << i << " is " << a[i] << " against " << b[i]
                                           << " (" << std::hexfloat << a[i] << ", " << b[i] << ")";
  return ::testing::AssertionSuccess();
}

// Skips unless there is a GPU. The tests of a suite share one CudaOps.
class OnGpu : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (cuda_device_count() > 0) shared_ops() = std::make_unique<cuda::CudaOps>(0);
  }
  static void TearDownTestSuite() { shared_ops().reset(); }
  void SetUp() override {
    if (!shared_ops()) GTEST_SKIP() << "there is no GPU here: the CUDA operations are not tested";
  }

  Ops& gpu() { return *shared_ops(); }
  Ops& cpu() { return *cpu_; }

  // Memory of the GPU that lives as long as the test.
  Tensor make(DType dtype, const Shape& shape) {
    owned_.push_back(allocate_tensor(gpu(), kGpu, dtype, shape));
    return owned_.back().tensor;
  }
  template <typename T>
  Tensor put(std::vector<T> values, const Shape& shape) {
    const Tensor source = host(values, shape);
    const Tensor tensor = make(source.dtype, shape);
    gpu().upload(tensor, source);
    return tensor;
  }
  Tensor put_as(DType dtype, const std::vector<float>& values, const Shape& shape) {
    std::vector<std::uint8_t> bytes = encode(values, dtype);
    const Tensor tensor = make(dtype, shape);
    gpu().upload(tensor, Tensor{bytes.data(), dtype, shape, {}});
    return tensor;
  }
  // An output: full of NaN.
  Tensor poisoned(DType dtype, const Shape& shape) {
    return put_as(dtype, std::vector<float>(size(shape.numel()), kNaN), shape);
  }

  template <typename T>
  std::vector<T> get(const Tensor& tensor) {
    std::vector<T> values(size(tensor.numel()));
    gpu().download(host(values, tensor.shape), tensor);
    return values;
  }
  // A floating-point tensor's elements as float32.
  std::vector<float> floats(const Tensor& tensor) {
    std::vector<std::uint8_t> bytes(tensor.bytes());
    const Tensor copy{bytes.data(), tensor.dtype, tensor.shape, {}};
    gpu().download(copy, tensor);
    return to_float32(copy);
  }

 private:
  static constexpr Device kGpu{DeviceType::kCuda, 0};
  static std::unique_ptr<cuda::CudaOps>& shared_ops() {
    static std::unique_ptr<cuda::CudaOps> ops;
    return ops;
  }

  std::unique_ptr<Ops> cpu_ = make_cpu_ops();
  std::vector<OwnedTensor> owned_;
};

}  // namespace lockstep::test
