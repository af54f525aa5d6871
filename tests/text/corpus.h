// What the tests of this folder share: the corpus, and where files are.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

inline std::filesystem::path golden_dir() {
  return std::filesystem::path(LOCKSTEP_GOLDEN_DIR) / "tokenizer";
}

// What scripts/test-assets.sh fetches.
inline std::filesystem::path asset(const std::string& name) {
  const char* folder = std::getenv("LOCKSTEP_TEST_ASSETS");
  const std::filesystem::path path =
      (folder != nullptr ? std::filesystem::path(folder)
                         : std::filesystem::path(LOCKSTEP_SOURCE_DIR) / ".cache") /
      name;
  EXPECT_TRUE(std::filesystem::exists(path)) << path << " is missing: run scripts/test-assets.sh";
  return path;
}

inline std::string read_bytes(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

// corpus.txt: one text a line, with \\, \n, \r and \xHH for what cannot stand in one.
inline std::vector<std::string> read_corpus() {
  const std::string file = read_bytes(golden_dir() / "corpus.txt");
  std::vector<std::string> lines;
  std::string line;
  for (std::size_t i = 0; i < file.size(); ++i) {
    if (file[i] == '\n') {
      lines.push_back(std::move(line));
      line.clear();
    } else if (file[i] != '\\') {
      line += file[i];
    } else if (const char c = file[++i]; c == 'x') {
      line += static_cast<char>(std::stoi(file.substr(i + 1, 2), nullptr, 16));
      i += 2;
    } else {
      line += c == 'n' ? '\n' : c == 'r' ? '\r' : c;
    }
  }
  return lines;
}

// An empty folder of its own for each test.
inline std::filesystem::path scratch_dir() {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  std::string name = std::string(test->test_suite_name()) + "." + test->name();
  for (char& c : name)
    if (c == '/') c = '_';
  const std::filesystem::path path = std::filesystem::path(testing::TempDir()) / name;
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path;
}

inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary);
  file << content;
  ASSERT_TRUE(file.good()) << path;
}

}  // namespace lockstep
