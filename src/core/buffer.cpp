#include "core/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace lockstep {

Buffer allocate_host(std::size_t bytes) {
  // Anonymous mappings come zeroed and page-aligned, and give their memory back at once when freed.
  const std::size_t mapped = bytes == 0 ? 1 : bytes;
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  check(data != MAP_FAILED, "cannot allocate {} bytes of host memory: {}", bytes,
        std::strerror(errno));
  if (bytes >= (std::size_t{1} << 22)) madvise(data, mapped, MADV_HUGEPAGE);
  return Buffer(data, bytes, [mapped](void* memory) { munmap(memory, mapped); });
}

}  // namespace lockstep
