// Peak resident memory and time of loading, on 1 to 8 CPU ranks, each in a process of its own. The
// memory has to stay below what the ranks' shards add up to, plus 5% and 64 MiB for all the rest:
// the process itself, the tokenizer, the pieces on their way from the file. Exit status 1 if it
// does not.
//
//   load_bench [MODEL...]   without: the demo model, and one that is made in a temporary directory
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/check.h"
#include "generate/model_impl.h"
#include "lockstep/model.h"
#include "sharding/loader.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

constexpr double kMiB = 1 << 20;

// What a child process found out.
struct Load {
  std::uint64_t shard_bytes = 0;  // of all ranks
  std::uint64_t peak_bytes = 0;
  double seconds = 0;

  double limit() const { return 1.05 * static_cast<double>(shard_bytes) + 64 * kMiB; }
  bool kept() const { return static_cast<double>(peak_bytes) < limit(); }
};

// The most memory that was resident in this process so far. Not getrusage(): its figure is
// inherited from the process before exec.
std::uint64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  fail("/proc/self/status has no VmHWM");
}

int child(const std::string& path, int ranks) {
  const Model model = load_model(path, Mesh::tensor_parallel(ranks, DeviceType::kCpu));
  const Model::Impl& impl = *model.impl();
  std::uint64_t shard_bytes = 0;
  for (int rank = 0; rank < ranks; ++rank)
    shard_bytes += weight_bytes(impl.config, impl.plan, rank, impl.dtype);
  fmt::print("{} {} {}\n", shard_bytes, peak_resident_bytes(), impl.load_seconds);
  return 0;
}

// Runs this program again as a child.
Load load_in_a_process(const std::string& path, int ranks) {
  std::array<int, 2> ends;
  check(::pipe(ends.data()) == 0, "cannot make a pipe");
  const std::string count = std::to_string(ranks);
  const pid_t process = ::fork();
  check(process >= 0, "cannot start a process");
  if (process == 0) {
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::execl("/proc/self/exe", "load_bench", "--child", path.c_str(), count.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string text;
  std::array<char, 256> chunk;
  for (ssize_t size; (size = ::read(ends[0], chunk.data(), chunk.size())) > 0;)
    text.append(chunk.data(), static_cast<std::size_t>(size));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(process, &status, 0);
  Load load;
  check(status == 0 && std::sscanf(text.c_str(), "%lu %lu %lf", &load.shard_bytes, &load.peak_bytes,
                                   &load.seconds) == 3,
        "{} could not be loaded on {} ranks", path, ranks);
  return load;
}

// About 375 MB of random bfloat16 in one safetensors file.
void write_model(const fs::path& directory) {
  const nlohmann::json config_json = {
      {"model_type", "llama"},        {"vocab_size", 32000},      {"hidden_size", 1024},
      {"intermediate_size", 4096},    {"num_hidden_layers", 8},   {"num_attention_heads", 16},
      {"num_key_value_heads", 8},     {"rms_norm_eps", 1e-5},     {"max_position_embeddings", 2048},
      {"tie_word_embeddings", false}, {"torch_dtype", "bfloat16"}};
  std::ofstream(directory / "config.json") << config_json.dump();

  nlohmann::ordered_json header;
  std::uint64_t bytes = 0;
  for (const ExpectedTensor& tensor : expected_tensors(config_from_json(config_json, "config"))) {
    nlohmann::json shape = nlohmann::json::array();
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
    const auto size = static_cast<std::uint64_t>(tensor.shape.numel()) * 2;
    header[tensor.name] = {
        {"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {bytes, bytes + size}}};
    bytes += size;
  }
  const std::string text = header.dump();
  const auto text_size = static_cast<std::uint64_t>(text.size());
  std::ofstream file(directory / "model.safetensors", std::ios::binary);
  file.write(reinterpret_cast<const char*>(&text_size), sizeof(text_size));
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  std::vector<std::uint16_t> chunk(1 << 19);
  std::uint32_t state = 2463534242u;
  for (std::uint64_t done = 0; done < bytes;) {
    for (std::uint16_t& value : chunk) {
      state ^= state << 13, state ^= state >> 17, state ^= state << 5;
      value = static_cast<std::uint16_t>(0x3c00 | (state & 0x80ff));  // +-0.008 to 0.03
    }
    const std::uint64_t size = std::min<std::uint64_t>(chunk.size() * 2, bytes - done);
    file.write(reinterpret_cast<const char*>(chunk.data()), static_cast<std::streamsize>(size));
    done += size;
  }
  check(file.flush().good(), "{}: cannot write", directory.string());
}

// A directory of its own, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = (fs::temp_directory_path() / "lockstep-load-XXXXXX").string();
    check(::mkdtemp(name.data()) != nullptr, "cannot make {}", name);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code error;
    fs::remove_all(path_, error);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

bool measure(const std::string& name, const std::string& path) {
  bool kept = true;
  fmt::print("{}\n{:>6} {:>12} {:>12} {:>12} {:>8} {:>8}\n", name, "ranks", "shards MiB",
             "limit MiB", "peak MiB", "of limit", "load s");
  for (int ranks : {1, 2, 4, 8}) {
    const Load load = load_in_a_process(path, ranks);
    const auto peak = static_cast<double>(load.peak_bytes);
    fmt::print("{:>6} {:>12.1f} {:>12.1f} {:>12.1f} {:>7.1f}% {:>8.2f}{}\n", ranks,
               static_cast<double>(load.shard_bytes) / kMiB, load.limit() / kMiB, peak / kMiB,
               100 * peak / load.limit(), load.seconds, load.kept() ? "" : "  TOO MUCH");
    std::fflush(stdout);
    kept &= load.kept();
  }
  return kept;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 3 && arguments[0] == "--child")
    return child(arguments[1], std::stoi(arguments[2]));
  bool kept = true;
  for (const std::string& path : arguments) kept &= measure(path, path);
  if (arguments.empty()) {
    const fs::path demo =
        fs::path(LOCKSTEP_SOURCE_DIR) / ".cache" / "SmolLM2-135M-Instruct.Q4_1.gguf";
    check(fs::exists(demo), "{} is absent: run scripts/demo-model.sh", demo.string());
    kept &= measure("SmolLM2-135M-Instruct, Q4_1 kept as float16", demo);
    const TempDir directory;
    write_model(directory.path());
    kept &= measure("random weights, bfloat16", directory.path());
  }
  fmt::print("the limit, shards + 5% + 64 MiB, was {}\n", kept ? "kept" : "EXCEEDED");
  return kept ? 0 : 1;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  try {
    return lockstep::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "load_bench: {}\n", error.what());
    return 1;
  }
}
