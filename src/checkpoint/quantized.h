// The element types of GGUF tensors: how many bytes they take and how they become float32.
// Formats: the ggml project's block quantisation. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace lockstep {

// ggml's numbers for its types; the ones that can be read here.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgmlTypeInfo {
  GgmlType type;
  const char* name;         // "Q4_K"
  std::int64_t block_size;  // elements of a block; 1 for plain types
  std::int64_t block_bytes;
  bool is_quantized() const { return block_size > 1; }
};

// Null for a type that cannot be read.
const GgmlTypeInfo* find_ggml_type(std::uint32_t type);
// For errors: "Q2_K (ggml type 10)"; "ggml type 99" for an unknown number.
std::string describe_ggml_type(std::uint32_t type);

// Expands `blocks` whole blocks at `in` to float32. Throws Error for a type that is not quantized.
// Every product and sum is rounded to float32 once, in the order that ggml's reference code has.
void dequantize(const GgmlTypeInfo& type, const std::byte* in, std::int64_t blocks, float* out);

}  // namespace lockstep
