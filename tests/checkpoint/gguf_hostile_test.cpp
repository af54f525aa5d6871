// GGUF files that are wrong in one way each.
#include <gmock/gmock.h>

#include <functional>

#include "allocation_meter.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf.h"
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
using testing::HasSubstr;

constexpr std::size_t kAllocationLimit = std::size_t{2} << 20;

std::string error_with(const TempDir& directory, std::string_view bytes) {
  const auto path = directory.write("m.gguf", bytes);
  const test::AllocationMeter meter;
  std::string error = error_of([&] { open_checkpoint(path); });
  EXPECT_LT(meter.bytes(), kAllocationLimit);
  EXPECT_THAT(error, HasSubstr(path.string()));
  return error;
}

struct Case {
  const char* what;
  std::function<void(GgufFile&)> change;
  std::vector<std::string> expected;  // parts of the message
};

void expect_errors(const std::vector<Case>& cases) {
  TempDir directory;
  for (const Case& bad : cases) {
    GgufFile file = test::tiny_gguf();
    bad.change(file);
    const std::string error = error_with(directory, file.bytes());
    for (const std::string& part : bad.expected) EXPECT_THAT(error, HasSubstr(part)) << bad.what;
  }
}

// Sets metadata "x".
std::function<void(GgufFile&)> entry(std::uint32_t type, const std::string& value) {
  return [=](GgufFile& file) { file.set("x", type, value); };
}

constexpr const char* kNorm = "output_norm.weight";  // [8], F32
constexpr const char* kQuery = "blk.0.attn_q.weight";

TEST(GgufHostile, Counts) {
  const std::uint64_t huge = std::uint64_t{1} << 60;
  expect_errors({
      {"magic", [](auto& f) { f.magic = "GGML"; }, {"not a GGUF file", "\"GGML\""}},
      {"version 1", [](auto& f) { f.version = 1; }, {"version 1 is not supported"}},
      {"version 4", [](auto& f) { f.version = 4; }, {"version 4 is not supported"}},
      {"big-endian", [](auto& f) { f.version = 0x03000000; }, {"big-endian"}},
      {"entries", [=](auto& f) { f.more_entries = huge; }, {"metadata entries", "room for"}},
      {"all entries",
       [](auto& f) { f.more_entries = UINT64_MAX - f.entries.size(); },
       {"18446744073709551615 metadata entries"}},
      {"one entry more", [](auto& f) { f.more_entries = 1; }, {"m.gguf"}},
      {"tensors", [=](auto& f) { f.more_tensors = huge; }, {"tensors", "room for"}},
      {"one tensor more", [](auto& f) { f.more_tensors = 1; }, {"m.gguf"}},
      {"string", entry(test::kString, bytes_of(huge)), {"a string of 1152921504606846976 bytes"}},
      {"string of 1 MB",
       entry(test::kString, bytes_of(std::uint64_t{1} << 20)),
       {"bytes of a string", "room for"}},
      {"array of bytes",
       entry(test::kArray, gguf_array(test::kUint8, huge, "")),
       {"array elements", "room for"}},
      {"array of doubles",
       entry(test::kArray, gguf_array(test::kFloat64, huge / 4, "")),
       {"array elements"}},
      {"array of strings",
       entry(test::kArray, gguf_array(test::kString, 100000, "")),
       {"array elements"}},
      {"array of bools",
       entry(test::kArray, gguf_array(test::kBool, UINT64_MAX, "")),
       {"18446744073709551615 array elements"}},
  });
}

