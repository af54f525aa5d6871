#include "lockstep/tensor.h"

#include "core/check.h"

namespace lockstep {

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kInt64:
      return 8;
    case DType::kUInt8:
      return 1;
  }
  fail("unknown dtype {}", static_cast<int>(dtype));
}

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kFloat16:
      return "float16";
    case DType::kInt32:
      return "int32";
    case DType::kInt64:
      return "int64";
    case DType::kUInt8:
      return "uint8";
  }
  fail("unknown dtype {}", static_cast<int>(dtype));
}

std::string to_string(Device device) {
  return fmt::format("{}:{}", device.type == DeviceType::kCpu ? "cpu" : "cuda", device.index);
}

Shape::Shape(std::initializer_list<std::int64_t> sizes) {
  check(sizes.size() <= kMaxRank, "a shape has at most {} axes, not {}", kMaxRank, sizes.size());
  std::int64_t product = 1;
  for (std::int64_t size : sizes) {
    check(size >= 0, "negative size {} in a shape", size);
    check(!__builtin_mul_overflow(product, size, &product), "a shape's product overflows");
    sizes_[static_cast<std::size_t>(rank_++)] = size;
  }
}

std::int64_t Shape::numel() const {
  std::int64_t product = 1;
  for (int axis = 0; axis < rank_; ++axis) product *= (*this)[axis];
  return product;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int axis = 0; axis < shape.rank(); ++axis)
    text += fmt::format("{}{}", axis ? ", " : "", shape[axis]);
  return text + "]";
}

Tensor Tensor::rows(std::int64_t begin, std::int64_t end) const {
  check(shape.rank() >= 1 && 0 <= begin && begin <= end && end <= shape[0],
        "rows [{}, {}) are not within a tensor of shape {}", begin, end, to_string(shape));
  Tensor view = *this;
  view.data =
      static_cast<char*>(data) + static_cast<std::size_t>(begin * row_size()) * size_of(dtype);
  switch (shape.rank()) {
    case 1:
      view.shape = {end - begin};
      break;
    case 2:
      view.shape = {end - begin, shape[1]};
      break;
    case 3:
      view.shape = {end - begin, shape[1], shape[2]};
      break;
    default:
      view.shape = {end - begin, shape[1], shape[2], shape[3]};
  }
  return view;
}

}  // namespace lockstep
