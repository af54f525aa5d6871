// Weights: making, filling and viewing them, and embedding look-ups.
#include <algorithm>
#include <cstring>
#include <memory>

#include "core/check.h"
#include "core/convert.h"
#include "ops/cpu/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed.h"

namespace lockstep::cpu {
namespace {

bool is_floating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16;
}

// Conversions from one dtype (kFrom) to another (kTo), both in their storage types.
template <DType kType>
using Storage = std::conditional_t<kType == DType::kFloat32, float, std::uint16_t>;

template <DType kFrom, DType kTo>
Storage<kTo> converted(Storage<kFrom> value) {
  if constexpr (kFrom == kTo) {
    return value;
  } else {
    float number;
    if constexpr (kFrom == DType::kBFloat16)
      number = bfloat16_to_float(value);
    else if constexpr (kFrom == DType::kFloat16)
      number = float16_to_float(value);
    else
      number = value;
    if constexpr (kTo == DType::kBFloat16)
      return float_to_bfloat16(number);
    else if constexpr (kTo == DType::kFloat16)
      return float_to_float16(number);
    else
      return number;
  }
}

// Calls function.template operator()<dtype>() for the floating-point dtype.
template <typename Function>
void with_dtype(DType dtype, const Function& function) {
  switch (dtype) {
    case DType::kFloat32:
      return function.template operator()<DType::kFloat32>();
    case DType::kBFloat16:
      return function.template operator()<DType::kBFloat16>();
    default:
      return function.template operator()<DType::kFloat16>();
  }
}

// Writes rows [first, first + count), all of one panel.
template <DType kFrom, DType kTo>
void write_panel(Storage<kTo>* data, const PackedLayout& layout, std::size_t first,
                 const Storage<kFrom>* rows, std::size_t count, std::size_t columns) {
  Storage<kTo>* panel = data + layout.row_offset(first);
  for (std::size_t begin = 0; begin < columns; begin += layout.leaf_size) {
    Storage<kTo>* to = panel + layout.column_offset(begin);
    const std::size_t end = std::min(columns, begin + layout.leaf_size);
    for (std::size_t column = begin; column < end; ++column, to += layout.step())
      for (std::size_t lane = 0; lane < count; ++lane)
        to[lane] = converted<kFrom, kTo>(rows[lane * columns + column]);
  }
}

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

}  // namespace

WeightArena::Piece WeightArena::allocate(std::size_t bytes) {
  const auto address = [](const Buffer& buffer) {
    return reinterpret_cast<std::uintptr_t>(buffer.data());
  };
  // A chunk's first huge page begins within the first kHugePage bytes; nothing before it is
  // touched.
  const auto make_chunk = [&](std::size_t size) {
    check(size <= SIZE_MAX - kHugePage, "cannot allocate {} bytes for a weight", size);
    return std::make_shared<const Buffer>(allocate_host(size + kHugePage));
  };
  if (bytes > kChunk / 2) {
    auto own = make_chunk(bytes);
    return {own, reinterpret_cast<void*>(round_up(address(*own), kHugePage))};
  }
  if (chunk_ == nullptr || round_up(used_, kAlignment) + bytes > chunk_->bytes()) {
    chunk_ = make_chunk(kChunk);
    used_ = round_up(address(*chunk_), kHugePage) - address(*chunk_);
  }
  const std::size_t begin = round_up(used_, kAlignment);
  used_ = begin + bytes;
  return {chunk_, static_cast<char*>(chunk_->data()) + begin};
}

Matrix CpuOps::make_matrix(std::int64_t out_features, std::int64_t in_features, int leaves,
                           DType dtype) {
  check(out_features >= 0 && in_features >= 0, "a matrix cannot have {} x {} elements",
        out_features, in_features);
  check(leaves >= 1 && leaves <= kLeaves, "a matrix has 1 to {} leaves, not {}", kLeaves, leaves);
  check(is_floating(dtype), "a matrix must be float32, bfloat16 or float16, not {}",
        name_of(dtype));
  Matrix matrix{out_features, in_features, leaves, dtype, nullptr, nullptr, 0};
  // Padding adds less than kPanel rows and `leaves` columns: these sums cannot hide an overflow.
  std::int64_t padded_rows, padded_columns, elements, bytes;
  const bool overflow =
      __builtin_add_overflow(out_features, std::int64_t{kPanel} - 1, &padded_rows) ||
      __builtin_add_overflow(in_features, std::int64_t{leaves} - 1, &padded_columns) ||
      __builtin_mul_overflow(padded_rows, padded_columns, &elements) ||
      __builtin_mul_overflow(elements, static_cast<std::int64_t>(size_of(dtype)), &bytes);
  check(!overflow, "the size of a matrix of {} x {} elements overflows", out_features, in_features);
  const PackedLayout layout(matrix);
  matrix.bytes = layout.panels * layout.panel_size() * size_of(dtype);
  const WeightArena::Piece piece = weights_.allocate(matrix.bytes);
  matrix.storage = piece.storage;
  matrix.data = piece.data;
  return matrix;
}

