// GGUF files that are right: the header's values, and what a Config makes of them.
#include "checkpoint/gguf.h"

#include <gmock/gmock.h>

#include "checkpoint/config.h"
#include "test_files.h"

namespace lockstep {
namespace {

using test::bytes_of;
using test::error_of;
using test::gguf_array;
using test::gguf_string;
using test::GgufFile;
using test::TempDir;
using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;

GgufHeader header_of(const GgufFile& file) {
  TempDir directory;
  return read_gguf_header(directory.write("m.gguf", file.bytes()));
}
Config config_of(const GgufFile& file) { return config_from_gguf(header_of(file)); }

TEST(Gguf, ReadsEveryTypeOfValue) {
  GgufFile file;
  file.set("u8", test::kUint8, bytes_of<std::uint8_t>(255));
  file.set("i8", test::kInt8, bytes_of<std::int8_t>(-128));
  file.set("u16", test::kUint16, bytes_of<std::uint16_t>(65535));
  file.set("i16", test::kInt16, bytes_of<std::int16_t>(-32768));
  file.set("u32", test::kUint32, bytes_of<std::uint32_t>(4294967295));
  file.set("i32", test::kInt32, bytes_of<std::int32_t>(-5));
  file.set("u64", test::kUint64, bytes_of<std::uint64_t>(INT64_MAX));
  file.set("i64", test::kInt64, bytes_of<std::int64_t>(INT64_MIN));
  file.set("f32", test::kFloat32, bytes_of(0.25f));
  file.set("f64", test::kFloat64, bytes_of(0.1));
  file.set("bool", test::kBool, "\x01");
  file.set("string", "a\xc3\xa9");
  file.set("strings", test::kArray,
           gguf_array(test::kString, 2, gguf_string("x") + gguf_string("")));
  file.set("i8s", test::kArray, gguf_array(test::kInt8, 3, "\x01\xff\x03"));
  file.set("f32s", test::kArray, gguf_array(test::kFloat32, 1, bytes_of(1.5f)));
  file.set("bools", test::kArray, gguf_array(test::kBool, 2, std::string("\x01\x00", 2)));
  file.set("none", test::kArray, gguf_array(test::kInt32, 0, ""));
  for (const std::uint32_t version : {2u, 3u}) {
    file.version = version;
    const GgufMetadata metadata = header_of(file).metadata;
    EXPECT_EQ(metadata.all().size(), 17u);
    EXPECT_EQ(metadata.integer("u8"), 255);
    EXPECT_EQ(metadata.integer("i8"), -128);
    EXPECT_EQ(metadata.integer("u16"), 65535);
    EXPECT_EQ(metadata.integer("i16"), -32768);
    EXPECT_EQ(metadata.integer("u32"), 4294967295);
    EXPECT_EQ(metadata.integer("i32"), -5);
    EXPECT_EQ(metadata.integer("u64"), INT64_MAX);
    EXPECT_EQ(metadata.integer("i64"), INT64_MIN);
    EXPECT_EQ(metadata.number("f32"), 0.25);
    EXPECT_EQ(metadata.number("f64"), 0.1);
    EXPECT_EQ(metadata.number("i32"), -5.0);
    EXPECT_EQ(metadata.boolean("bool"), true);
    EXPECT_EQ(*metadata.string("string"), "a\xc3\xa9");
    EXPECT_THAT(*metadata.strings("strings"), ElementsAre("x", ""));
    EXPECT_THAT(*metadata.integers("i8s"), ElementsAre(1, -1, 3));
    EXPECT_THAT(*metadata.numbers("f32s"), ElementsAre(1.5));
    EXPECT_EQ(metadata.all().at("bools"), GgufMetadata::Value(std::vector<bool>{true, false}));
    EXPECT_TRUE(metadata.integers("none")->empty());

    EXPECT_EQ(metadata.integer("absent"), std::nullopt);
    EXPECT_EQ(metadata.string("absent"), nullptr);
    EXPECT_EQ(metadata.numbers("absent"), nullptr);
    EXPECT_THAT(error_of([&] { metadata.string("u8"); }),
                AllOf(HasSubstr("m.gguf"), HasSubstr("\"u8\" must be a string, not an integer")));
    EXPECT_THAT(error_of([&] { metadata.integer("f32"); }), HasSubstr("not a number"));
    EXPECT_THAT(error_of([&] { metadata.boolean("u8"); }), HasSubstr("must be a bool"));
    EXPECT_THAT(error_of([&] { metadata.strings("i8s"); }), HasSubstr("not integers"));
  }
}

TEST(Gguf, AValueOfMoreThanTheReadersWindow) {
  GgufFile file;
  std::string numbers;
  for (std::int32_t i = 0; i < 100000; ++i) numbers += bytes_of(i);
  file.set("x", 7u);  // so that elements straddle the window's end
  file.set("many", test::kArray, gguf_array(test::kInt32, 100000, numbers));
  file.set("long", test::kString, gguf_string(std::string(300001, 'l')));
  const GgufMetadata metadata = header_of(file).metadata;
  for (std::int64_t i = 0; i < 100000; ++i)
    ASSERT_EQ((*metadata.integers("many"))[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(*metadata.string("long"), std::string(300001, 'l'));
}

TEST(Gguf, HonoursAlignment) {
  for (const std::uint32_t alignment : {8u, 32u, 64u, 4096u}) {
    GgufFile file;
    file.alignment = alignment;
    file.set("general.alignment", alignment);
    file.add("a", {3}, 0, "aaaabbbbcccc");
    file.add("b", {2, 1}, 1, "ddee");
    const GgufHeader header = header_of(file);
    const std::string bytes = file.bytes();
    ASSERT_EQ(header.tensors.size(), 2u);
    EXPECT_EQ(header.tensors[0].bytes, 12u);
    EXPECT_EQ(header.tensors[1].bytes, 4u);
    EXPECT_THAT(header.tensors[1].shape, ElementsAre(2, 1));
    EXPECT_EQ(header.tensors[0].offset % alignment, 0u);
    EXPECT_EQ(bytes.substr(header.tensors[0].offset, 12), "aaaabbbbcccc");
    EXPECT_EQ(bytes.substr(header.tensors[1].offset, 4), "ddee");
  }
}

TEST(GgufConfig, ReadsWhatIsThere) {
  GgufFile file = test::tiny_gguf();
  Config config = config_of(file);
  EXPECT_EQ(config.model_type, "llama");
  EXPECT_EQ(config.vocab_size, 5);
  EXPECT_EQ(config.hidden_size, 8);
  EXPECT_EQ(config.intermediate_size, 6);
  EXPECT_EQ(config.head_dim, 4);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_EQ(config.dtype, DType::kFloat32);
  EXPECT_THAT(config.sliding_window, ElementsAre(0));
  EXPECT_EQ(config.rope_scaling.type, RopeScaling::Type::kNone);

  file.set("llama.attention.sliding_window", 6u);
  file.set("tokenizer.ggml.eot_token_id", 3u);
  file.set("tokenizer.ggml.eom_token_id", 2u);
  file.set("llama.rope.scaling.type", "linear");
  file.set("llama.rope.scaling.factor", 4.0f);
  file.set("llama.vocab_size", 5u);
  file.set("llama.rope.dimension_count", 4u);
  file.tensors.pop_back();  // output.weight
  config = config_of(file);
  EXPECT_THAT(config.sliding_window, ElementsAre(6));
  EXPECT_THAT(config.eos_token_ids, ElementsAre(2, 3));
  EXPECT_EQ(config.rope_scaling.type, RopeScaling::Type::kLinear);
  EXPECT_EQ(config.rope_scaling.factor, 4.0f);
  EXPECT_TRUE(config.tie_word_embeddings);
}

TEST(GgufConfig, OlderSpellingsOfRopeScaling) {
  GgufFile file = test::tiny_gguf();
  file.set("llama.rope.scale_linear", 2.0f);
  EXPECT_EQ(config_of(file).rope_scaling.factor, 2.0f);
  file.set("llama.rope.scale_linear", 1.0f);
  EXPECT_EQ(config_of(file).rope_scaling.type, RopeScaling::Type::kNone);
  file.set("llama.rope.scaling.type", "none");
  file.set("llama.rope.scaling.factor", 8.0f);
  EXPECT_EQ(config_of(file).rope_scaling.type, RopeScaling::Type::kNone);
}

}  // namespace
}  // namespace lockstep
