#include "checkpoint/quantized.h"

#include <gmock/gmock.h>

#include <map>

#include "checkpoint/file.h"
#include "checkpoint/gguf.h"
#include "core/convert.h"
#include "test_files.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

// The golden file holds for each type random blocks, and what the reference makes of them.
TEST(Quantized, EqualsTheReferenceBitForBit) {
  const File file(std::string(LOCKSTEP_GOLDEN_DIR) + "/checkpoint/quantized_types.gguf.bin");
  const GgufHeader header = read_gguf_header(file);
  std::map<std::string, GgufTensor> tensors;
  for (const GgufTensor& tensor : header.tensors) tensors[tensor.name] = tensor;
  ASSERT_EQ(tensors.size(), 22u);

  for (const char* name :
       {"F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}) {
    const GgufTensor& packed = tensors.at(std::string(name) + ".packed");
    const GgufTensor& expected = tensors.at(std::string(name) + ".values");
    const GgmlTypeInfo* type = find_ggml_type(packed.type);
    ASSERT_NE(type, nullptr);
    EXPECT_STREQ(type->name, name);
    EXPECT_EQ(packed.shape, (std::vector<std::int64_t>{3, 768}));
    const std::int64_t count = 3 * 768;
    std::vector<std::byte> bytes(packed.bytes);
    file.read(packed.offset, bytes.size(), bytes.data());
    std::vector<float> want(count);
    file.read(expected.offset, count * sizeof(float), want.data());

    std::vector<float> got(count);
    if (type->is_quantized()) {
      dequantize(*type, bytes.data(), count / type->block_size, got.data());
    } else {
      for (std::int64_t i = 0; i < count; ++i) {
        std::uint16_t bits = 0;
        std::memcpy(&bits, bytes.data() + i * type->block_bytes, sizeof(bits));
        if (type->type == GgmlType::kF32)
          std::memcpy(&got[i], bytes.data() + i * sizeof(float), sizeof(float));
        else
          got[i] = type->type == GgmlType::kF16 ? float16_to_float(bits) : bfloat16_to_float(bits);
      }
    }
    EXPECT_EQ(got, want) << name;
    EXPECT_GT(*std::max_element(want.begin(), want.end()), 1.0f) << name;  // not all zero
  }
}

TEST(Quantized, DescribesTypes) {
  EXPECT_EQ(describe_ggml_type(12), "Q4_K");
  EXPECT_EQ(describe_ggml_type(10), "Q2_K (ggml type 10)");
  EXPECT_EQ(describe_ggml_type(12345), "ggml type 12345");
  EXPECT_EQ(find_ggml_type(10), nullptr);
  EXPECT_THAT(test::error_of([] { dequantize(*find_ggml_type(0), nullptr, 0, nullptr); }),
              HasSubstr("F32"));
}

}  // namespace
}  // namespace lockstep
