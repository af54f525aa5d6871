#include "ops/cuda/tensor_map.h"

#include <cudaTypedefs.h>
#include <cuda_runtime_api.h>

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

// A matrix of 16-bit elements, as halves of `rows` rows each, in parts of kBoxPart columns.
struct Parts {
  const void* data;
  cuuint64_t columns;
  cuuint64_t rows;
  cuuint32_t halves;

  CUtensorMap map_of_boxes(int parts, int height) const {
    const cuuint64_t sizes[4] = {kBoxPart, columns / kBoxPart, rows, halves};
    const cuuint64_t strides[3] = {kBoxPart * 2, columns * 2, rows * columns * 2};  // bytes
    const cuuint32_t box[4] = {kBoxPart, static_cast<cuuint32_t>(parts),
                               static_cast<cuuint32_t>(height), halves};
    return encode(4, sizes, strides, box);
  }
  CUtensorMap map_of_parts() const {
    const cuuint64_t sizes[2] = {columns, rows * halves}, strides[1] = {columns * 2};
    const cuuint32_t box[2] = {kBoxPart, 1};
    return encode(2, sizes, strides, box);
  }

 private:
  // No promotion in the L2 cache: asked for 256 bytes at a time, weights come 6% slower.
  CUtensorMap encode(cuuint32_t rank, const cuuint64_t* sizes, const cuuint64_t* strides,
                     const cuuint32_t* box) const {
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    CUtensorMap map;
    const CUresult status =
        encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, rank, const_cast<void*>(data), sizes,
                  strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    check(status == CUDA_SUCCESS, "CUDA: a tensor map of {} x {} elements was refused ({})",
          halves * rows, columns, static_cast<int>(status));
    return map;
  }
};

Parts parts_of(const void* data, int halves, std::int64_t rows, std::int64_t columns) {
  return {data, static_cast<cuuint64_t>(columns), static_cast<cuuint64_t>(rows),
          static_cast<cuuint32_t>(halves)};
}

}  // namespace

BoxMaps make_box_maps(const void* data, int halves, std::int64_t rows, std::int64_t columns,
                      int leaf_size, const int (&heights)[kBoxHeights]) {
  const Parts matrix = parts_of(data, halves, rows, columns);
  BoxMaps maps{};
  maps.part = matrix.map_of_parts();
  if (leaf_size % kBoxPart != 0) return maps;
  const int parts = leaf_size / kBoxPart, narrow = parts % kBoxParts;
  for (int i = 0; i < kBoxHeights; ++i) {
    if (heights[i] == 0) continue;
    if (parts >= kBoxParts) maps.full[i] = matrix.map_of_boxes(kBoxParts, heights[i]);
    if (narrow > 0) maps.narrow[i] = matrix.map_of_boxes(narrow, heights[i]);
  }
  return maps;
}

InputMaps make_input_maps(const void* data, std::int64_t rows, std::int64_t columns, int leaf_size,
                          int height) {
  const Parts matrix = parts_of(data, 1, rows, columns);
  const int parts = leaf_size / kBoxPart, narrow = parts % kBoxParts;
  InputMaps maps{};
  if (parts >= kBoxParts) maps.full = matrix.map_of_boxes(kBoxParts, height);
  if (narrow > 0) maps.narrow = matrix.map_of_boxes(narrow, height);
  return maps;
}

}  // namespace lockstep::cuda
