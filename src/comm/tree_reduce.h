// The arithmetic of all_reduce: one fixed binary tree over the ranks (docs/canonical-sum.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "lockstep/comm.h"

namespace lockstep {

// float32, bfloat16, float16, int32, int64.
bool can_reduce(DType dtype);

// For every element of [begin, end): combines sources[0..n), one a rank, in the tree's order and
// writes the result to every destination, which may be a source. 16-bit floats are combined in
// float32 and rounded once; integer sums wrap; a NaN makes the maximum and the minimum NaN. Needs
// can_reduce(dtype).
void tree_reduce(DType dtype, ReduceOp op, std::span<const std::byte* const> sources,
                 std::span<std::byte* const> destinations, std::int64_t begin, std::int64_t end);

}  // namespace lockstep
