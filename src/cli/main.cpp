// The lockstep command. Exit status: 0, 1 when something failed, 2 for wrong usage, 130 after
// Ctrl-C.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <iostream>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "lockstep/version.h"

namespace lockstep::cli {
namespace {

class HelpFormatter final : public CLI::FormatterBase {
 public:
  std::string make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const override {
    const std::size_t width = output_width();
    const CLI::App* program = app->get_parent();
    if (!program) return help_text(describe(*app), width);
    return help_text(program->get_name(), describe_command(*app), width);
  }
};

// The words that no option or command of `app` took, and what they were probably meant to be.
// Empty when there are none.
std::string explain_extras(const CLI::App& app) {
  for (std::string word : app.remaining()) {
    const bool option = word.starts_with('-');
    word = word.substr(0, word.find('='));
    std::vector<std::string> candidates;
    if (option) {
      for (const OptionInfo& each : describe_command(app).options)
        candidates.insert(candidates.end(), each.names.begin(), each.names.end());
    } else if (!app.get_parent()) {
      for (const CommandInfo& each : describe(app).commands) candidates.push_back(each.name);
    }
    const std::string meant = suggestion(word, candidates);
    const char* kind = option ? "option" : app.get_parent() ? "argument" : "subcommand";
    return fmt::format("there is no {} {}{}", kind, word,
                       meant.empty() ? "" : fmt::format("; did you mean {}?", meant));
  }
  return {};
}

// Returns the exit status.
int report(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) {  // asked for help or the version
    app.exit(error);
    std::cout.flush();
    return std::cout ? 0 : 1;
  }
  const std::vector<const CLI::App*> commands =
      app.get_subcommands([](const CLI::App* command) { return command->parsed(); });
  const CLI::App& command = commands.empty() ? app : *commands.front();
  std::string message = explain_extras(command);
  if (message.empty() && commands.empty()) {
    std::vector<std::string> names;
    for (const CommandInfo& each : describe(app).commands) names.push_back(each.name);
    message = fmt::format("a subcommand is required: {}", fmt::join(names, ", "));
  }
  if (message.empty()) message = error.what();
  write_err(fmt::format("lockstep: {}\nSee `lockstep {}--help`.\n", message,
                        commands.empty() ? "" : command.get_name() + " "));
  return 2;
}

// "lockstep 0.1.0 (1a2b3c4d5e6f)" and the devices that it was built for.
std::string version_text() {
  const std::string revision = git_revision().empty() ? "" : fmt::format(" ({})", git_revision());
  return fmt::format("lockstep {}{}\nbackends: {}", version(), revision, backends());
}

int run_main(int argc, char** argv) {
  Interrupt::install();
  CLI::App app("Tensor-parallel text generation: one language model on several devices at once",
               "lockstep");
  app.set_help_flag("-h,--help", "Print this help");
  app.set_version_flag("--version", version_text(), "Print version, git revision and backends");
  app.formatter(std::make_shared<HelpFormatter>());
  app.require_subcommand(1);
  Run run;
  add_generate(app, run);
  add_chat(app, run);
  add_inspect(app, run);
  add_bench(app, run);
  add_doctor(app, run);
  add_pull(app, run);
  add_completion(app, run);
  add_man(app, run);
  try {
    app.parse(argc, argv);
    const int status = run();
    write_out("");  // all of it has arrived, or this throws
    return status;
  } catch (const CLI::ParseError& error) {
    return report(app, error);
  } catch (const std::exception& error) {
    write_err(fmt::format("lockstep: error: {}\n", error.what()));
    return 1;
  }
}

}  // namespace
}  // namespace lockstep::cli

int main(int argc, char** argv) { return lockstep::cli::run_main(argc, argv); }
