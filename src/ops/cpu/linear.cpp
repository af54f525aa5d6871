// Linear layers: every output is the canonical sum (docs/canonical-sum.md). A leaf is summed strictly in the
// order of its columns into one float32 with fused multiply-adds; SIMD lanes run over outputs. So neither the
// width of the vectors, nor blocking, nor the number of rows can be seen in the result.
#include "ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/cache_control.h>

#include <algorithm>
#include <array>
#include <utility>

#include "ops/cpu/checks.h"
#include "ops/cpu/cpu_ops.h"
#include "ops/cpu/packed.h"
#include "ops/cpu/simd-inl.h"

#ifndef LOCKSTEP_OPS_CPU_LINEAR_ONCE_
#define LOCKSTEP_OPS_CPU_LINEAR_ONCE_
namespace lockstep::cpu {

struct LinearArguments {
  const float* x;  // [rows, columns]
  std::size_t rows;
  std::size_t columns;
  const void* weight;
  DType dtype;
  PackedLayout layout;
  const float* bias;  // [out_features] or null
  float* out;         // [rows, out_features]
  std::size_t out_features;
  float* scratch;  // linear_scratch() floats
};

// Of the blocked path: rows, steps of a leaf, and (at most) outputs that are worked on at once. The
// weights of a block are unpacked once and used by all rows; they fit the second-level cache.
inline constexpr std::size_t kBlockRows = 96;
inline constexpr std::size_t kBlockSteps = 128;
inline constexpr std::size_t kMaxBlockColumns = 2 * kPanel;

inline std::size_t linear_scratch(std::size_t rows, const PackedLayout& layout) {
  rows = std::min(rows, kBlockRows);
  const std::size_t x = rows * layout.leaves * layout.leaf_size;
  const std::size_t weights = layout.leaves * kBlockSteps * kMaxBlockColumns;
  const std::size_t sums = layout.leaves * rows * kMaxBlockColumns;
  return x + weights + sums;
}

}  // namespace lockstep::cpu
#endif  // once

