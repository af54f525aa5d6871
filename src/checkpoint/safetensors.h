// The header of a safetensors file as checked, immutable data.
// Format: the safetensors specification: 8 bytes of header length (little-endian), a JSON object,
// then the data, without holes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file.h"

namespace lockstep {

struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // "BF16"
  std::vector<std::int64_t> shape;
  std::uint64_t offset = 0;  // from the start of the file
  std::uint64_t bytes = 0;
};

// In the order of their data. Throws Error, naming file and tensor, for truncation, a header that
// is no such JSON, unknown dtypes, sizes whose product overflows or is not what the offsets say,
// offsets that overlap, leave holes or leave the file, and duplicate names.
std::vector<SafetensorsTensor> read_safetensors_header(const File& file);

}  // namespace lockstep
