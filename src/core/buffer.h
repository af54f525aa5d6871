// Owned memory. A Tensor is a view of one, or of memory that somebody else owns.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "lockstep/tensor.h"

namespace lockstep {

// Movable, not copyable; frees its memory with the function it was made with.
class Buffer {
 public:
  Buffer() = default;
  Buffer(void* data, std::size_t bytes, std::function<void(void*)> free)
      : data_(data, std::move(free)), bytes_(bytes) {}

  void* data() const { return data_.get(); }
  std::size_t bytes() const { return bytes_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  std::unique_ptr<void, std::function<void(void*)>> data_{nullptr, [](void*) {}};
  std::size_t bytes_ = 0;
};

// A tensor together with its memory.
struct OwnedTensor {
  Buffer buffer;
  Tensor tensor;
};

// Zeroed host memory aligned to 64 bytes; the pages of a large buffer are not resident before they
// are touched. Throws Error when there is not enough.
Buffer allocate_host(std::size_t bytes);

}  // namespace lockstep
