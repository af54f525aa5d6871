// Descriptions of a matrix for Hopper's copies of boxes (tensor maps).
#pragma once

#include <cuda.h>

#include <cstdint>

namespace lockstep::cuda {

// A box has some rows and up to kBoxParts parts of kBoxPart columns. In shared memory it lies
// row after row, in pieces of 16 bytes: piece i of a part's eight is where i ^ (address / 128) % 8
// would be (SWIZZLE_128B), so that the same pieces of neighbouring rows of full width are in
// different banks.
inline constexpr int kBoxPart = 64, kBoxParts = 4;
inline constexpr int kBoxHeights = 3;

// The columns of a matrix are cut into leaves of equal size, and these into boxes, of which the
// last one may be narrower. To be a kernel's parameter.
struct BoxMaps {
  CUtensorMap full[kBoxHeights];    // if a leaf has room for one
  CUtensorMap narrow[kBoxHeights];  // if the last box of a leaf is
  CUtensorMap part;                 // one row of one part, from any column on
};

// Of a matrix of 16-bit elements, of `halves` x `rows` rows that are `columns` elements apart, a
// multiple of eight. A box has heights[i] rows of each half, if that is more than none, and up to
// `parts` parts. Leaves that are no multiple of kBoxPart have `part` alone.
BoxMaps make_box_maps(const void* data, int halves, std::int64_t rows, std::int64_t columns,
                      int leaf_size, int parts, const int (&heights)[kBoxHeights]);

// Of `rows` rows of 16-bit elements, the columns of which are cut into leaves of leaf_size, a
// multiple of kBoxPart. A box has `parts` parts, of each those of all leaves, of each leaf `height`
// rows; zeros where there are no more.
CUtensorMap make_input_map(const void* data, std::int64_t rows, int leaves, int leaf_size,
                           int parts, int height);

}  // namespace lockstep::cuda
