// Linear layers: every output is the canonical sum (docs/canonical-sum.md). A leaf is summed
// strictly in the order of its columns into one float32 with fused multiply-adds; SIMD lanes run
// over outputs. So neither the width of the vectors, nor blocking, nor the number of rows can be
// seen in the result.
#include "ops/cpu/simd_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/linear.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h.
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

// Of the path for many rows: rows, steps of a leaf, and (at most) outputs that are worked on at
// once. The weights of a block are unpacked once and used by all rows; they fit the second-level
// cache.
inline constexpr std::size_t kBlockRows = 192;
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

// Adds leaves' sums, `stride` floats apart, in the canonical tree.
HWY_INLINE Vector add_leaves(const float* sums, std::size_t stride, std::size_t leaves) {
  Vector tree[kLeaves];
  tree[0] = load(sums);
#pragma GCC unroll 8
  for (std::size_t leaf = 1; leaf < leaves; ++leaf) tree[leaf] = load(sums + leaf * stride);
#pragma GCC unroll 8
  for (std::size_t half = 1; half < leaves; half *= 2)
#pragma GCC unroll 8
    for (std::size_t leaf = 0; leaf + half < leaves; leaf += 2 * half)
      tree[leaf] = hn::Add(tree[leaf], tree[leaf + half]);
  return tree[0];
}

// One row's outputs of one panel: the tree, the bias, and only what is no padding.
HWY_INLINE void finish(const LinearArguments& a, const float* sums, std::size_t stride,
                       std::size_t row, std::size_t panel) {
  const std::size_t first = panel * kPanel;
  const std::size_t count = std::min(kPanel, a.out_features - first);
  float* out = a.out + row * a.out_features + first;
  float padded[kPanel];
  float* to = count == kPanel ? out : padded;
  const std::size_t leaves = a.layout.leaves;
  for (std::size_t lane = 0; lane < kPanel; lane += kLanes)
    store(
        leaves == 8 ? add_leaves(sums + lane, stride, 8) : add_leaves(sums + lane, stride, leaves),
        to + lane);
  if (to == padded) std::copy(padded, padded + count, out);
  if (a.bias != nullptr)
    for (std::size_t i = 0; i < count; ++i) out[i] += a.bias[first + i];
}

// Packs x[rows, columns] as [leaf][step][row], strides in floats; what the leaves have beyond the
// columns is zero.
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

// ---- Few rows: the weights are streamed once, straight from memory.

// For more rows than these it is faster to unpack the weights first (measured).
inline constexpr std::size_t kFewRows = kRegisters == 32 ? 64 : 16;

// Rows that share a load of the weights, and sums (of leaves, or of panels and leaves) of each of
// them that fit the registers.
inline constexpr std::size_t kMostRows = 3;
constexpr std::size_t sums_at_once(std::size_t rows) {
  return kRegisters * 3 / 4 / rows >= 8 ? 8 : 4;
}
// Weights are asked for ahead of their use, into the second-level cache (measured faster than into
// the first): by so many bytes where one pass is enough.
inline constexpr std::size_t kPrefetchBytes = 1024;
// Weights that take more passes, for more rows or for parts of a panel's rows, go through the
// first-level cache in pieces; meanwhile the next piece is asked for, by each pass a part.
inline constexpr std::size_t kPieceBytes = 16384;
inline constexpr std::size_t kLineBytes = 64;
struct Prefetch {
  std::size_t ahead;   // bytes from a weight to the one that is asked for
  std::size_t passes;  // over these weights
  std::size_t pass;
};

// The rows that go through a set of panels, with x packed as [row][step][leaf].
struct RowSet {
  const float* x;
  float* sums;  // [row][panel][leaf][row of the panel]
  std::size_t x_stride;
  std::size_t sums_stride;
};

