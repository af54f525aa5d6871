// lockstep pull: a model from the hub into the cache.
#include "hub/pull.h"

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/pull_bar.h"

namespace lockstep::cli {
namespace {

struct PullCommand {
  std::string model;
  std::string revision;
  bool json = false;
};

void print_json(const PulledModel& pulled) {
  nlohmann::ordered_json json = {{"path", pulled.path.string()},
                                 {"model", pulled.repo},
                                 {"revision", pulled.revision},
                                 {"commit", pulled.commit},
                                 {"files", nlohmann::ordered_json::array()}};
  for (const PulledFile& file : pulled.files)
    json["files"].push_back({{"name", file.name}, {"bytes", file.size}, {"fetched", file.fetched}});
  write_out(json.dump(2) + "\n");
}

std::string summary(const PulledModel& pulled) {
  const std::string name = fmt::format("{} at {}: ", pulled.repo, pulled.commit.substr(0, 12));
  if (pulled.files.empty()) return name + "from the cache, without asking the hub\n";
  std::uint64_t fetched = 0, total = 0;
  for (const PulledFile& file : pulled.files) {
    total += file.size;
    fetched += file.fetched ? file.size : 0;
  }
  return name + fmt::format("{} files, {}, of which {} were fetched\n", pulled.files.size(),
                            format_bytes(static_cast<double>(total)),
                            format_bytes(static_cast<double>(fetched)));
}

ModelName name_of(const PullCommand& command) {
  try {
    return parse_pull_name(command.model, command.revision);
  } catch (const Error& error) {
    usage_error(error.what());
  }
}

int run_pull(const PullCommand& command) {
  const ModelName name = name_of(command);
  const Interrupt::Scope interrupt;
  PullOptions options;
  options.stop = interrupt.token();
  PulledModel pulled;
  try {
    PullBar bar(options);
    pulled = pull_model(hub_settings(), name, options);
  } catch (const Error& error) {
    if (!interrupt.interrupted()) throw;
    write_err(fmt::format("lockstep: {}: {}\n", command.model, error.what()));
    return 130;
  }
  if (command.json) {
    print_json(pulled);
    return 0;
  }
  write_err(summary(pulled));
  write_out(pulled.path.string() + "\n");
  return 0;
}

}  // namespace

void add_pull(CLI::App& app, Run& run) {
  CLI::App& command =
      *app.add_subcommand("pull", "Fetch a model from the Hugging Face hub into its cache");
  auto options = std::make_shared<PullCommand>();
  command.footer(
      "Examples:\n"
      "  lockstep pull mistralai/Mistral-7B-v0.1\n"
      "  lockstep pull org/name@v1.0\n"
      "  lockstep pull org/name-GGUF:Q4_K_M\n"
      "  lockstep generate -m \"$(lockstep pull org/name)\" -p Hello");
  add_option(command, "MODEL", options->model,
             "org/name, org/name:Q4_K_M or org/name/file.gguf, with or without @revision", "MODEL")
      ->check(not_empty())
      ->required();
  add_option(command, "--revision", options->revision, "Branch, tag or commit", "REVISION");
  command.add_flag("--json", options->json, "One JSON object: path, commit, files")
      ->envname("LOCKSTEP_JSON");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_pull(*options); }; });
}

}  // namespace lockstep::cli
