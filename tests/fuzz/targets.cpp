#include "targets.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/file.h"
#include "checkpoint/formats.h"
#include "checkpoint/gguf.h"
#include "checkpoint/json.h"
#include "checkpoint/safetensors.h"
#include "lockstep/error.h"

namespace lockstep::fuzz {
namespace {

// A file in memory; gone at the end.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size) : descriptor_(::memfd_create("fuzz", 0)) {
    while (size > 0) {
      const ssize_t count = ::write(descriptor_, data, size);
      require(count > 0);
      data += count;
      size -= static_cast<std::size_t>(count);
    }
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

  static void require(bool condition) {
    if (!condition) std::abort();
  }

 private:
  int descriptor_;
};

void require_within(std::uint64_t offset, std::uint64_t bytes, std::uint64_t size) {
  MemoryFile::require(offset <= size && bytes <= size - offset);
}

void read_first_rows(const Checkpoint& checkpoint) {
  std::vector<char> row;
  for (const TensorInfo& info : checkpoint.tensors()) {
    const std::int64_t columns = info.shape.rank() == 1 ? 1 : info.shape[1];
    row.resize(static_cast<std::size_t>(columns) * size_of(info.dtype));
    checkpoint.read(info, {0, 1}, {0, columns}, row.data());
  }
}

}  // namespace

void safetensors(const std::uint8_t* data, std::size_t size) try {
  const MemoryFile memory(data, size);
  std::uint64_t total = 0;
  for (const SafetensorsTensor& tensor : read_safetensors_header(File(memory.path()))) {
    require_within(tensor.offset, tensor.bytes, size);
    total += tensor.bytes;
  }
  MemoryFile::require(total <= size);
} catch (const Error&) {
}

void gguf(const std::uint8_t* data, std::size_t size) try {
  const MemoryFile memory(data, size);
  const GgufHeader header = read_gguf_header(memory.path());
  std::uint64_t total = 0;
  for (const GgufTensor& tensor : header.tensors) {
    require_within(tensor.offset, tensor.bytes, size);
    total += tensor.bytes;
  }
  MemoryFile::require(total <= size);
  read_first_rows(*open_gguf_checkpoint(memory.path()));
} catch (const Error&) {
}

void config(const std::uint8_t* data, std::size_t size) try {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const Config config = config_from_json(parse_json(text, "config.json"), "config.json");
  validate(config, "config.json");
  describe(config);
  MemoryFile::require(!expected_tensors(config).empty());
} catch (const Error&) {
}

}  // namespace lockstep::fuzz
