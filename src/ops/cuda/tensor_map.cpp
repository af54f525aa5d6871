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

}  // namespace

BoxMaps make_box_maps(const void* data, int halves, std::int64_t rows, std::int64_t columns,
                      int leaf_size, const int (&heights)[kBoxHeights]) {
  // No promotion in the L2 cache: asked for 256 bytes at a time, weights come 6% slower.
  const auto encode = [&](CUtensorMap& map, cuuint32_t rank, const cuuint64_t* sizes,
                          const cuuint64_t* strides, const cuuint32_t* box) {
    const cuuint32_t steps[4] = {1, 1, 1, 1};
    const CUresult status =
        encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT16, rank, const_cast<void*>(data), sizes,
                  strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    check(status == CUDA_SUCCESS, "CUDA: a tensor map of {} x {} elements was refused ({})",
          halves * rows, columns, static_cast<int>(status));
  };
  const auto width = static_cast<cuuint64_t>(columns), height = static_cast<cuuint64_t>(rows);
  const auto num_halves = static_cast<cuuint32_t>(halves);
  BoxMaps maps{};
  if (leaf_size % kBoxPart == 0) {
    const cuuint64_t sizes[4] = {kBoxPart, width / kBoxPart, height, num_halves};
    const cuuint64_t strides[3] = {kBoxPart * 2, width * 2, height * width * 2};  // bytes
    const int parts = leaf_size / kBoxPart;
    const auto narrow = static_cast<cuuint32_t>(parts % kBoxParts);
    for (int i = 0; i < kBoxHeights; ++i) {
      const auto box_height = static_cast<cuuint32_t>(heights[i]);
      if (box_height == 0) continue;
      const cuuint32_t box[4] = {kBoxPart, kBoxParts, box_height, num_halves};
      if (parts >= kBoxParts) encode(maps.full[i], 4, sizes, strides, box);
      const cuuint32_t narrow_box[4] = {kBoxPart, narrow, box_height, num_halves};
      if (narrow > 0) encode(maps.narrow[i], 4, sizes, strides, narrow_box);
    }
  }
  const cuuint64_t sizes[2] = {width, height * num_halves}, strides[1] = {width * 2};
  const cuuint32_t box[2] = {kBoxPart, 1};
  encode(maps.part, 2, sizes, strides, box);
  return maps;
}

}  // namespace lockstep::cuda