// Adds the products of `steps` steps to the sums of kRows rows, kPanels panels and kWidth leaves.
// weights: the first panel's first step.
template <typename T, std::size_t kRows, std::size_t kPanels, std::size_t kWidth>
void accumulate(const T* weights, const PackedLayout& layout, const RowSet& set, std::size_t steps,
                Prefetch prefetch) {
  for (std::size_t lane = 0; lane < kPanel; lane += kLanes, ++prefetch.pass) {
    Vector sum[kRows][kPanels][kWidth];
    const auto place = [&](std::size_t row, std::size_t panel, std::size_t leaf) HWY_ATTR {
      return set.sums + row * set.sums_stride + (panel * layout.leaves + leaf) * kPanel + lane;
    };
#pragma GCC unroll 8
    for (std::size_t row = 0; row < kRows; ++row)
#pragma GCC unroll 8
      for (std::size_t panel = 0; panel < kPanels; ++panel)
#pragma GCC unroll 8
        for (std::size_t leaf = 0; leaf < kWidth; ++leaf)
          sum[row][panel][leaf] = load(place(row, panel, leaf));
    const T* at = weights + lane;
    const float* factors = set.x;
    for (std::size_t step = 0; step < steps; ++step) {
#pragma GCC unroll 8
      for (std::size_t panel = 0; panel < kPanels; ++panel) {
        const T* from = at + panel * layout.panel_size();
        const char* wanted = reinterpret_cast<const char*>(from) + prefetch.ahead;
        constexpr std::size_t kBytes = kWidth * kPanel * sizeof(T);
        if (prefetch.passes == 1) {
#pragma GCC unroll 8
          for (std::size_t line = 0; line < kBytes; line += kLineBytes)
            __builtin_prefetch(wanted + line, 0, 2);
        } else {
          for (std::size_t line = prefetch.pass * kLineBytes; line < kBytes;
               line += prefetch.passes * kLineBytes)
            __builtin_prefetch(wanted + line, 0, 2);
        }
#pragma GCC unroll 8
        for (std::size_t leaf = 0; leaf < kWidth; ++leaf) {
          const Vector weight = load(from + leaf * kPanel);
#pragma GCC unroll 8
          for (std::size_t row = 0; row < kRows; ++row)
            sum[row][panel][leaf] =
                fused_multiply_add(weight, hn::Set(Floats(), factors[row * set.x_stride + leaf]),
                                   sum[row][panel][leaf]);
        }
      }
      at += layout.step();
      factors += layout.leaves;
    }
#pragma GCC unroll 8
    for (std::size_t row = 0; row < kRows; ++row)
#pragma GCC unroll 8
      for (std::size_t panel = 0; panel < kPanels; ++panel)
#pragma GCC unroll 8
        for (std::size_t leaf = 0; leaf < kWidth; ++leaf)
          store(sum[row][panel][leaf], place(row, panel, leaf));
  }
}

// All leaves of `panels` panels (1, 2 or 4), as many sums at once as there are registers for.
template <typename T, std::size_t kRows>
void accumulate_leaves(const T* weights, const PackedLayout& layout, std::size_t panels, RowSet set,
                       std::size_t steps, const Prefetch& prefetch) {
  constexpr std::size_t kMost = sums_at_once(kRows);
  if (panels == 4 && layout.leaves == 1)
    return accumulate<T, kRows, 4, 1>(weights, layout, set, steps, prefetch);
  if (panels == 4) return accumulate<T, kRows, 4, kMost / 4>(weights, layout, set, steps, prefetch);
  if (panels == 2) return accumulate<T, kRows, 2, kMost / 2>(weights, layout, set, steps, prefetch);
  for (std::size_t leaf = 0; leaf < layout.leaves;) {
    const std::size_t left = layout.leaves - leaf;
    const std::size_t width = left >= kMost ? kMost : left >= 4 ? 4 : left >= 2 ? 2 : 1;
    if (width == kMost)
      accumulate<T, kRows, 1, kMost>(weights, layout, set, steps, prefetch);
    else if (width == 4)
      accumulate<T, kRows, 1, 4>(weights, layout, set, steps, prefetch);
    else if (width == 2)
      accumulate<T, kRows, 1, 2>(weights, layout, set, steps, prefetch);
    else
      accumulate<T, kRows, 1, 1>(weights, layout, set, steps, prefetch);
    leaf += width;
    weights += width * kPanel;
    set.x += width;
    set.sums += width * kPanel;
  }
}

