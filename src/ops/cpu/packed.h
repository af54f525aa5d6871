// Where the elements of a Matrix are on the CPU: the layout that linear() streams through.
//
// Rows are dealt into panels of kRowBlock = 16 (the last padded with zeros), columns into `leaves`
// leaves of leaf_size = ceil(in_features / leaves) (the last ones padded with zeros). In memory:
// [panel][place within the leaf][leaf][row within the panel], so that one pass through a panel
// advances all of its leaves' sums, 16 rows each, by one step after another.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/ops.h"

namespace lockstep::cpu {

inline constexpr std::size_t kPanel = kRowBlock;

struct PackedLayout {
  explicit PackedLayout(const Matrix& matrix)
      : leaves(static_cast<std::size_t>(matrix.leaves)),
        leaf_size((static_cast<std::size_t>(matrix.in_features) + leaves - 1) / leaves),
        panels((static_cast<std::size_t>(matrix.out_features) + kPanel - 1) / kPanel) {}

  std::size_t leaves;
  std::size_t leaf_size;
  std::size_t panels;

  // Elements of one step: what lies between a weight and the next one of the same row and leaf.
  std::size_t step() const { return leaves * kPanel; }
  std::size_t panel_size() const { return leaf_size * step(); }
  // Of row 0, column `column`; row r is kPanel-wise r panels' elements and lanes further on.
  std::size_t column_offset(std::size_t column) const {
    return (column % leaf_size) * step() + column / leaf_size * kPanel;
  }
  std::size_t row_offset(std::size_t row) const {
    return row / kPanel * panel_size() + row % kPanel;
  }
};

}  // namespace lockstep::cpu
