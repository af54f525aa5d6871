#include "ops/cuda/matmul.h"

#include <memory>
#include <source_location>
#include <type_traits>

#include "core/check.h"
#include "ops/cuda/library.h"

namespace lockstep::cuda {
namespace {

const Library& cublas_library() {
  static const Library library(
      {fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR),
       fmt::format(LOCKSTEP_CUDA_LIBRARY_DIR "/libcublasLt.so.{}", CUBLAS_VER_MAJOR)});
  return library;
}
#define CUBLAS(name) LOCKSTEP_LIBRARY_FUNCTION(cublas_library, name)

void check_cublas(cublasStatus_t status,
                  std::source_location where = std::source_location::current()) {
  check(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: {} at matmul.cpp:{}",
        CUBLAS(cublasLtGetStatusString)(status), where.line());
}

// Descriptions that are destroyed with their owner.
template <typename T, typename Destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<T>, Destroy>;
using Operation = Owned<cublasLtMatmulDesc_t, decltype([](auto it) {
                          CUBLAS(cublasLtMatmulDescDestroy)
                          (it);
                        })>;
using Layout = Owned<cublasLtMatrixLayout_t, decltype([](auto it) {
                       CUBLAS(cublasLtMatrixLayoutDestroy)
                       (it);
                     })>;
using Preference = Owned<cublasLtMatmulPreference_t, decltype([](auto it) {
                           CUBLAS(cublasLtMatmulPreferenceDestroy)
                           (it);
                         })>;

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
  check_cublas(CUBLAS(cublasLtMatrixLayoutCreate)(&layout, cuda_type(dtype),
                                                  static_cast<std::uint64_t>(rows),
                                                  static_cast<std::uint64_t>(columns), leading));
  return Layout(layout);
}

}  // namespace

std::string cublaslt_version() {
  const std::size_t version = CUBLAS(cublasLtGetVersion)();
  return fmt::format("{}.{}.{}", version / 10000, version % 10000 / 100, version % 100);
}

std::int64_t leading_dimension(const Matrix& matrix) {
  const auto elements = static_cast<std::int64_t>(16 / size_of(matrix.dtype));
  return (matrix.in_features + elements - 1) / elements * elements;
}

Matmul::Matmul(Buffer workspace) : workspace_(std::move(workspace)) {
  check_cublas(CUBLAS(cublasLtCreate)(&handle_));
}

Matmul::~Matmul() { CUBLAS(cublasLtDestroy)(handle_); }

// cuBLASLt is column-major, where our row-major matrices are their transposes: out^T = weight *
// x^T.
void Matmul::multiply(const Tensor& out, const Tensor& x, const Matrix& weight,
                      cudaStream_t stream) {
  const std::int64_t rows = x.num_rows();
  cublasLtMatmulDesc_t description = nullptr;
  check_cublas(CUBLAS(cublasLtMatmulDescCreate)(&description, CUBLAS_COMPUTE_32F, CUDA_R_32F));
  const Operation operation(description);
  const cublasOperation_t transpose = CUBLAS_OP_T;
  check_cublas(CUBLAS(cublasLtMatmulDescSetAttribute)(description, CUBLASLT_MATMUL_DESC_TRANSA,
                                                      &transpose, sizeof transpose));
  const Layout a =
      make_layout(weight.dtype, weight.in_features, weight.out_features, leading_dimension(weight));
  const Layout b = make_layout(x.dtype, weight.in_features, rows, weight.in_features);
  const Layout d = make_layout(out.dtype, weight.out_features, rows, weight.out_features);

  const Key key{rows, weight.out_features, weight.in_features, weight.dtype, out.dtype};
  auto found = algorithms_.find(key);
  if (found == algorithms_.end()) {
    cublasLtMatmulPreference_t created = nullptr;
    check_cublas(CUBLAS(cublasLtMatmulPreferenceCreate)(&created));
    const Preference preference(created);
    const std::size_t workspace_bytes = workspace_.bytes();
    check_cublas(CUBLAS(cublasLtMatmulPreferenceSetAttribute)(
        created, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace_bytes,
        sizeof workspace_bytes));
    cublasLtMatmulHeuristicResult_t result{};
    int count = 0;
    check_cublas(CUBLAS(cublasLtMatmulAlgoGetHeuristic)(
        handle_, description, a.get(), b.get(), d.get(), d.get(), created, 1, &result, &count));
    check(count > 0, "cuBLASLt has no algorithm for {} rows of [{}, {}] in {}", rows,
          weight.out_features, weight.in_features, name_of(weight.dtype));
    found = algorithms_.emplace(key, result.algo).first;
  }
  const float one = 1, zero = 0;
  check_cublas(CUBLAS(cublasLtMatmul)(
      handle_, description, &one, weight.data, a.get(), x.data, b.get(), &zero, out.data, d.get(),
      out.data, d.get(), &found->second, workspace_.data(), workspace_.bytes(), stream));
}

}  // namespace lockstep::cuda
