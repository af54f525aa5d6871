/// @file
/// Element types, devices, shapes, and Tensor: a non-owning view of memory. All are values:
/// copying is cheap, and different objects may be used from different threads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "lockstep/export.h"

namespace lockstep {

/// Type of a tensor's elements.
enum class DType : std::uint8_t {
  kFloat32,   ///< IEEE 754 single precision.
  kBFloat16,  ///< The upper half of a float32.
  kFloat16,   ///< IEEE 754 half precision.
  kInt32,     ///< Signed, 32 bits.
  kInt64,     ///< Signed, 64 bits.
  kUInt8,     ///< Unsigned, 8 bits.
};

/// Bytes of one element. Throws Error for a value that is no DType.
LOCKSTEP_API std::size_t size_of(DType dtype);
/// "float32", "bfloat16", "float16", "int32", "int64" or "uint8". Throws Error for a value that is
/// no DType.
LOCKSTEP_API std::string_view name_of(DType dtype);

/// Kind of a device.
enum class DeviceType : std::uint8_t {
  kCpu,   ///< A thread of this process.
  kCuda,  ///< An NVIDIA GPU.
};

/// One device.
struct Device {
  DeviceType type = DeviceType::kCpu;  ///< Its kind.
  /// CUDA ordinal; for the CPU the rank's number, which means nothing else.
  int index = 0;
  /// Same kind and same number.
  friend bool operator==(const Device&, const Device&) = default;
};
/// "cpu:0", "cuda:3".
LOCKSTEP_API std::string to_string(Device device);

/// Up to four sizes. Default: a scalar, which has one element.
class LOCKSTEP_API Shape {
 public:
  /// The most axes that a shape can have.
  static constexpr int kMaxRank = 4;

  Shape() = default;
  /// Throws Error for more than kMaxRank sizes, a negative size, or a product beyond 2^63.
  Shape(std::initializer_list<std::int64_t> sizes);

  /// Number of axes, from 0 to kMaxRank.
  int rank() const { return rank_; }
  /// Size along `axis`, which has to be from 0 to rank() - 1; not checked.
  std::int64_t operator[](int axis) const { return sizes_[static_cast<std::size_t>(axis)]; }
  /// Number of elements: the product of the sizes.
  std::int64_t numel() const;
  /// Same rank and same sizes.
  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::array<std::int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};
/// "[512, 576]".
LOCKSTEP_API std::string to_string(const Shape& shape);

/// A dense row-major view. Copying it copies the view; it never owns and never frees.
struct LOCKSTEP_API Tensor {
  void* data = nullptr;           ///< The first element, in the device's memory.
  DType dtype = DType::kFloat32;  ///< Type of the elements.
  Shape shape;                    ///< Sizes, the slowest axis first.
  Device device;                  ///< Where `data` is.

  /// Number of elements.
  std::int64_t numel() const { return shape.numel(); }
  /// Bytes of all elements.
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype); }
  /// Size of the first axis; 1 for a scalar.
  std::int64_t num_rows() const { return shape.rank() == 0 ? 1 : shape[0]; }
  /// Elements of one row: all axes but the first.
  std::int64_t row_size() const { return num_rows() == 0 ? 0 : numel() / num_rows(); }
  /// Rows [begin, end) as a view of the same memory. Throws Error when they are not within the
  /// tensor.
  Tensor rows(std::int64_t begin, std::int64_t end) const;

  /// `data` as a pointer to T; that T fits `dtype` is the caller's to know.
  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace lockstep
