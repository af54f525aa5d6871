#include "ops/cuda/matmul.h"

#include <memory>
#include <source_location>
#include <type_traits>

#include "core/check.h"

namespace lockstep::cuda {
namespace {

void check_cublas(cublasStatus_t status,
                  std::source_location where = std::source_location::current()) {
  check(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: {} at matmul.cpp:{}",
        cublasLtGetStatusString(status), where.line());
}

// A description that is destroyed with its owner.
template <typename T, cublasStatus_t (*kDestroy)(T)>
using Owned =
    std::unique_ptr<std::remove_pointer_t<T>, decltype([](T object) { kDestroy(object); })>;
using Operation = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

cudaDataType_t cuda_type(DType dtype) {
  switch (dtype) {
    case DType::kBFloat16:
      return CUDA_R_16BF;
    case DType::kFloat16:
      return CUDA_R_16F;
    default:
      return CUDA_R_32F;
  }
}

// Column-major: `rows` neighbouring elements, `columns` times.
Layout make_layout(DType dtype, std::int64_t rows, std::int64_t columns, std::int64_t leading) {
  cublasLtMatrixLayout_t layout = nullptr;
  check_cublas(cublasLtMatrixLayoutCreate(&layout, cuda_type(dtype),
                                          static_cast<std::uint64_t>(rows),
                                          static_cast<std::uint64_t>(columns), leading));
  return Layout(layout);
}

}  // namespace

std::int64_t leading_dimension(const Matrix& matrix) {
  const auto elements = static_cast<std::int64_t>(16 / size_of(matrix.dtype));
  return (matrix.in_features + elements - 1) / elements * elements;
}

Matmul::Matmul(Buffer workspace) : workspace_(std::move(workspace)) {
  check_cublas(cublasLtCreate(&handle_));
}

Matmul::~Matmul() { cublasLtDestroy(handle_); }

// cuBLASLt is column-major, where our row-major matrices are their transposes: out^T = weight *
// x^T.
void Matmul::multiply(const Tensor& out, const Tensor& x, const Matrix& weight,
                      cudaStream_t stream) {
  const std::int64_t rows = x.num_rows();
  cublasLtMatmulDesc_t description = nullptr;
  check_cublas(cublasLtMatmulDescCreate(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const Operation operation(description);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  check_cublas(cublasLtMatmulDescSetAttribute(description, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                              sizeof transpose));
  const Layout a =
      make_layout(weight.dtype, weight.in_features, weight.out_features, leading_dimension(weight));
  const Layout b = make_layout(x.dtype, weight.in_features, rows, weight.in_features);
  const Layout d = make_layout(DType::kFloat32, weight.out_features, rows, weight.out_features);

  const Key key{rows, weight.out_features, weight.in_features, weight.dtype};
  auto found = algorithms_.find(key);
  if (found == algorithms_.end()) {
    cublasLtMatmulPreference_t created = nullptr;
    check_cublas(cublasLtMatmulPreferenceCreate(&created));
    const Preference preference(created);
    const std::size_t workspace_bytes = workspace_.bytes();
    check_cublas(cublasLtMatmulPreferenceSetAttribute(created,
                                                      CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &workspace_bytes, sizeof workspace_bytes));
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    check_cublas(cublasLtMatmulAlgoGetHeuristic(handle_, description, a.get(), b.get(), d.get(),
                                                d.get(), created, 1, &result, &count));
    check(count > 0, "cuBLASLt has no algorithm for {} rows of [{}, {}] in {}", rows,
          weight.out_features, weight.in_features, name_of(weight.dtype));
    found = algorithms_.emplace(key, result.algo).first;
  }
  const float one = 1, zero = 0;
  check_cublas(cublasLtMatmul(handle_, description, &one, weight.data, a.get(), x.data, b.get(),
                              &zero, out.data, d.get(), out.data, d.get(), &found->second,
                              workspace_.data(), workspace_.bytes(), stream));
}

}  // namespace lockstep::cuda