TEST(GgufHostile, MetadataValues) {
  const auto drop = [](const char* key) { return [=](GgufFile& file) { file.erase(key); }; };
  const auto text = [](const char* key, const char* value) {
    return [=](GgufFile& file) { file.set(key, value); };
  };
  const auto number = [](const char* key, std::uint32_t value) {
    return [=](GgufFile& file) { file.set(key, value); };
  };
  expect_errors({
      {"type", entry(13, "12345678"), {"\"x\"", "unknown value type 13"}},
      {"huge type", entry(UINT32_MAX, "12345678"), {"unknown value type 4294967295"}},
      {"element type", entry(test::kArray, gguf_array(99, 1, "1")), {"unknown value type 99"}},
      {"nested array",
       entry(test::kArray, gguf_array(test::kArray, 1, gguf_array(0, 1, "1"))),
       {"\"x\"", "arrays of arrays"}},
      {"bool of 2", entry(test::kBool, "\x02"), {"\"x\"", "a bool of value 2"}},
      {"uint64 beyond int64", entry(test::kUint64, bytes_of(UINT64_MAX)), {"\"x\"", "beyond 2^63"}},
      {"empty key", [](auto& f) { f.set("", 1u); }, {"empty key"}},
      {"long key", [](auto& f) { f.set(std::string(70000, 'k'), 1u); }, {"key of 70000 bytes"}},
      {"same key twice",
       [](auto& f) { f.entries.push_back(f.entries[3]); },
       {"llama.embedding_length", "twice"}},
      {"no architecture", drop("general.architecture"), {"general.architecture is missing"}},
      {"architecture no string", number("general.architecture", 1), {"general.architecture"}},
      {"architecture", text("general.architecture", "gpt2"), {"architecture \"gpt2\""}},
      {"architecture without keys",
       text("general.architecture", "qwen2"),
       {"qwen2.embedding_length is missing"}},
      {"alignment 0", number("general.alignment", 0), {"general.alignment", "0"}},
      {"alignment 24", number("general.alignment", 24), {"general.alignment", "24"}},
      {"alignment 2^31", number("general.alignment", 1u << 31), {"general.alignment"}},
      {"alignment text",
       text("general.alignment", "32"),
       {"general.alignment", "must be an integer, not a string"}},
      {"split", number("split.count", 3), {"one of 3 parts"}},
      {"no layers", drop("llama.block_count"), {"llama.block_count is missing"}},
      {"0 layers", number("llama.block_count", 0), {"block_count"}},
      {"2^32-1 layers", number("llama.block_count", UINT32_MAX), {"block_count"}},
      {"2 layers", number("llama.block_count", 2), {"blk.1.attn_norm.weight", "is missing"}},
      {"no width", drop("llama.embedding_length"), {"llama.embedding_length is missing"}},
      {"no context", drop("llama.context_length"), {"llama.context_length is missing"}},
      {"no feed-forward", drop("llama.feed_forward_length"), {"feed_forward_length is missing"}},
      {"no heads", drop("llama.attention.head_count"), {"attention.head_count is missing"}},
      {"0 heads", number("llama.attention.head_count", 0), {"attention.head_count"}},
      {"3 heads", number("llama.attention.head_count", 3), {"not a multiple"}},
      {"heads a layer",
       [](auto& f) {
         f.set("llama.attention.head_count", test::kArray,
               gguf_array(test::kUint32, 1, bytes_of(2u)));
       },
       {"llama.attention.head_count", "must be an integer, not integers"}},
      {"kv heads",
       number("llama.attention.head_count_kv", 2),
       {"attn_k.weight", "asks for [8, 8]"}},
      {"0 kv heads", number("llama.attention.head_count_kv", 0), {"num_key_value_heads"}},
      {"no eps", drop("llama.attention.layer_norm_rms_epsilon"), {"rms_epsilon is missing"}},
      {"NaN eps",
       [](auto& f) { f.set("llama.attention.layer_norm_rms_epsilon", NAN); },
       {"rms_norm_eps"}},
      {"theta", [](auto& f) { f.set("llama.rope.freq_base", -1.0f); }, {"rope_theta"}},
      {"yarn", text("llama.rope.scaling.type", "yarn"), {"rope scaling \"yarn\""}},
      {"no factor", text("llama.rope.scaling.type", "linear"), {"scaling.factor is missing"}},
      {"rotary part", number("llama.rope.dimension_count", 2), {"rope.dimension_count is 2"}},
      {"value length", number("llama.attention.value_length", 8), {"value_length is 8"}},
      {"key length",
       number("llama.attention.key_length", 8),
       {"attn_q.weight", "asks for [16, 8]"}},
      {"experts", number("llama.expert_count", 8), {"8 experts"}},
      {"vocabulary", number("llama.vocab_size", 6), {"vocab_size is 6", "has 5 rows"}},
      {"window",
       [](auto& f) { f.set("llama.attention.sliding_window", test::kInt32, bytes_of(-4)); },
       {"sliding_window of -4"}},
      {"bos", number("tokenizer.ggml.bos_token_id", 5), {"bos_token_id 5"}},
      {"eos", number("tokenizer.ggml.eos_token_id", UINT32_MAX), {"eos_token_id 4294967295"}},
      {"width", number("llama.embedding_length", 16), {"token_embd.weight", "asks for [5, 16]"}},
  });
}

