// What a tensor map describes, and copies by it.
#pragma once

#include <array>
#include <cstddef>

namespace simulated_gpu {

// Bytes of one of its boxes, parts beyond the tensor included.
std::size_t bytes_of_box(const void* map);
// Copies the box that begins there, the innermost dimension first, with zeros for what is beyond
// the tensor and pieces of 16 bytes exchanged as for swizzles of 128 bytes. Returns bytes_of_box().
std::size_t copy_box(void* to, const void* map, const std::array<int, 4>& at);

}  // namespace simulated_gpu
