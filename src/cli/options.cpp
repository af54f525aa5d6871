#include "cli/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <map>

#include "cli/output.h"
#include "cli/pull_bar.h"

namespace lockstep::cli {

CLI::Validator not_empty() {
  return CLI::Validator(
      [](std::string& value) { return value.empty() ? "a value is missing" : ""; }, "");
}

CLI::Validator not_negative() {
  return CLI::Validator(
      [](std::string& value) {
        std::uint64_t number = 0;
        const auto end = value.data() + value.size();
        const auto result = std::from_chars(value.data(), end, number);
        return result.ec == std::errc() && result.ptr == end
                   ? std::string()
                   : fmt::format("{} is no whole number from 0 to 2^64 - 1", value);
      },
      "");
}

void ModelOptions::add_to(CLI::App& app) {
  add_option(app, "-m,--model", model, "Directory, .gguf file, or org/name on the hub", "MODEL")
      ->type_name("MODEL")
      ->check(not_empty())
      ->required();
  add_option(app, "--device", device, "Where to run; auto takes GPUs where there are enough",
             "DEVICE")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  add_option(app, "--dtype", dtype, "What weights and KV cache are kept as", "DTYPE")
      ->check(CLI::IsMember({"auto", "float32", "bfloat16", "float16"}));
  add_option(app, "--load-format", load_format,
             "dummy: seeded random weights from a config.json alone", "LOAD_FORMAT")
      ->check(CLI::IsMember({"auto", "dummy"}));
  add_option(app, "--dummy-seed", dummy_seed, "Seed of --load-format dummy", "DUMMY_SEED");
  app.add_flag("--deterministic", deterministic,
               "On GPUs: the same bits with any --tp for prompts too, at some speed")
      ->envname("LOCKSTEP_DETERMINISTIC");
  app.add_flag("--no-memory-check", no_memory_check,
               "Load the model even though it seems not to fit into memory")
      ->envname("LOCKSTEP_NO_MEMORY_CHECK");
}

Mesh ModelOptions::mesh(int world_size) const {
  static const std::map<std::string, std::optional<DeviceType>> types = {
      {"auto", std::nullopt}, {"cpu", DeviceType::kCpu}, {"cuda", DeviceType::kCuda}};
  return Mesh::tensor_parallel(world_size, types.at(device));
}

LoadOptions ModelOptions::load_options() const {
  static const std::map<std::string, std::optional<DType>> dtypes = {{"auto", std::nullopt},
                                                                     {"float32", DType::kFloat32},
                                                                     {"bfloat16", DType::kBFloat16},
                                                                     {"float16", DType::kFloat16}};
  LoadOptions options;
  options.dtype = dtypes.at(dtype);
  options.dummy_weights = load_format == "dummy";
  options.dummy_seed = dummy_seed;
  options.deterministic = deterministic;
  options.check_memory = !no_memory_check;
  return options;
}

void usage_error(const std::string& message) { throw CLI::ValidationError(message); }

std::string locate(const ModelOptions& options) {
  PullOptions pull;
  pull.weights = options.load_format != "dummy";
  PullBar bar(pull);
  return locate_model(options.model, pull).string();
}

Model load(const ModelOptions& options, int world_size, bool use_generation_config,
           const GeneratorOptions* planned) {
  LoadOptions load_options = options.load_options();
  load_options.use_generation_config = use_generation_config;
  if (planned) {
    load_options.planned_batch_size = planned->max_batch_size;
    load_options.planned_length = planned->max_length;
  }
  const bool terminal = isatty(STDERR_FILENO);
  int shown = -1;
  if (terminal) {
    load_options.progress = [&](std::uint64_t done, std::uint64_t total) {
      const int percent = total == 0 ? 100 : static_cast<int>(done * 100 / total);
      if (percent == shown) return;
      shown = percent;
      write_err(
          fmt::format("\rloading {} {:3}%", format_bytes(static_cast<double>(total)), percent));
    };
  }
  const std::string path = locate(options);
  Model model = load_model(path, options.mesh(world_size), load_options);
  if (terminal) write_err("\r\x1b[K");
  return model;
}

}  // namespace lockstep::cli
