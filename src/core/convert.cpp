#include "core/convert.h"

#include <algorithm>

#include "core/check.h"

namespace lockstep {

std::vector<float> to_float32(const Tensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
  const auto* halves = tensor.as<const std::uint16_t>();
  switch (tensor.dtype) {
    case DType::kFloat32:
      std::copy_n(tensor.as<const float>(), values.size(), values.begin());
      break;
    case DType::kBFloat16:
      std::transform(halves, halves + values.size(), values.begin(), bfloat16_to_float);
      break;
    case DType::kFloat16:
      std::transform(halves, halves + values.size(), values.begin(), float16_to_float);
      break;
    default:
      fail("cannot convert {} to float32", name_of(tensor.dtype));
  }
  return values;
}

}  // namespace lockstep