HWY_BEFORE_NAMESPACE();
namespace lockstep::cpu::HWY_NAMESPACE {

// Adds the leaves' sums of one panel, `stride` floats apart, in the canonical tree, adds the bias, and
// writes the first `count` outputs.
HWY_INLINE void finish(const float* sums, std::size_t stride, std::size_t leaves, const float* bias,
                       float* out, std::size_t count) {
  float result[kPanel];
  for (std::size_t lane = 0; lane < kPanel; lane += kLanes) {
    Vector tree[kLeaves];
    for (std::size_t leaf = 0; leaf < leaves; ++leaf) tree[leaf] = load(sums + leaf * stride + lane);
    for (std::size_t half = 1; half < leaves; half *= 2)
      for (std::size_t leaf = 0; leaf + half < leaves; leaf += 2 * half)
        tree[leaf] = hn::Add(tree[leaf], tree[leaf + half]);
    store(tree[0], result + lane);
  }
  if (bias != nullptr) {
    for (std::size_t i = 0; i < count; ++i) out[i] = result[i] + bias[i];
  } else {
    std::copy(result, result + count, out);
  }
}

// Packs x[rows, columns] as [leaf][step][row], or for one row and `leaf_last` as [step][leaf]; what
// the leaves have beyond the columns is zero.
HWY_INLINE void pack(const float* x, std::size_t columns, std::size_t rows,
                     const PackedLayout& layout, std::size_t leaf_stride, std::size_t step_stride,
                     float* packed) {
  for (std::size_t leaf = 0; leaf < layout.leaves; ++leaf) {
    const std::size_t begin = std::min(columns, leaf * layout.leaf_size);
    const std::size_t count = std::min(columns - begin, layout.leaf_size);
    float* to = packed + leaf * leaf_stride;
    for (std::size_t step = 0; step < count; ++step, to += step_stride)
      for (std::size_t row = 0; row < rows; ++row) to[row] = x[row * columns + begin + step];
    for (std::size_t step = count; step < layout.leaf_size; ++step, to += step_stride)
      for (std::size_t row = 0; row < rows; ++row) to[row] = 0.0f;
  }
}

// ---- One row: the weights are streamed once, straight from memory.

// How far ahead of its use a weight is asked for.
inline constexpr std::size_t kPrefetchBytes = 1024;
// Where a panel takes several passes, over parts of its rows, it goes through the first-level cache
// in pieces of so many steps.
inline constexpr std::size_t kRowSteps = 32;

// sums[panel][leaf][row of the panel] += the products of `steps` steps, for kPanels panels and kWidth
// leaves. weights: the first panel's first step; x: [step][leaf].
template <typename T, std::size_t kPanels, std::size_t kWidth>
void accumulate(const T* weights, const PackedLayout& layout, const float* x, std::size_t steps,
                float* sums) {
  for (std::size_t lane = 0; lane < kPanel; lane += kLanes) {
    Vector sum[kPanels][kWidth];
#pragma GCC unroll 8
    for (std::size_t panel = 0; panel < kPanels; ++panel)
#pragma GCC unroll 8
      for (std::size_t leaf = 0; leaf < kWidth; ++leaf)
        sum[panel][leaf] = load(sums + (panel * layout.leaves + leaf) * kPanel + lane);
    const T* at = weights + lane;
    const float* factor = x;
    for (std::size_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
      for (std::size_t panel = 0; panel < kPanels; ++panel) {
        const T* from = at + panel * layout.panel_size();
        if (lane == 0) {
#pragma GCC unroll 8
          for (std::size_t line = 0; line < kWidth * kPanel * sizeof(T); line += 64)
            hwy::Prefetch(reinterpret_cast<const char*>(from) + kPrefetchBytes + line);
        }
#pragma GCC unroll 8
        for (std::size_t leaf = 0; leaf < kWidth; ++leaf)
          sum[panel][leaf] = fused_multiply_add(load(from + leaf * kPanel),
                                                hn::Set(Floats(), factor[leaf]), sum[panel][leaf]);
      }
      at += layout.step();
      factor += layout.leaves;
    }
#pragma GCC unroll 8
    for (std::size_t panel = 0; panel < kPanels; ++panel)
#pragma GCC unroll 8
      for (std::size_t leaf = 0; leaf < kWidth; ++leaf)
        store(sum[panel][leaf], sums + (panel * layout.leaves + leaf) * kPanel + lane);
  }
}

// kPanels panels from `panel` on. Whole sets of leaves for which 8 sums can be kept going run in one
// go; other numbers of leaves are taken by eights, fours, twos and ones.
template <typename T, std::size_t kPanels>
void multiply_row(const LinearArguments& a, const float* x, std::size_t panel) {
  const PackedLayout& layout = a.layout;
  const T* weights = static_cast<const T*>(a.weight) + panel * layout.panel_size();
  float sums[kLeaves * kPanel] = {};
  const std::size_t piece = kLanes == kPanel ? layout.leaf_size : kRowSteps;
  for (std::size_t step = 0; step < layout.leaf_size; step += piece) {
    const std::size_t steps = std::min(piece, layout.leaf_size - step);
    const T* w = weights + step * layout.step();
    const float* factors = x + step * layout.leaves;
    if constexpr (kPanels > 1) {
      accumulate<T, kPanels, kLeaves / kPanels>(w, layout, factors, steps, sums);
    } else {
      for (std::size_t leaf = 0; leaf < layout.leaves;) {
        const std::size_t left = layout.leaves - leaf;
        const T* from = w + leaf * kPanel;
        float* to = sums + leaf * kPanel;
        if (left >= 8) {
          accumulate<T, 1, 8>(from, layout, factors + leaf, steps, to);
          leaf += 8;
        } else if (left >= 4) {
          accumulate<T, 1, 4>(from, layout, factors + leaf, steps, to);
          leaf += 4;
        } else if (left >= 2) {
          accumulate<T, 1, 2>(from, layout, factors + leaf, steps, to);
          leaf += 2;
        } else {
          accumulate<T, 1, 1>(from, layout, factors + leaf, steps, to);
          leaf += 1;
        }
      }
    }
  }
  for (std::size_t i = 0; i < kPanels; ++i) {
    const std::size_t first = (panel + i) * kPanel;
    finish(sums + i * layout.leaves * kPanel, kPanel, layout.leaves,
           a.bias == nullptr ? nullptr : a.bias + first, a.out + first,
           std::min(kPanel, a.out_features - first));
  }
}

template <typename T>
void linear_row(const LinearArguments& a) {
  float* x = a.scratch;
  pack(a.x, a.columns, 1, a.layout, 1, a.layout.leaves, x);
  const std::size_t panels = a.layout.panels;
  std::size_t panel = 0;
  switch (a.layout.leaves) {
    case 4:
      for (; panel + 2 <= panels; panel += 2) multiply_row<T, 2>(a, x, panel);
      break;
    case 2:
      for (; panel + 4 <= panels; panel += 4) multiply_row<T, 4>(a, x, panel);
      break;
    case 1:
      for (; panel + 8 <= panels; panel += 8) multiply_row<T, 8>(a, x, panel);
      break;
  }
  for (; panel < panels; ++panel) multiply_row<T, 1>(a, x, panel);
}

// ---- Several rows: a block of weights is unpacked to float32 and used by groups of rows, whose sums
// are kept in registers.

inline constexpr std::size_t kColumns = kLanes == kPanel ? 2 * kPanel : kPanel;
inline constexpr std::size_t kVectors = kColumns / kLanes;
// Rows of a group: as many as leave registers for a step's weights and one factor.
inline constexpr std::size_t kGroupRows = HWY_MAX(4, kRegisters * 3 / 4 / kVectors);
static_assert(kBlockRows % kGroupRows == 0 && kColumns <= kMaxBlockColumns);

// sums[row][column] += x[step][row] * weights[step][column], step after step.
template <std::size_t kRows>
void multiply_group(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weights,
                    std::size_t steps, float* HWY_RESTRICT sums) {
  Vector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (std::size_t row = 0; row < kRows; ++row)
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v)
      sum[row][v] = load(sums + row * kColumns + v * kLanes);
  for (std::size_t step = 0; step < steps; ++step) {
    Vector weight[kVectors];
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v) weight[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
    for (std::size_t row = 0; row < kRows; ++row) {
      const Vector factor = hn::Set(Floats(), x[row]);
#pragma GCC unroll 16
      for (std::size_t v = 0; v < kVectors; ++v)
        sum[row][v] = fused_multiply_add(weight[v], factor, sum[row][v]);
    }
    x += kRows;
    weights += kColumns;
  }
#pragma GCC unroll 16
  for (std::size_t row = 0; row < kRows; ++row)
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v)
      store(sum[row][v], sums + row * kColumns + v * kLanes);
}

