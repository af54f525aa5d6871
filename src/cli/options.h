// Command-line options that several subcommands share, and what is made from them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "core/format_bytes.h"
#include "lockstep/lockstep.h"

namespace lockstep::cli {

// CLI11 by itself reads "" as 0, and -1 as the largest number that is not negative.
CLI::Validator not_empty();
CLI::Validator not_negative();

// Every option has a LOCKSTEP_... environment variable; the flag wins.
template <typename T>
CLI::Option* add_option(CLI::App& app, const std::string& names, T& value, const std::string& help,
                        const std::string& variable) {
  CLI::Option* option = app.add_option(names, value, help);
  option->envname("LOCKSTEP_" + variable)->capture_default_str();
  constexpr bool text =
      std::is_same_v<T, std::string> || std::is_same_v<T, std::vector<std::string>>;
  if (!text) option->check(not_empty());
  constexpr bool natural =
      std::is_same_v<T, std::uint64_t> || std::is_same_v<T, std::optional<std::uint64_t>>;
  if (natural) option->check(not_negative());
  return option;
}

struct ModelOptions {
  std::string model;
  std::string device = "auto";
  std::string dtype = "auto";
  std::string load_format = "auto";
  std::uint64_t dummy_seed = 0;
  bool deterministic = false;
  bool no_memory_check = false;

  void add_to(CLI::App& app);
  Mesh mesh(int world_size) const;
  LoadOptions load_options() const;
};

// Throws what makes the process end with status 2, "wrong usage".
[[noreturn]] void usage_error(const std::string& message);

// Where the model's files are; fetches them, with progress on a terminal, when it is a name on the
// hub and not in the cache.
std::string locate(const ModelOptions& options);

// load_model, with progress on a terminal. `planned`: the Generator that will use the model;
// refuses before loading what it could not be made for.
Model load(const ModelOptions& options, int world_size, bool use_generation_config = true,
           const GeneratorOptions* planned = nullptr);

}  // namespace lockstep::cli
