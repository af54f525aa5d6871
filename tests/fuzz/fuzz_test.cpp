// The fuzz targets on made-up inputs: whole files, and some thousands of mutations of them, the
// same at every run.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "../checkpoint/test_files.h"
#include "targets.h"

namespace lockstep {
namespace {

using Target = void (*)(const std::uint8_t*, std::size_t);

class Mutator {
 public:
  std::string mutate(std::string bytes) {
    for (std::size_t i = 0, count = 1 + below(4); i < count; ++i) mutate_once(bytes);
    return bytes;
  }

 private:
  std::size_t below(std::size_t size) { return size == 0 ? 0 : random_() % size; }

  void mutate_once(std::string& bytes) {
    // Most of what can break is at the start.
    const std::size_t at =
        below(below(2) ? bytes.size() : std::min<std::size_t>(bytes.size(), 600));
    const std::size_t length = std::min(below(64), bytes.size() - at);
    switch (below(7)) {
      case 0:
        if (!bytes.empty()) bytes[at] = static_cast<char>(random_());
        break;
      case 1:
        if (!bytes.empty()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << below(8)));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, length);
        break;
      case 4:
        bytes.insert(below(bytes.size()), bytes.substr(at, length));
        break;
      case 5: {
        constexpr std::uint64_t kEdges[] = {
            0,          1,          0x7f,       0xff,       1u << 31,
            0xffffffff, 1ull << 62, 1ull << 63, UINT64_MAX, UINT64_MAX - 31};
        const std::string edge = test::bytes_of(kEdges[below(std::size(kEdges))]);
        bytes.replace(at, std::min<std::size_t>(8, bytes.size() - at), edge);
        break;
      }
      default: {
        constexpr const char* kTexts[] = {
            "-1",   "null", "[",    "{",      "18446744073709551616", "1e400", "\"", "99999999999",
            "[[[[", "0.5",  "true", "\\u0000"};
        bytes.insert(at, kTexts[below(std::size(kTexts))]);
      }
    }
  }

  std::mt19937 random_{1};
};

void run(Target target, const std::vector<std::string>& seeds, int mutations) {
  const auto feed = [&](const std::string& bytes) {
    target(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  };
  Mutator mutator;
  feed("");
  for (const std::string& seed : seeds) {
    feed(seed);
    for (int i = 0; i < mutations; ++i) feed(mutator.mutate(seed));
  }
}

std::string golden(const std::string& name) {
  return test::read_file(std::string(LOCKSTEP_GOLDEN_DIR) + "/checkpoint/" + name);
}

TEST(Fuzz, Safetensors) {
  test::SafetensorsFile small;
  small.add("a", {2, 1}, "F16", "1234");
  small.add("b", {}, "F32", "1234");
  run(fuzz::safetensors, {small.bytes(), test::tiny_safetensors().bytes()}, 3000);
}

TEST(Fuzz, Gguf) {
  test::GgufFile small;
  small.set("list", test::kArray,
            test::gguf_array(test::kString, 2, test::gguf_string("a") + test::gguf_string("b")));
  small.add("a", {2, 32}, 2, std::string(36, 'q'));
  run(fuzz::gguf, {small.bytes(), test::tiny_gguf().bytes(), golden("qwen3/model.gguf.bin")}, 3000);
}

TEST(Fuzz, Config) {
  run(fuzz::config,
      {test::tiny_config_json().dump(), golden("configs/llama3.json"),
       golden("configs/qwen2_sliding.json")},
      3000);
}

}  // namespace
}  // namespace lockstep
