// lockstep man, which prints the manual page: for packages, hidden from help.
#include <fmt/format.h>

#include <sstream>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "lockstep/version.h"

namespace lockstep::cli {
namespace {

// Text as roff prints it: a minus stays a minus, and no line is taken for a request.
std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += "\\&";
    switch (c) {
      case '\\':
        out += "\\e";
        break;
      case '-':
        out += "\\-";
        break;
      case '\'':
        out += "\\(aq";
        break;
      case '`':
        out += "\\(ga";
        break;
      case '^':
        out += "\\(ha";
        break;
      case '~':
        out += "\\(ti";
        break;
      default:
        out += c;
    }
  }
  return out;
}

// The tag of a .TP: names in bold, the value in italics.
std::string option_tag(const OptionInfo& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.names)
    names.push_back(fmt::format("\\fB{}\\fR", escape(name)));
  std::string out = fmt::format("{}", fmt::join(names, ", "));
  if (!option.positional() && !option.value.empty()) out += ' ';
  if (!option.choices.empty()) return out + escape(option.value);
  return out + (option.value.empty() ? "" : fmt::format("\\fI{}\\fR", escape(option.value)));
}

std::string options_section(const CommandInfo& command) {
  std::string out;
  for (const OptionInfo& option : command.options) {
    out += ".TP\n" + option_tag(option) + "\n" + escape(option.description) + ".";
    if (option.required) out += "\nRequired.";
    if (!option.default_value.empty()) out += "\nDefault: " + escape(option.default_value) + ".";
    if (!option.variable.empty()) out += "\nEnvironment: \\fB" + escape(option.variable) + "\\fR.";
    out += "\n";
  }
  return out;
}

// Examples keep their lines.
std::string verbatim(const std::string& text) {
  return text.empty() ? "" : ".PP\n.nf\n" + escape(text) + "\n.fi\n";
}

}  // namespace

std::string man_page(const CommandLineInfo& info, const std::string& version) {
  const CommandInfo& program = info.program;
  std::string out = fmt::format(
      ".\\\" Made by `{0} man`.\n.TH {1} 1 \"\" \"{2}\" \"User Commands\"\n"
      ".SH NAME\n{0} \\- {3}\n.SH SYNOPSIS\n.B {0}\n.I COMMAND\n[\\fIOPTIONS\\fR]\n"
      ".SH DESCRIPTION\n",
      program.name, "LOCKSTEP", escape(version), escape(program.description));
  out +=
      "One language model on several devices at once, with the same bits on 1, 2, 4 or 8 of them.\n"
      "Text goes to standard output, everything else to standard error.\n"
      ".SH OPTIONS\n" +
      options_section(program);
  out += ".SH COMMANDS\n";
  for (const CommandInfo& command : info.commands)
    out += fmt::format(".SS {}\n{}.\n", command.name, escape(command.description)) +
           options_section(command) + verbatim(command.footer);
  out +=
      ".SH ENVIRONMENT\n"
      "Every option can be given by the variable named beside it; the option wins.\n"
      ".TP\n\\fBLOCKSTEP_LOG\\fR\n"
      "What is logged to standard error: trace, debug, info, warn, error or off. Default: warn.\n"
      ".TP\n\\fBLOCKSTEP_TIMEOUT_SECONDS\\fR\n"
      "How long a rank waits for the others before the run fails. Default: 600.\n"
      ".TP\n\\fBNO_COLOR\\fR\n"
      "No bold headings on a terminal.\n"
      ".SH EXIT STATUS\n"
      ".TP\n0\nAll is well.\n.TP\n1\nSomething failed; standard error says what.\n"
      ".TP\n2\nWrong usage.\n.TP\n130\nEnded by Ctrl\\-C.\n";
  return out;
}

void add_man(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("man", "Print the manual page, in roff");
  command.group("");
  command.parse_complete_callback([&app, &run] {
    run = [&app] {
      write_out(man_page(describe(app), fmt::format("Lockstep {}", version())));
      return 0;
    };
  });
}

}  // namespace lockstep::cli
