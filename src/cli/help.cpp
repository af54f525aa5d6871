// The text of --help.
#include <fmt/format.h>

#include <algorithm>
#include <sstream>

#include "cli/command_line.h"

namespace lockstep::cli {
namespace {

constexpr std::size_t kDescriptionColumn = 30;

// Words in lines of at most `width`, those after the first indented by `indent`. `column` is where
// the first one begins.
std::string wrap(const std::string& text, std::size_t column, std::size_t indent,
                 std::size_t width) {
  std::string out;
  std::istringstream words(text);
  bool first = true;
  for (std::string word; words >> word; first = false) {
    if (!first && column + 1 + word.size() > width) {
      out += '\n';
      out.append(indent, ' ');
      column = indent;
      first = true;
    }
    if (!first) ++column, out += ' ';
    out += word;
    column += word.size();
  }
  return out;
}

// A name and what it means, the latter in the second column.
std::string entry(const std::string& name, const std::string& meaning, std::size_t width) {
  const std::string margin(kDescriptionColumn, ' ');
  return fmt::format("  {:<{}}{}{}\n", name, kDescriptionColumn - 2,
                     name.size() + 4 > kDescriptionColumn ? "\n" + margin : "",
                     wrap(meaning, kDescriptionColumn, kDescriptionColumn, width));
}

std::string option_entry(const OptionInfo& option, std::size_t width) {
  std::string name = fmt::format("{}", fmt::join(option.names, ", "));
  if (name.starts_with("--")) name.insert(0, 4, ' ');  // below the long names of the others
  if (!option.positional() && !option.value.empty()) name += ' ';
  name += option.value;
  std::string meaning = option.description;
  if (option.required) meaning += " (required)";
  if (!option.default_value.empty()) meaning += fmt::format(" [{}]", option.default_value);
  if (!option.variable.empty()) meaning += fmt::format(" ({})", option.variable);
  return entry(name, meaning, width);
}

std::string options_section(const CommandInfo& command, std::size_t width) {
  std::string arguments, options;
  for (const OptionInfo& option : command.options)
    (option.positional() ? arguments : options) += option_entry(option, width);
  std::string out;
  if (!arguments.empty()) out += "\nArguments:\n" + arguments;
  return out + "\nOptions:\n" + options;
}

std::string footer(const CommandInfo& command) {
  return command.footer.empty() ? "" : "\n" + command.footer + "\n";
}

}  // namespace

std::string help_text(const CommandLineInfo& info, std::size_t width) {
  const CommandInfo& program = info.program;
  std::string out = fmt::format("{}\n\nUsage: {} COMMAND [OPTIONS]\n\nCommands:\n",
                                wrap(program.description, 0, 0, width), program.name);
  for (const CommandInfo& command : info.commands)
    out += entry(command.name, command.description, width);
  out += options_section(program, width) + footer(program);
  return out + fmt::format("\n`{} COMMAND --help` explains a command's options.\n", program.name);
}

std::string help_text(const std::string& program, const CommandInfo& command, std::size_t width) {
  std::string usage;
  for (const OptionInfo& option : command.options)
    if (option.required && !option.positional())
      usage += fmt::format(" {} {}", option.names.front(), option.value);
  usage += " [OPTIONS]";
  for (const OptionInfo& option : command.options)
    if (option.positional())
      usage += fmt::format("{}{}{}{}", option.required ? " " : " [", option.value,
                           option.repeats ? "..." : "", option.required ? "" : "]");
  return fmt::format("{}\n\nUsage: {} {}{}\n", wrap(command.description, 0, 0, width), program,
                     command.name, usage) +
         options_section(command, width) + footer(command);
}

}  // namespace lockstep::cli