using MultiplyGroup = void (*)(const float*, const float*, std::size_t, float*);

template <std::size_t... kRows>
constexpr std::array<MultiplyGroup, sizeof...(kRows)> group_kernels(std::index_sequence<kRows...>) {
  return {&multiply_group<kRows + 1>...};
}

// `steps` steps of kColumns / kPanel panels (those that are there; zeros for the others) as
// [leaf][step][column].
template <typename T>
void unpack(const T* weights, const PackedLayout& layout, std::size_t panels, std::size_t steps,
            float* unpacked) {
  for (std::size_t step = 0; step < steps; ++step) {
    for (std::size_t panel = 0; panel < kColumns / kPanel; ++panel) {
      const T* from = weights + panel * layout.panel_size() + step * layout.step();
      float* to = unpacked + step * kColumns + panel * kPanel;
      for (std::size_t leaf = 0; leaf < layout.leaves; ++leaf, to += steps * kColumns)
        for (std::size_t lane = 0; lane < kPanel; lane += kLanes)
          store(panel < panels ? load(from + leaf * kPanel + lane) : hn::Zero(Floats()), to + lane);
    }
  }
}

// The rows of a block, dealt into groups as even as possible, with x packed as [group][leaf][step][row].
struct RowGroups {
  RowGroups(std::size_t block_rows)
      : rows(block_rows), count((rows + kGroupRows - 1) / kGroupRows) {}
  std::size_t size(std::size_t group) const { return rows / count + (group < rows % count); }

  std::size_t rows;
  std::size_t count;
};

