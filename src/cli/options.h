// Command-line options that several subcommands share, and what is made from them.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>

#include "lockstep/lockstep.h"

namespace lockstep::cli {

// Every option has a LOCKSTEP_... environment variable; the flag wins.
template <typename T>
CLI::Option* add_option(CLI::App& app, const std::string& names, T& value, const std::string& help,
                        const std::string& variable) {
  return app.add_option(names, value, help)->envname("LOCKSTEP_" + variable)->capture_default_str();
}

struct ModelOptions {
  std::string model;
  std::string device = "auto";
  std::string dtype = "auto";
  std::string load_format = "auto";
  std::uint64_t dummy_seed = 0;

  void add_to(CLI::App& app);
  Mesh mesh(int world_size) const;
  LoadOptions load_options() const;
};

// Throws what makes the process end with status 2, "wrong usage".
[[noreturn]] void usage_error(const std::string& message);

// load_model, with progress on a terminal.
Model load(const ModelOptions& options, int world_size, bool use_generation_config = true);

// "1.25 GB", "640 B".
std::string format_bytes(double bytes);

}  // namespace lockstep::cli
