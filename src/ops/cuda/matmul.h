// Matmul: matrix products for many rows, through cuBLASLt.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <map>
#include <string>
#include <tuple>

#include "core/buffer.h"
#include "ops/ops.h"

namespace lockstep::cuda {

// Of the cuBLASLt that is used: "12.9.1". Throws Error when it cannot be loaded.
std::string cublaslt_version();

// Elements between the rows of a matrix: in_features rounded up to whole 16 bytes.
std::int64_t leading_dimension(const Matrix& matrix);

// Belongs to one rank. Sums are in cuBLASLt's order, which differs with the shape.
class Matmul {
 public:
  explicit Matmul(Buffer workspace);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  // out = x * weight^T.  x [rows, in_features] in the weight's dtype, out [rows, out_features] in
  // float32 or the weight's dtype.
  void multiply(const Tensor& out, const Tensor& x, const Matrix& weight, cudaStream_t stream);

 private:
  using Key = std::tuple<std::int64_t, std::int64_t, std::int64_t, DType, DType>;

  Buffer workspace_;
  cublasLtHandle_t handle_ = nullptr;
  std::map<Key, cublasLtMatmulAlgo_t> algorithms_;  // by rows, out_features, in_features, dtypes
};

}  // namespace lockstep::cuda
