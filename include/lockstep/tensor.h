// Element types, devices, shapes, and Tensor: a non-owning view of memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace lockstep {

enum class DType : std::uint8_t { kFloat32, kBFloat16, kFloat16, kInt32, kInt64, kUInt8 };

// Bytes of one element.
std::size_t size_of(DType dtype);
// "float32", "bfloat16", "float16", "int32", "int64", "uint8".
std::string_view name_of(DType dtype);

enum class DeviceType : std::uint8_t { kCpu, kCuda };

struct Device {
  DeviceType type = DeviceType::kCpu;
  int index = 0;  // CUDA ordinal; for the CPU the rank's number, which means nothing else
  friend bool operator==(const Device&, const Device&) = default;
};
// "cpu:0", "cuda:3".
std::string to_string(Device device);

// Up to four sizes. Default: a scalar.
class Shape {
 public:
  static constexpr int kMaxRank = 4;

  Shape() = default;
  // Throws Error for more than kMaxRank sizes, a negative size, or a product beyond 2^63.
  Shape(std::initializer_list<std::int64_t> sizes);

  int rank() const { return rank_; }
  std::int64_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  std::int64_t numel() const;
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};
// "[512, 576]".
std::string to_string(const Shape& shape);

// A dense row-major view. Copying it copies the view; it never owns and never frees.
struct Tensor {
  void* data = nullptr;
  DType dtype = DType::kFloat32;
  Shape shape;
  Device device;

  std::int64_t numel() const { return shape.numel(); }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype); }
  // Number of rows (first axis) and elements of one row.
  std::int64_t num_rows() const { return shape.rank() == 0 ? 1 : shape[0]; }
  std::int64_t row_size() const { return num_rows() == 0 ? 0 : numel() / num_rows(); }
  // Rows [begin, end) as a view. Throws Error when they are not within the tensor.
  Tensor rows(std::int64_t begin, std::int64_t end) const;

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace lockstep
