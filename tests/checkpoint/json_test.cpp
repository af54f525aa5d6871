#include "checkpoint/json.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include "checkpoint/file.h"
#include "test_files.h"

namespace lockstep {
namespace {

using test::error_of;
using test::TempDir;
using testing::AllOf;
using testing::HasSubstr;

std::string json_error(const std::string& text) {
  return error_of([&] { parse_json(text, "some.json"); });
}

TEST(Json, ParsesEveryKindOfValue) {
  const auto json = parse_json(
      R"({"a": [1, -2, 2.5, 1e3, true, false, null, "x\u00e9\n"], "b": {"a": {}}, "c": []})", "f");
  EXPECT_EQ(json, nlohmann::json({{"a", {1, -2, 2.5, 1000.0, true, false, nullptr, "x\u00e9\n"}},
                                  {"b", {{"a", nlohmann::json::object()}}},
                                  {"c", nlohmann::json::array()}}));
  EXPECT_TRUE(json["a"][0].is_number_unsigned());
  EXPECT_EQ(parse_json("18446744073709551615", "f"), 18446744073709551615u);
  EXPECT_EQ(parse_json("\xef\xbb\xbf[0]", "f"), nlohmann::json({0}));
}

TEST(Json, NamesFileAndPositionOfSyntaxErrors) {
  EXPECT_THAT(json_error("{\"a\":\n 1,]}"),
              AllOf(HasSubstr("some.json"), HasSubstr("line 2, column 4"), HasSubstr("byte 10")));
  for (const char* text : {"",
                           " ",
                           "{",
                           "[1",
                           "[1,]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{a:1}",
                           "nul",
                           "01",
                           "1 2",
                           "{} x",
                           "\"\x01\"",
                           "\"\xff\"",
                           "\"\\ud800\"",
                           "[1e999]",
                           "'a'",
                           "// comment\n1",
                           "NaN",
                           "\"unterminated"})
    EXPECT_THAT(json_error(text), HasSubstr("some.json")) << text;
}

TEST(Json, AZeroByteDoesNotEndTheText) {
  EXPECT_THAT(json_error(std::string("1\0", 2)), HasSubstr("byte 1"));
  EXPECT_THAT(json_error(std::string("{}\0garbage", 10)), HasSubstr("byte 2"));
}

TEST(Json, RejectsDuplicateKeys) {
  EXPECT_THAT(json_error(R"({"x": {"a": 1, "b": 2, "a": 3}})"),
              AllOf(HasSubstr("some.json"), HasSubstr("duplicate key \"a\"")));
  EXPECT_THAT(json_error(R"({"a": 1, "\u0061": 1})"), HasSubstr("duplicate key \"a\""));
  EXPECT_NO_THROW(parse_json(R"({"a": {"a": [{"a": 1}, {"a": 1}]}})", "f"));
}

TEST(Json, LimitsDepth) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_NO_THROW(parse_json(nested(kMaxJsonDepth), "f"));
  EXPECT_THAT(json_error(nested(kMaxJsonDepth + 1)), HasSubstr("nested deeper"));
  EXPECT_THAT(json_error(std::string(1000000, '[')), HasSubstr("nested deeper"));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_THAT(json_error(objects), HasSubstr("nested deeper"));
}

TEST(Json, LimitsTheNumberOfValues) {
  std::string text = "[";
  for (std::size_t i = 0; i < kMaxJsonValues; ++i) text += "0,";
  text.back() = ']';
  EXPECT_THAT(json_error(text), HasSubstr("JSON values"));
}

TEST(Json, ReadsFiles) {
  TempDir directory;
  EXPECT_EQ(read_json_file(directory.write("a.json", "[1, 2]")), nlohmann::json({1, 2}));
  EXPECT_THAT(error_of([&] { read_json_file(directory.path() / "none.json"); }),
              AllOf(HasSubstr("none.json"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([&] { read_json_file(directory.path() / "a.json", 5); }),
              AllOf(HasSubstr("a.json"), HasSubstr("6 bytes")));
  EXPECT_THAT(error_of([&] {
                read_json_file(directory.write("lfs.json", "version https://git-lfs.invalid/1\n"));
              }),
              AllOf(HasSubstr("lfs.json"), HasSubstr("Git LFS pointer")));
}

TEST(File, ReadsAndChecksBounds) {
  TempDir directory;
  const File file(directory.write("x", "0123456789"));
  EXPECT_EQ(file.size(), 10u);
  std::string out(4, ' ');
  file.read(6, 4, out.data());
  EXPECT_EQ(out, "6789");
  file.read(10, 0, nullptr);
  for (const auto& [offset, bytes] : std::vector<std::pair<std::uint64_t, std::size_t>>{
           {7, 4}, {11, 0}, {UINT64_MAX, 1}, {UINT64_MAX, 2}, {5, SIZE_MAX}})
    EXPECT_THAT(error_of([&, o = offset, b = bytes] { file.read(o, b, out.data()); }),
                AllOf(HasSubstr("/x"), HasSubstr("truncated"), HasSubstr("10 bytes")));
}

TEST(File, NoticesThatAFileShrank) {
  TempDir directory;
  const auto path = directory.write("x", "0123456789");
  const File file(path);
  std::filesystem::resize_file(path, 5);
  std::string out(8, ' ');
  EXPECT_THAT(error_of([&] { file.read(2, 8, out.data()); }), HasSubstr("truncated while"));
}

TEST(File, RejectsWhatIsNoRegularFile) {
  TempDir directory;
  EXPECT_THAT(error_of([&] { File file(directory.path()); }), HasSubstr("not a regular file"));
  const auto fifo = directory.path() / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(error_of([&] { File file(fifo); }), HasSubstr("not a regular file"));
}

TEST(QuoteName, EscapesAndCuts) {
  EXPECT_EQ(quote_name("a.b"), "\"a.b\"");
  EXPECT_EQ(quote_name("a\n\x1b[31m\xff"), "\"a\\x0a\\x1b[31m\\xff\"");
  EXPECT_LT(quote_name(std::string(100000, 'x')).size(), 300u);
}

}  // namespace
}  // namespace lockstep