void CpuOps::write_rows(const Matrix& matrix, std::int64_t first_row, const Tensor& rows) {
  check_table("write_rows", "rows", rows);
  check(is_floating(rows.dtype), "write_rows: rows must be float32, bfloat16 or float16, found {}",
        name_of(rows.dtype));
  check(rows.shape[1] == matrix.in_features, "write_rows: rows must have {} columns, found {}",
        matrix.in_features, rows.shape[1]);
  const std::int64_t count = rows.shape[0];
  check(first_row >= 0 && first_row <= matrix.out_features &&
            count <= matrix.out_features - first_row,
        "write_rows: rows [{}, {} + {}) are not within the matrix's {}", first_row, first_row,
        count, matrix.out_features);

  const PackedLayout layout(matrix);
  const auto columns = static_cast<std::size_t>(matrix.in_features);
  const auto end = static_cast<std::size_t>(first_row + count);
  with_dtype(rows.dtype, [&]<DType kFrom>() {
    with_dtype(matrix.dtype, [&]<DType kTo>() {
      const auto* from = rows.as<const Storage<kFrom>>();
      auto* to = static_cast<Storage<kTo>*>(matrix.data);
      for (auto row = static_cast<std::size_t>(first_row); row < end;) {
        const std::size_t n = std::min(end - row, kPanel - row % kPanel);
        write_panel<kFrom, kTo>(to, layout, row, from, n, columns);
        from += n * columns;
        row += n;
      }
    });
  });
}

Matrix CpuOps::row_view(const Matrix& matrix, std::int64_t begin, std::int64_t end) {
  check(begin >= 0 && begin <= end && end <= matrix.out_features,
        "row_view: rows [{}, {}) are not within the matrix's {}", begin, end, matrix.out_features);
  check(begin % kRowBlock == 0 || begin == end,
        "row_view: the first row must be a multiple of {}, found {}", kRowBlock, begin);
  Matrix view = matrix;
  view.out_features = end - begin;
  const PackedLayout layout(view);
  const std::size_t panel_bytes = layout.panel_size() * size_of(matrix.dtype);
  view.data =
      static_cast<char*>(matrix.data) + static_cast<std::size_t>(begin) / kPanel * panel_bytes;
  view.bytes = layout.panels * panel_bytes;
  return view;
}

void CpuOps::embedding(const Tensor& out, const Matrix& table, const Tensor& ids) {
  const std::int64_t rows = ids.num_rows();
  check_tensor("embedding", "ids", ids, DType::kInt32, {rows});
  check_tensor("embedding", "out", out, DType::kFloat32, {rows, table.in_features});
  const PackedLayout layout(table);
  const auto columns = static_cast<std::size_t>(table.in_features);
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int32_t id = ids.as<const std::int32_t>()[row];
    check(id >= 0 && id < table.out_features, "embedding: token id {} is not within [0, {})", id,
          table.out_features);
    float* to = out.as<float>() + row * table.in_features;
    with_dtype(table.dtype, [&]<DType kType>() {
      const auto* from = static_cast<const Storage<kType>*>(table.data) +
                         layout.row_offset(static_cast<std::size_t>(id));
      for (std::size_t begin = 0; begin < columns; begin += layout.leaf_size) {
        const auto* weight = from + layout.column_offset(begin);
        const std::size_t end = std::min(columns, begin + layout.leaf_size);
        for (std::size_t column = begin; column < end; ++column, weight += layout.step())
          to[column] = converted<kType, DType::kFloat32>(*weight);
      }
    });
  }
}

}  // namespace lockstep::cpu