TEST(GgufHostile, Tensors) {
  const std::uint64_t huge = std::uint64_t{1} << 63;
  const auto sizes = [](const char* name, std::vector<std::uint64_t> sizes) {
    return [=](GgufFile& file) { file.tensor(name).sizes = sizes; };
  };
  const auto type = [](const char* name, std::uint32_t type) {
    return [=](GgufFile& file) { file.tensor(name).type = type; };
  };
  const auto offset = [](const char* name, std::uint64_t offset) {
    return [=](GgufFile& file) { file.tensor(name).offset = offset; };
  };
  expect_errors({
      {"no axes", sizes(kNorm, {}), {kNorm, "has 0 dimensions"}},
      {"five axes", sizes(kNorm, {8, 1, 1, 1, 1}), {kNorm, "has 5 dimensions"}},
      {"axis of 0", sizes(kNorm, {0}), {kNorm, "axis of size 0"}},
      {"axis of 2^63", sizes(kNorm, {huge}), {kNorm, "axis of size 9223372036854775808"}},
      {"product 2^64", sizes(kQuery, {1ul << 32, 1ul << 32}), {kQuery, "overflows"}},
      {"bytes 2^64", sizes(kNorm, {1ul << 62}), {kNorm, "overflows"}},
      {"product beyond", sizes(kQuery, {1ul << 40, 1ul << 40, 1ul << 40}), {kQuery, "overflows"}},
      {"beyond the end", sizes("output.weight", {8, 6}), {"output.weight", "has only"}},
      {"far beyond the end", sizes(kNorm, {1ul << 40}), {kNorm, "has only"}},
      {"other shape", sizes(kNorm, {4}), {kNorm, "[4]", "config asks for [8]"}},
      {"matrix for vector", sizes(kNorm, {4, 2}), {kNorm, "[2, 4]", "config asks for [8]"}},
      {"transposed", sizes("output.weight", {5, 8}), {"output.weight", "asks for [5, 8]"}},
      {"embedding a vector", sizes("token_embd.weight", {40}), {"token_embd.weight", "[40]"}},
      {"unknown type", type(kNorm, 12345), {kNorm, "ggml type 12345"}},
      {"Q2_K", type(kNorm, 10), {kNorm, "Q2_K"}},
      {"integers", type(kNorm, 26), {kNorm, "I32"}},
      {"part of a block", type(kNorm, 8), {kNorm, "not whole Q8_0 blocks of 32"}},
      {"offset", offset(kNorm, 4), {kNorm, "not a multiple of the alignment 32"}},
      {"offset beyond the end", offset(kNorm, 1ul << 40), {kNorm, "has only"}},
      {"offset 2^64-32", offset(kNorm, UINT64_MAX - 31), {kNorm, "has only"}},
      {"overlap", offset("output.weight", 0), {"overlap", "output.weight"}},
      {"overlap in part", offset(kNorm, 32), {"overlap", kNorm}},
      {"same name twice", [](auto& f) { f.tensor(kNorm).name = kQuery; }, {kQuery, "twice"}},
      {"long name",
       [](auto& f) { f.tensor(kNorm).name = std::string(65, 'n'); },
       {"name of 65 bytes"}},
      {"missing",
       [](auto& f) { f.tensor(kNorm).name = "other"; },
       {kNorm, "model.norm.weight", "is missing"}},
      {"embedding missing",
       [](auto& f) { f.tensor("token_embd.weight").name = "other"; },
       {"token_embd.weight", "is missing"}},
      {"one more",
       [](auto& f) { f.add("blk.1.attn_q.weight", {1}, 0, "1234"); },
       {"blk.1.attn_q.weight", "unexpected tensor"}},
      {"a bias alone",
       [](auto& f) { f.add("blk.0.attn_k.bias", {4}, 0, std::string(16, ' ')); },
       {"blk.0.attn_k.bias", "unexpected tensor"}},
      {"biases for queries alone",
       [](auto& f) { f.add("blk.0.attn_q.bias", {8}, 0, std::string(32, ' ')); },
       {"blk.0.attn_k.bias", "is missing"}},
      {"rope divisors of another type",
       [](auto& f) { f.add("rope_freqs.weight", {2}, 1, "1234"); },
       {"rope_freqs.weight", "must be F32, not F16"}},
      {"too few rope divisors",
       [](auto& f) { f.add("rope_freqs.weight", {1}, 0, "1234"); },
       {"rope_freqs.weight", "asks for [2]"}},
      {"rope divisors of 0",
       [](auto& f) { f.add("rope_freqs.weight", {2}, 0, std::string(8, '\0')); },
       {"divisor must be a positive number"}},
  });
}

