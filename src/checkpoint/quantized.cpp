#include "checkpoint/quantized.h"

#include <array>
#include <bit>
#include <cstring>

#include "core/check.h"
#include "core/convert.h"

static_assert(std::endian::native == std::endian::little, "file formats are little-endian");

namespace lockstep {
namespace {

constexpr std::array<GgmlTypeInfo, 11> kTypes{{
    {GgmlType::kF32, "F32", 1, 4},
    {GgmlType::kF16, "F16", 1, 2},
    {GgmlType::kQ4_0, "Q4_0", 32, 18},
    {GgmlType::kQ4_1, "Q4_1", 32, 20},
    {GgmlType::kQ5_0, "Q5_0", 32, 22},
    {GgmlType::kQ5_1, "Q5_1", 32, 24},
    {GgmlType::kQ8_0, "Q8_0", 32, 34},
    {GgmlType::kQ4_K, "Q4_K", 256, 144},
    {GgmlType::kQ5_K, "Q5_K", 256, 176},
    {GgmlType::kQ6_K, "Q6_K", 256, 210},
    {GgmlType::kBF16, "BF16", 1, 2},
}};

// Types that exist but cannot be read, so that an error can name them.
struct OtherType {
  std::uint32_t type;
  const char* name;
};
constexpr std::array<OtherType, 20> kOtherTypes{{
    {9, "Q8_1"},    {10, "Q2_K"},    {11, "Q3_K"},  {15, "Q8_K"},   {16, "IQ2_XXS"},
    {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"}, {21, "IQ3_S"},
    {22, "IQ2_S"},  {23, "IQ4_XS"},  {24, "I8"},    {25, "I16"},    {26, "I32"},
    {27, "I64"},    {28, "F64"},     {29, "IQ1_M"}, {34, "TQ1_0"},  {35, "TQ2_0"},
}};

using Bytes = const std::uint8_t*;

std::uint16_t load_u16(Bytes in) {
  std::uint16_t bits;
  std::memcpy(&bits, in, sizeof(bits));
  return bits;
}

std::uint32_t load_u32(Bytes in) {
  std::uint32_t bits;
  std::memcpy(&bits, in, sizeof(bits));
  return bits;
}

float load_f16(Bytes in) { return float16_to_float(load_u16(in)); }

// The 32-element blocks. The low nibbles of 16 bytes are elements 0 to 15, the high ones 16 to 31;
// a fifth bit comes from bit i of a 32-bit word.

// f16 scale, nibbles: scale * (q - 8).
void dequantize_q4_0(Bytes in, float* out) {
  const float scale = load_f16(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>((in[2 + i] & 15) - 8);
    out[i + 16] = scale * static_cast<float>((in[2 + i] >> 4) - 8);
  }
}

// f16 scale, f16 minimum, nibbles: scale * q + minimum.
void dequantize_q4_1(Bytes in, float* out) {
  const float scale = load_f16(in);
  const float minimum = load_f16(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = scale * static_cast<float>(in[4 + i] & 15) + minimum;
    out[i + 16] = scale * static_cast<float>(in[4 + i] >> 4) + minimum;
  }
}

// f16 scale, fifth bits, nibbles: scale * (q - 16).
void dequantize_q5_0(Bytes in, float* out) {
  const float scale = load_f16(in);
  const std::uint32_t high = load_u32(in + 2);
  for (int i = 0; i < 16; ++i) {
    const auto low = static_cast<int>((in[6 + i] & 15) | ((high >> i & 1) << 4));
    const auto upper = static_cast<int>((in[6 + i] >> 4) | ((high >> (i + 16) & 1) << 4));
    out[i] = scale * static_cast<float>(low - 16);
    out[i + 16] = scale * static_cast<float>(upper - 16);
  }
}

// f16 scale, f16 minimum, fifth bits, nibbles: scale * q + minimum.
void dequantize_q5_1(Bytes in, float* out) {
  const float scale = load_f16(in);
  const float minimum = load_f16(in + 2);
  const std::uint32_t high = load_u32(in + 4);
  for (int i = 0; i < 16; ++i) {
    const auto low = (in[8 + i] & 15u) | ((high >> i & 1) << 4);
    const auto upper = (in[8 + i] >> 4) | ((high >> (i + 16) & 1) << 4);
    out[i] = scale * static_cast<float>(low) + minimum;
    out[i + 16] = scale * static_cast<float>(upper) + minimum;
  }
}

// f16 scale, signed bytes: scale * q.
void dequantize_q8_0(Bytes in, float* out) {
  const float scale = load_f16(in);
  for (int i = 0; i < 32; ++i)
    out[i] = scale * static_cast<float>(static_cast<std::int8_t>(in[2 + i]));
}

// The 256-element blocks ("K"). Eight groups of 32 have a 6-bit scale and a 6-bit minimum each,
// packed into 12 bytes: those of groups 0 to 3 in the low 6 bits of bytes 0 to 3 (scales) and 4 to
// 7 (minima); of groups 4 to 7, the low 4 bits in bytes 8 to 11, the high 2 in the top of bytes 0
// to 7.
struct ScaleAndMinimum {
  float scale;
  float minimum;
};

ScaleAndMinimum group_scale(Bytes packed, int group) {
  if (group < 4)
    return {static_cast<float>(packed[group] & 63), static_cast<float>(packed[group + 4] & 63)};
  const int scale = (packed[group + 4] & 15) | ((packed[group - 4] >> 6) << 4);
  const int minimum = (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4);
  return {static_cast<float>(scale), static_cast<float>(minimum)};
}

// f16 scale, f16 minimum, packed group scales, and nibbles: bytes 32g to 32g+31 hold group 2g in
// their low nibbles and group 2g+1 in their high ones.
void dequantize_q4_k(Bytes in, float* out) {
  const float scale = load_f16(in);
  const float minimum = load_f16(in + 2);
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = group_scale(in + 4, group);
    const float d = scale * packed.scale;
    const float m = minimum * packed.minimum;
    const Bytes nibbles = in + 16 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i)
      out[32 * group + i] = d * static_cast<float>(nibbles[i] >> shift & 15) - m;
  }
}

// As Q4_K, with a fifth bit: bit g of byte i of `high` belongs to element i of group g.
void dequantize_q5_k(Bytes in, float* out) {
  const float scale = load_f16(in);
  const float minimum = load_f16(in + 2);
  const Bytes high = in + 16;
  for (int group = 0; group < 8; ++group) {
    const ScaleAndMinimum packed = group_scale(in + 4, group);
    const float d = scale * packed.scale;
    const float m = minimum * packed.minimum;
    const Bytes nibbles = in + 48 + 32 * (group / 2);
    const int shift = 4 * (group % 2);
    for (int i = 0; i < 32; ++i) {
      const int q = (nibbles[i] >> shift & 15) | ((high[i] >> group & 1) << 4);
      out[32 * group + i] = d * static_cast<float>(q) - m;
    }
  }
}

// Low nibbles (128 bytes), upper two bits (64 bytes), sixteen signed 8-bit scales for 16 elements
// each, f16 scale: scale * group scale * (q - 32). Each half of 128 elements is four runs of 32.
void dequantize_q6_k(Bytes in, float* out) {
  const float scale = load_f16(in + 208);
  for (int run = 0; run < 8; ++run) {
    const int half = run / 4;
    const int quarter = run % 4;
    const Bytes nibbles = in + 64 * half + 32 * (quarter % 2);
    const Bytes upper = in + 128 + 32 * half;
    for (int i = 0; i < 32; ++i) {
      const auto group = static_cast<std::int8_t>(in[192 + 2 * run + i / 16]);
      const float d = scale * static_cast<float>(group);
      const int q =
          (nibbles[i] >> (4 * (quarter / 2)) & 15) | ((upper[i] >> (2 * quarter) & 3) << 4);
      out[32 * run + i] = d * static_cast<float>(q - 32);
    }
  }
}

using DequantizeBlock = void (*)(Bytes, float*);

DequantizeBlock block_function(const GgmlTypeInfo& type) {
  switch (type.type) {
    case GgmlType::kQ4_0:
      return dequantize_q4_0;
    case GgmlType::kQ4_1:
      return dequantize_q4_1;
    case GgmlType::kQ5_0:
      return dequantize_q5_0;
    case GgmlType::kQ5_1:
      return dequantize_q5_1;
    case GgmlType::kQ8_0:
      return dequantize_q8_0;
    case GgmlType::kQ4_K:
      return dequantize_q4_k;
    case GgmlType::kQ5_K:
      return dequantize_q5_k;
    case GgmlType::kQ6_K:
      return dequantize_q6_k;
    case GgmlType::kF32:
    case GgmlType::kF16:
    case GgmlType::kBF16:
      break;
  }
  fail("{} has no blocks to dequantize", type.name);
}

}  // namespace

const GgmlTypeInfo* find_ggml_type(std::uint32_t type) {
  for (const GgmlTypeInfo& info : kTypes)
    if (static_cast<std::uint32_t>(info.type) == type) return &info;
  return nullptr;
}

std::string describe_ggml_type(std::uint32_t type) {
  if (const GgmlTypeInfo* info = find_ggml_type(type)) return info->name;
  for (const OtherType& other : kOtherTypes)
    if (other.type == type) return fmt::format("{} (ggml type {})", other.name, type);
  return fmt::format("ggml type {}", type);
}

void dequantize(const GgmlTypeInfo& type, const std::byte* in, std::int64_t blocks, float* out) {
  const DequantizeBlock dequantize_block = block_function(type);
  const auto* bytes = reinterpret_cast<Bytes>(in);
  for (std::int64_t block = 0; block < blocks; ++block)
    dequantize_block(bytes + block * type.block_bytes, out + block * type.block_size);
}

}  // namespace lockstep