// Outputs of kColumns / kPanel panels from `panel` on, for one block of rows.
template <typename T>
void multiply_block(const LinearArguments& a, const RowGroups& groups, const float* x,
                    std::size_t panel, float* unpacked, float* sums, float* out) {
  static constexpr auto kKernels = group_kernels(std::make_index_sequence<kGroupRows>());
  const PackedLayout& layout = a.layout;
  const std::size_t panels = std::min(kColumns / kPanel, layout.panels - panel);
  const T* weights = static_cast<const T*>(a.weight) + panel * layout.panel_size();
  std::fill_n(sums, layout.leaves * groups.rows * kColumns, 0.0f);
  for (std::size_t step = 0; step < layout.leaf_size; step += kBlockSteps) {
    const std::size_t steps = std::min(kBlockSteps, layout.leaf_size - step);
    unpack(weights + step * layout.step(), layout, panels, steps, unpacked);
    for (std::size_t leaf = 0; leaf < layout.leaves; ++leaf) {
      std::size_t first = 0;  // row of the group
      for (std::size_t group = 0; group < groups.count; ++group) {
        const std::size_t rows = groups.size(group);
        const float* factors = x + (first * layout.leaves + leaf * rows) * layout.leaf_size;
        kKernels[rows - 1](factors + step * rows, unpacked + leaf * steps * kColumns, steps,
                           sums + (leaf * groups.rows + first) * kColumns);
        first += rows;
      }
    }
  }
  for (std::size_t row = 0; row < groups.rows; ++row) {
    for (std::size_t i = 0; i < panels; ++i) {
      const std::size_t first = (panel + i) * kPanel;
      finish(sums + row * kColumns + i * kPanel, groups.rows * kColumns, layout.leaves,
             a.bias == nullptr ? nullptr : a.bias + first, out + row * a.out_features + first,
             std::min(kPanel, a.out_features - first));
    }
  }
}

template <typename T>
void linear_rows(const LinearArguments& a) {
  const PackedLayout& layout = a.layout;
  const std::size_t padded_columns = layout.leaves * layout.leaf_size;
  float* unpacked = a.scratch;
  float* sums = unpacked + layout.leaves * kBlockSteps * kColumns;
  for (std::size_t begin = 0; begin < a.rows; begin += kBlockRows) {
    const RowGroups groups(std::min(kBlockRows, a.rows - begin));
    float* x = sums + layout.leaves * groups.rows * kColumns;
    std::size_t first = 0;
    for (std::size_t group = 0; group < groups.count; ++group) {
      const std::size_t rows = groups.size(group);
      pack(a.x + (begin + first) * a.columns, a.columns, rows, layout, layout.leaf_size * rows, rows,
           x + first * padded_columns);
      first += rows;
    }
    for (std::size_t panel = 0; panel < layout.panels; panel += kColumns / kPanel)
      multiply_block<T>(a, groups, x, panel, unpacked, sums, a.out + begin * a.out_features);
  }
}

void linear(const LinearArguments& a) {
  const bool single = a.rows == 1;
  switch (a.dtype) {
    case DType::kFloat32:
      return single ? linear_row<float>(a) : linear_rows<float>(a);
    case DType::kBFloat16:
      return single ? linear_row<BFloat16>(a) : linear_rows<BFloat16>(a);
    default:
      return single ? linear_row<Float16>(a) : linear_rows<Float16>(a);
  }
}

}  // namespace lockstep::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lockstep::cpu {
HWY_EXPORT(linear);

void CpuOps::linear(const Tensor& out, const Tensor& x, const Matrix& weight, const Tensor* bias) {
  const std::int64_t rows = x.num_rows();
  check_tensor("linear", "x", x, DType::kFloat32, {rows, weight.in_features});
  check_tensor("linear", "out", out, DType::kFloat32, {rows, weight.out_features});
  if (bias != nullptr)
    check_tensor("linear", "bias", *bias, DType::kFloat32, {weight.out_features});
  check(weight.data != nullptr, "linear: the weight was not made by make_matrix()");
  if (rows == 0 || weight.out_features == 0) return;
  const PackedLayout layout(weight);
  const auto row_count = static_cast<std::size_t>(rows);
  HWY_DYNAMIC_DISPATCH(linear)
  ({x.as<const float>(), row_count, static_cast<std::size_t>(weight.in_features), weight.data,
    weight.dtype, layout, bias == nullptr ? nullptr : bias->as<const float>(), out.as<float>(),
    static_cast<std::size_t>(weight.out_features),
    scratch_.floats(linear_scratch(row_count, layout))});
}

}  // namespace lockstep::cpu
#endif  // HWY_ONCE