TEST(GgufHostile, AQuantizedVectorIsNamed) {
  GgufFile file;
  file.set("general.architecture", "llama");
  file.set("llama.block_count", 1u);
  file.set("llama.context_length", 16u);
  file.set("llama.embedding_length", 32u);
  file.set("llama.feed_forward_length", 32u);
  file.set("llama.attention.head_count", 2u);
  file.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.add("token_embd.weight", {2, 32}, 8, std::string(68, '\0'));
  file.add("blk.0.attn_norm.weight", {32}, 8, std::string(34, '\0'));
  TempDir directory;
  EXPECT_THAT(error_with(directory, file.bytes()),
              AllOf(HasSubstr("blk.0.attn_norm.weight"), HasSubstr("must not be quantized")));
}

TEST(GgufHostile, EveryTruncation) {
  TempDir directory;
  const std::string whole = test::tiny_gguf().bytes();
  for (std::size_t size = 0; size < whole.size(); ++size)
    error_with(directory, whole.substr(0, size));
}

TEST(GgufHostile, EveryFlippedByteOfTheHeader) {
  TempDir directory;
  const std::string whole = test::tiny_gguf().bytes();
  const std::size_t header = whole.size() - test::tiny_gguf().data.size();
  int errors = 0;
  for (std::size_t at = 0; at < header; ++at)
    for (const int flip : {0x01, 0x10, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const auto path = directory.write("m.gguf", bytes);
      const test::AllocationMeter meter;
      try {
        const auto checkpoint = open_checkpoint(path);
        for (const TensorInfo& info : checkpoint->tensors()) test::read_floats(*checkpoint, info);
      } catch (const Error& error) {
        ++errors;
        ASSERT_THAT(error.what(), HasSubstr("m.gguf")) << at;
      }
      ASSERT_LT(meter.bytes(), kAllocationLimit) << at;
    }
  EXPECT_GT(errors, static_cast<int>(header) * 2);
}

}  // namespace
}  // namespace lockstep