// The outputs of `panels` panels from `panel` on.
template <typename T>
void multiply_panels(const LinearArguments& a, const float* x, std::size_t panel,
                     std::size_t panels) {
  const PackedLayout& layout = a.layout;
  const T* weights = static_cast<const T*>(a.weight) + panel * layout.panel_size();
  float sums[kFewRows * kLeaves * kPanel];
  const RowSet all{x, sums, layout.leaves * layout.leaf_size, panels * layout.leaves * kPanel};
  std::fill_n(sums, a.rows * all.sums_stride, 0.0f);

  const std::size_t step_bytes = sizeof(T) * layout.step();
  const std::size_t groups = (a.rows + kMostRows - 1) / kMostRows;
  const std::size_t passes = groups * (kPanel / kLanes);
  const std::size_t most_steps = HWY_MAX(8, kPieceBytes / (step_bytes * panels));
  const std::size_t pieces =
      passes == 1 ? 1 : HWY_MAX(1, (layout.leaf_size + most_steps - 1) / most_steps);
  const std::size_t piece = (layout.leaf_size + pieces - 1) / pieces;
  // At the end of these panels the next ones are asked for, which are further away.
  const std::size_t ahead = passes == 1 ? kPrefetchBytes : piece * step_bytes;
  const std::size_t tail = panels == 1 ? 0 : std::min(layout.leaf_size, ahead / step_bytes);
  const std::size_t next_panels = (panels - 1) * layout.panel_size() * sizeof(T);
  for (std::size_t step = 0, steps; step < layout.leaf_size; step += steps) {
    const bool in_tail = step + tail >= layout.leaf_size;
    steps = std::min(piece, layout.leaf_size - step - (in_tail ? 0 : tail));
    const T* from = weights + step * layout.step();
    for (std::size_t group = 0, row = 0; group < groups; ++group) {
      const std::size_t rows = a.rows / groups + (group < a.rows % groups);
      const RowSet set{x + row * all.x_stride + step * layout.leaves, sums + row * all.sums_stride,
                       all.x_stride, all.sums_stride};
      const Prefetch prefetch{ahead + (in_tail ? next_panels : 0), passes,
                              group * (kPanel / kLanes)};
      if (rows == 1)
        accumulate_leaves<T, 1>(from, layout, panels, set, steps, prefetch);
      else if (rows == 2)
        accumulate_leaves<T, 2>(from, layout, panels, set, steps, prefetch);
      else
        accumulate_leaves<T, 3>(from, layout, panels, set, steps, prefetch);
      row += rows;
    }
  }
  for (std::size_t row = 0; row < a.rows; ++row)
    for (std::size_t i = 0; i < panels; ++i)
      finish(a, sums + row * all.sums_stride + i * layout.leaves * kPanel, kPanel, row, panel + i);
}

template <typename T>
void linear_few_rows(const LinearArguments& a) {
  const PackedLayout& layout = a.layout;
  float* x = a.scratch;
  for (std::size_t row = 0; row < a.rows; ++row)
    pack(a.x + row * a.columns, a.columns, 1, layout, 1, layout.leaves,
         x + row * layout.leaves * layout.leaf_size);
  // A leaf is a chain of dependent additions: where a panel has few, several panels run at once.
  // More than four would be more streams than memory likes.
  const std::size_t sums = sums_at_once(std::min(a.rows, kMostRows));
  const bool whole = layout.leaves == 1 || layout.leaves == 2 || layout.leaves == 4;
  const std::size_t at_once = whole ? std::min<std::size_t>(4, sums / layout.leaves) : 1;
  std::size_t panel = 0;
  for (; panel + at_once <= layout.panels; panel += at_once)
    multiply_panels<T>(a, x, panel, at_once);
  for (; panel < layout.panels; ++panel) multiply_panels<T>(a, x, panel, 1);
}

// ---- Many rows: a block of weights is unpacked to float32 and used by groups of rows, whose sums
// are kept in registers.

inline constexpr std::size_t kColumns = kLanes == kPanel ? 2 * kPanel : kPanel;
inline constexpr std::size_t kVectors = kColumns / kLanes;
// Rows of a group: as many as leave registers for a step's weights and one factor.
inline constexpr std::size_t kGroupRows = HWY_MAX(4, kRegisters * 3 / 4 / kVectors);
static_assert(kBlockRows % kGroupRows == 0 && kColumns <= kMaxBlockColumns);

