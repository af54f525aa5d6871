// The subcommands. Each adds itself to the command line and sets `run` when it is the one asked
// for; `run` returns the process's exit status. They set it in a parse_complete_callback: CLI11
// reads the environment variables of subcommands without one even when another subcommand is run.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace lockstep::cli {

using Run = std::function<int()>;

void add_generate(CLI::App& app, Run& run);
void add_chat(CLI::App& app, Run& run);
void add_inspect(CLI::App& app, Run& run);
void add_bench(CLI::App& app, Run& run);
void add_doctor(CLI::App& app, Run& run);
void add_pull(CLI::App& app, Run& run);
void add_completion(CLI::App& app, Run& run);
void add_man(CLI::App& app, Run& run);

}  // namespace lockstep::cli
