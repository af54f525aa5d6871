// safetensors files that are wrong in one way each.
#include <gmock/gmock.h>

#include <functional>

#include "allocation_meter.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "test_files.h"

namespace lockstep {
namespace {

using test::error_of;
using test::SafetensorsFile;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;

// Reading any of these small files must not ask for more than this.
constexpr std::size_t kAllocationLimit = std::size_t{2} << 20;

// Opens the tiny model, of which `directory` has the config, with this model.safetensors.
std::string error_with(const TempDir& directory, std::string_view bytes) {
  directory.write("model.safetensors", bytes);
  const test::AllocationMeter meter;
  std::string error = error_of([&] { open_checkpoint(directory.path()); });
  EXPECT_LT(meter.bytes(), kAllocationLimit);
  EXPECT_THAT(error, HasSubstr(directory.path().string()));
  return error;
}

constexpr const char* kNorm = "model.norm.weight";  // [8], F32
constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";

struct Case {
  const char* what;
  std::function<void(SafetensorsFile&)> change;
  std::vector<std::string> expected;  // parts of the message
};

std::vector<Case> bad_entries() {
  const auto set = [](const char* tensor, const char* key, const nlohmann::json& value) {
    return [=](SafetensorsFile& file) { file.header[tensor][key] = value; };
  };
  const std::uint64_t huge = UINT64_MAX;
  const std::int64_t big = INT64_MAX;
  return {
      {"entry no object", [](auto& f) { f.header[kNorm] = 3; }, {kNorm, "object"}},
      {"no dtype", [](auto& f) { f.header[kNorm].erase("dtype"); }, {kNorm, "dtype is missing"}},
      {"no shape", [](auto& f) { f.header[kNorm].erase("shape"); }, {kNorm, "shape is missing"}},
      {"no offsets",
       [](auto& f) { f.header[kNorm].erase("data_offsets"); },
       {kNorm, "data_offsets is missing"}},
      {"dtype no string", set(kNorm, "dtype", 1), {kNorm, "dtype must be a string"}},
      {"unknown dtype", set(kNorm, "dtype", "F31"), {kNorm, "unknown dtype \"F31\""}},
      {"dtype of other size", set(kNorm, "dtype", "F16"), {kNorm, "16 bytes", "span 32"}},
      {"integer weights", set(kNorm, "dtype", "I32"), {kNorm, "dtype I32 is not supported"}},
      {"shape no list", set(kNorm, "shape", 8), {kNorm, "shape must be a list"}},
      {"shape of strings", set(kNorm, "shape", {"8"}), {kNorm, "shape must hold integers"}},
      {"shape of floats", set(kNorm, "shape", {8.0}), {kNorm, "shape must hold integers"}},
      {"negative size", set(kNorm, "shape", {-8}), {kNorm, "shape must hold integers"}},
      {"negative sizes", set(kNorm, "shape", {-2, -4}), {kNorm, "shape must hold integers"}},
      {"nested shape", set(kNorm, "shape", {{8}}), {kNorm, "shape must hold integers"}},
      {"size beyond int64", set(kNorm, "shape", {huge}), {kNorm, "shape must hold integers"}},
      {"many axes", set(kNorm, "shape", std::vector<int>(1000, 1)), {kNorm, "shape must be"}},
      {"overflowing product", set(kNorm, "shape", {big, 2}), {kNorm, "overflows"}},
      // 2^32 * 2^32 is 0 modulo 2^64, and 2^62 elements of 4 bytes are too.
      {"product 2^64", set(kNorm, "shape", {1ll << 32, 1ll << 32}), {kNorm, "overflows"}},
      {"bytes 2^64", set(kNorm, "shape", {1ll << 62}), {kNorm, "overflows"}},
      {"zero after overflow", set(kNorm, "shape", {big, big, 0}), {kNorm, "overflows"}},
      {"shape too large", set(kNorm, "shape", {9}), {kNorm, "36 bytes", "span 32"}},
      {"shape too small", set(kNorm, "shape", {7}), {kNorm, "28 bytes", "span 32"}},
      {"no size", set(kNorm, "shape", nlohmann::json::array()), {kNorm, "4 bytes", "span 32"}},
      {"other shape", set(kNorm, "shape", {4, 2}), {kNorm, "[4, 2]", "config asks for [8]"}},
      {"transposed",
       set("lm_head.weight", "shape", {8, 5}),
       {"lm_head.weight", "[8, 5]", "config asks for [5, 8]"}},
      {"one offset", set(kNorm, "data_offsets", {0}), {kNorm, "[begin, end]"}},
      {"three offsets", set(kNorm, "data_offsets", {0, 32, 32}), {kNorm, "data_offsets"}},
      {"offsets reversed", set(kNorm, "data_offsets", {32, 0}), {kNorm, "[begin, end]"}},
      {"negative offset", set(kNorm, "data_offsets", {-32, 0}), {kNorm, "data_offsets"}},
      {"offsets no list", set(kNorm, "data_offsets", "0"), {kNorm, "data_offsets must be a list"}},
      {"offset beyond int64",
       set(kNorm, "data_offsets", {huge - 31, huge}),
       {kNorm, "data_offsets"}},
      {"far beyond the end",
       set(kNorm, "data_offsets", {big - 32, big}),
       {kNorm, "the file has only"}},
      {"overlap", set(kNorm, "data_offsets", {32, 64}), {"overlap"}},
  };
}

std::vector<Case> bad_tables() {
  return {
      {"tensor missing", [](auto& f) { f.header.erase("lm_head.weight"); }, {"bytes of data"}},
      {"tensor missing, data too",
       [](auto& f) {
         f.data.resize(f.header["lm_head.weight"]["data_offsets"][0].template get<std::size_t>());
         f.header.erase("lm_head.weight");
       },
       {"lm_head.weight", "[5, 8]", "is missing"}},
      {"tensor renamed",
       [](auto& f) {
         f.header["model.layers.1.input"] = f.header[kQuery];
         f.header.erase(kQuery);
       },
       {kQuery, "is missing"}},
      {"one tensor more",
       [](auto& f) { f.add("model.layers.1.x", {1}, "F32", "1234"); },
       {"model.layers.1.x", "unexpected tensor"}},
      {"a bias that the config has not",
       [](auto& f) { f.add("model.layers.0.self_attn.q_proj.bias", {1}, "F32", "1234"); },
       {"q_proj.bias", "unexpected tensor"}},
      {"control characters in a name",
       [](auto& f) { f.add("\x1b[2J\nx", {1}, "F32", "1234"); },
       {"\\x1b[2J\\x0ax"}},
      {"data too long", [](auto& f) { f.data += "x"; }, {"bytes of data"}},
      {"data too short", [](auto& f) { f.data.pop_back(); }, {"lm_head.weight", "has only"}},
      {"hole",
       [](auto& f) {
         f.data += "12345678";
         f.header["lm_head.weight"]["data_offsets"] = {f.data.size() - 160, f.data.size()};
       },
       {"lm_head.weight", "there is a hole"}},
      {"metadata no object", [](auto& f) { f.header["__metadata__"] = 1; }, {"__metadata__"}},
      {"metadata no strings",
       [](auto& f) { f.header["__metadata__"]["x"] = 1; },
       {"__metadata__ \"x\""}},
  };
}

TEST(SafetensorsHostile, EveryBadHeaderIsNamed) {
  TempDir directory;
  test::write_tiny_model(directory);
  for (const auto& cases : {bad_entries(), bad_tables()})
    for (const Case& bad : cases) {
      SafetensorsFile file = test::tiny_safetensors();
      bad.change(file);
      const std::string error = error_with(directory, file.bytes());
      for (const std::string& part : bad.expected) EXPECT_THAT(error, HasSubstr(part)) << bad.what;
    }
}

TEST(SafetensorsHostile, HeaderLengths) {
  TempDir directory;
  test::write_tiny_model(directory);
  const SafetensorsFile good = test::tiny_safetensors();
  const std::string text = good.header.dump();
  const auto with_length = [&](std::uint64_t length) {
    return error_with(directory, test::bytes_of(length) + text + good.data);
  };
  for (const std::uint64_t length : {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX / 2, 100'000'001ul})
    EXPECT_THAT(with_length(length), HasSubstr("model.safetensors: a header of"));
  EXPECT_THAT(with_length(100'000'000), HasSubstr("truncated"));
  EXPECT_THAT(with_length(text.size() + good.data.size() + 1), HasSubstr("truncated"));
  EXPECT_THAT(with_length(text.size() + 1), HasSubstr("JSON"));
  EXPECT_THAT(with_length(text.size() - 1), HasSubstr("JSON"));
  EXPECT_THAT(with_length(0), HasSubstr("does not begin with '{'"));
}

TEST(SafetensorsHostile, HeaderTexts) {
  TempDir directory;
  test::write_tiny_model(directory);
  const SafetensorsFile good = test::tiny_safetensors();
  const std::string text = good.header.dump();
  const auto with_text = [&](const std::string& header) {
    return error_with(directory, good.with_header(header));
  };
  EXPECT_THAT(with_text("[]"), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(with_text(" " + text), HasSubstr("does not begin with '{'"));
  EXPECT_THAT(with_text("{}"), HasSubstr("bytes of data"));
  EXPECT_THAT(with_text("{\"a\":" + std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(with_text(text.substr(0, text.size() - 1) + "," + text.substr(1)),
              HasSubstr("duplicate key"));
  EXPECT_THAT(with_text("{\"\xff\": 1}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(with_text(text + std::string(1, '\0')), HasSubstr("not valid JSON"));

  // Spaces behind the header are how writers align the data.
  directory.write("model.safetensors", good.with_header(text + "      "));
  EXPECT_NO_THROW(open_checkpoint(directory.path()));
}

TEST(SafetensorsHostile, EveryTruncation) {
  TempDir directory;
  test::write_tiny_model(directory);
  const std::string whole = test::tiny_safetensors().bytes();
  for (std::size_t size = 0; size < whole.size(); ++size)
    ASSERT_THAT(error_with(directory, whole.substr(0, size)), HasSubstr("model.safetensors"))
        << size << " bytes";
}

TEST(SafetensorsHostile, EveryTruncationOfTheConfig) {
  TempDir directory;
  test::write_tiny_model(directory);
  const std::string whole = test::tiny_config_json().dump();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    directory.write("config.json", whole.substr(0, size));
    ASSERT_THAT(error_of([&] { open_checkpoint(directory.path()); }), HasSubstr("config.json"));
  }
}

// A flipped byte may leave a valid file; it must never do anything but that or an Error.
TEST(SafetensorsHostile, EveryFlippedByteOfTheHeader) {
  TempDir directory;
  test::write_tiny_model(directory);
  const std::string whole = test::tiny_safetensors().bytes();
  const std::size_t header = whole.size() - test::tiny_safetensors().data.size();
  int errors = 0;
  for (std::size_t at = 0; at < header; ++at)
    for (const int flip : {0x01, 0x10, 0x80}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      directory.write("model.safetensors", bytes);
      const test::AllocationMeter meter;
      try {
        const auto checkpoint = open_checkpoint(directory.path());
        for (const TensorInfo& info : checkpoint->tensors()) test::read_floats(*checkpoint, info);
      } catch (const Error& error) {
        ++errors;
        ASSERT_THAT(error.what(), HasSubstr("model.safetensors")) << at;
      }
      ASSERT_LT(meter.bytes(), kAllocationLimit) << at;
    }
  EXPECT_GT(errors, static_cast<int>(header) * 2);
}

}  // namespace
}  // namespace lockstep
