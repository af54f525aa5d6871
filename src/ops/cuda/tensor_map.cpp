#include "ops/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>
#include <fmt/ranges.h>

#include <iterator>

#include "ops/cuda/cuda_check.h"

namespace lockstep::cuda {
namespace {

PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  static const auto function = [] {
    void* symbol = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    check_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, 12000,
                                                cudaEnableDefault, &found));
#else
    check_cuda(
        cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &symbol, cudaEnableDefault, &found));
#endif
    check(found == cudaDriverEntryPointSuccess && symbol != nullptr,
          "the CUDA driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(symbol);
  }();
  return function;
}

// A tensor of 16-bit elements: sizes and boxes by dimension, the innermost first, and bytes between
// neighbours in all others. No promotion in the L2 cache: asked for 256 bytes at a time, weights
// come 6% slower.
template <std::size_t kRank>
CUtensorMap encode(const void* data, const cuuint64_t (&sizes)[kRank],
                   const cuuint64_t (&strides)[kRank - 1], const cuuint32_t (&box)[kRank]) {
  const cuuint32_t steps[] = {1, 1, 1, 1};
  static_assert(kRank <= std::size(steps));
  CUtensorMap map;
  const CUresult status =
      encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, kRank, const_cast<void*>(data), sizes,
                strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(status == CUDA_SUCCESS, "CUDA: a tensor map of {} elements was refused ({})",
        fmt::join(sizes, " x "), static_cast<int>(status));
  return map;
}

cuuint64_t bytes(std::int64_t elements) { return static_cast<cuuint64_t>(elements) * 2; }

}  // namespace

BoxMaps make_box_maps(const void* data, int halves, std::int64_t rows, std::int64_t columns,
                      int leaf_size, int parts, const int (&heights)[kBoxHeights]) {
  const auto all_rows = static_cast<cuuint64_t>(rows),
             all_columns = static_cast<cuuint64_t>(columns);
  const auto num_halves = static_cast<cuuint32_t>(halves);
  const auto map_of_boxes = [&](int width, int height) {
    return encode<4>(
        data, {kBoxPart, all_columns / kBoxPart, all_rows, num_halves},
        {bytes(kBoxPart), bytes(columns), bytes(rows * columns)},
        {kBoxPart, static_cast<cuuint32_t>(width), static_cast<cuuint32_t>(height), num_halves});
  };
  BoxMaps maps{};
  maps.part =
      encode<2>(data, {all_columns, all_rows * num_halves}, {bytes(columns)}, {kBoxPart, 1});
  if (leaf_size % kBoxPart != 0) return maps;
  const int of_leaf = leaf_size / kBoxPart, narrow = of_leaf % parts;
  for (int i = 0; i < kBoxHeights; ++i) {
    if (heights[i] == 0) continue;
    if (of_leaf >= parts) maps.full[i] = map_of_boxes(parts, heights[i]);
    if (narrow > 0) maps.narrow[i] = map_of_boxes(narrow, heights[i]);
  }
  return maps;
}

CUtensorMap make_input_map(const void* data, std::int64_t rows, int leaves, int leaf_size,
                           int parts, int height) {
  const auto num_leaves = static_cast<cuuint32_t>(leaves);
  return encode<4>(
      data,
      {kBoxPart, static_cast<cuuint64_t>(rows), num_leaves,
       static_cast<cuuint64_t>(leaf_size / kBoxPart)},
      {bytes(std::int64_t{leaves} * leaf_size), bytes(leaf_size), bytes(kBoxPart)},
      {kBoxPart, static_cast<cuuint32_t>(height), num_leaves, static_cast<cuuint32_t>(parts)});
}

}  // namespace lockstep::cuda
