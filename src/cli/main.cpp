// The lockstep command. Exit status: 0, 1 when something failed, 2 for wrong usage, 130 after
// Ctrl-C.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <iostream>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/output.h"

int main(int argc, char** argv) {
  lockstep::cli::Interrupt::install();
  CLI::App app("Lockstep: tensor-parallel text generation");
  app.name("lockstep");
  app.set_version_flag("--version", LOCKSTEP_VERSION);
  app.require_subcommand(1);
  app.get_formatter()->column_width(34);
  lockstep::cli::Run run;
  lockstep::cli::add_generate(app, run);
  lockstep::cli::add_inspect(app, run);
  lockstep::cli::add_bench(app, run);
  try {
    app.parse(argc, argv);
    const int status = run();
    lockstep::cli::write_out("");  // all of it has arrived, or this throws
    return status;
  } catch (const CLI::ParseError& error) {
    const bool asked = app.exit(error) == 0;  // for help or the version
    std::cout.flush();
    return !asked ? 2 : std::cout ? 0 : 1;
  } catch (const std::exception& error) {
    lockstep::cli::write_err(fmt::format("lockstep: error: {}\n", error.what()));
    return 1;
  }
}