// sums[row][column] += x[step][row] * weights[step][column], step after step; from zero if `fresh`.
template <std::size_t kRows>
void multiply_group(const float* HWY_RESTRICT x, const float* HWY_RESTRICT weights,
                    std::size_t steps, bool fresh, float* HWY_RESTRICT sums) {
  Vector sum[kRows][kVectors];
#pragma GCC unroll 16
  for (std::size_t row = 0; row < kRows; ++row)
#pragma GCC unroll 16
    for (std::size_t v = 0; v < kVectors; ++v)
      sum[row][v] = fresh ? hn::Zero(Floats()) : load(sums + row * kColumns + v * kLanes);
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

using MultiplyGroup = void (*)(const float*, const float*, std::size_t, bool, float*);

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

// The rows of a block, dealt into groups as even as possible, with x packed as
// [group][leaf][step][row].
struct RowGroups {
  RowGroups(std::size_t block_rows)
      : rows(block_rows), count((rows + kGroupRows - 1) / kGroupRows) {}
  std::size_t size(std::size_t group) const { return rows / count + (group < rows % count); }

  std::size_t rows;
  std::size_t count;
};

// Outputs of kColumns / kPanel panels from `panel` on, for one block of rows from `row` on.
template <typename T>
void multiply_block(const LinearArguments& a, const RowGroups& groups, const float* x,
                    std::size_t row, std::size_t panel, float* unpacked, float* sums) {
  static constexpr auto kKernels = group_kernels(std::make_index_sequence<kGroupRows>());
  const PackedLayout& layout = a.layout;
  const std::size_t panels = std::min(kColumns / kPanel, layout.panels - panel);
  const T* weights = static_cast<const T*>(a.weight) + panel * layout.panel_size();
  // Leaves of one block need no place for every group's sums: the one in the cache serves all.
  const std::size_t sums_stride =
      layout.leaf_size <= kBlockSteps ? 0 : layout.leaves * kColumns;  // of a row, between groups
  std::size_t step = 0;
  do {
    const std::size_t steps = std::min(kBlockSteps, layout.leaf_size - step);
    unpack(weights + step * layout.step(), layout, panels, steps, unpacked);
    for (std::size_t group = 0, first = 0; group < groups.count; ++group) {
      const std::size_t rows = groups.size(group);
      const float* factors = x + (first * layout.leaves * layout.leaf_size) + step * rows;
      float* group_sums = sums + first * sums_stride;  // [leaf][row][column]
      for (std::size_t leaf = 0; leaf < layout.leaves; ++leaf)
        kKernels[rows - 1](factors + leaf * layout.leaf_size * rows,
                           unpacked + leaf * steps * kColumns, steps, step == 0,
                           group_sums + leaf * rows * kColumns);
      if (step + steps == layout.leaf_size)
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t i = 0; i < panels; ++i)
            finish(a, group_sums + r * kColumns + i * kPanel, rows * kColumns, row + first + r,
                   panel + i);
      first += rows;
    }
    step += steps;
  } while (step < layout.leaf_size);
}

template <typename T>
void linear_many_rows(const LinearArguments& a) {
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
      pack(a.x + (begin + first) * a.columns, a.columns, rows, layout, layout.leaf_size * rows,
           rows, x + first * padded_columns);
      first += rows;
    }
    for (std::size_t panel = 0; panel < layout.panels; panel += kColumns / kPanel)
      multiply_block<T>(a, groups, x, begin, panel, unpacked, sums);
  }
}

void linear(const LinearArguments& a) {
  const bool few = a.rows <= kFewRows;
  switch (a.dtype) {
    case DType::kFloat32:
      return few ? linear_few_rows<float>(a) : linear_many_rows<float>(a);
    case DType::kBFloat16:
      return few ? linear_few_rows<BFloat16>(a) : linear_many_rows<BFloat16>(a);
    default:
      return few ? linear_few_rows<Float16>(a) : linear_many_rows<Float16>(a);
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
