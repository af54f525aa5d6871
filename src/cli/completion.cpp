// lockstep completion, and the scripts that it prints.
#include <fmt/format.h>

#include "cli/command_line.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "core/check.h"

namespace lockstep::cli {
namespace {

std::string join(const std::vector<std::string>& words, const char* separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

// `text` as one word for a POSIX shell or fish.
std::string quote(const std::string& text, const char* quoted_quote) {
  std::string out = "'";
  for (char c : text) c == '\'' ? out += quoted_quote : out += c;
  return out + "'";
}

std::vector<std::string> option_names(const CommandInfo& command) {
  std::vector<std::string> names;
  for (const OptionInfo& option : command.options)
    names.insert(names.end(), option.names.begin(), option.names.end());
  return names;
}

std::vector<std::string> command_names(const CommandLineInfo& info) {
  std::vector<std::string> names;
  for (const CommandInfo& command : info.commands) names.push_back(command.name);
  return names;
}

// bash: what the word before asks for, else the command's options and arguments.

std::string bash_values(const OptionInfo& option) {
  if (!option.choices.empty()) return "words='" + join(option.choices, " ") + "'";
  return option.files ? "files=yes" : "return";
}

std::string bash_command(const CommandInfo& command) {
  std::string out = fmt::format("    {})\n      case $previous in\n", command.name);
  std::string arguments;
  for (const OptionInfo& option : command.options) {
    if (option.positional())
      arguments = bash_values(option);
    else if (!option.value.empty())
      out += fmt::format("        {}) {} ;;\n", join(option.names, "|"), bash_values(option));
  }
  out +=
      fmt::format("        *)\n          if [[ $current == -* ]]; then\n            words='{}'\n",
                  join(option_names(command), " "));
  if (!arguments.empty()) out += "          else\n            " + arguments + "\n";
  return out + "          fi\n          ;;\n      esac\n      ;;\n";
}

std::string bash_script(const CommandLineInfo& info) {
  const std::string& name = info.program.name;
  std::string cases;
  for (const CommandInfo& command : info.commands) cases += bash_command(command);
  return fmt::format(
      R"(# bash completion for {0}, made by `{0} completion bash`
_{0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}}
  local command= words= files= word
  # bash takes --option=value for three words.
  if [[ $current == '=' ]]; then
    current=
  elif [[ $previous == '=' ]]; then
    previous=${{COMP_WORDS[COMP_CWORD-2]}}
  fi
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    if [[ $word != -* ]]; then
      command=$word
      break
    fi
  done
  COMPREPLY=()
  case $command in
    '')
      words='{1}'
      if [[ $current == -* ]]; then words='{2}'; fi
      ;;
{3}  esac
  if [[ -n $files ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -F _{0} {0}
)",
      name, join(command_names(info), " "), join(option_names(info.program), " "), cases);
}

// zsh: specifications for _arguments.

std::string zsh_quote(const std::string& text) { return quote(text, "'\\''"); }

std::string zsh_escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    if (c == '[' || c == ']' || c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

std::string zsh_values(const OptionInfo& option) {
  const std::string action = !option.choices.empty() ? "(" + join(option.choices, " ") + ")"
                             : option.files          ? "_files"
                                                     : "";
  return ":" + zsh_escape(option.choices.empty() ? option.value : "value") + ":" + action;
}

std::string zsh_option(const OptionInfo& option) {
  if (option.positional())
    return "        " + zsh_quote((option.repeats ? "*" : "") + zsh_values(option));
  std::string out;
  for (const std::string& name : option.names) {
    std::string specification = option.repeats ? "*" : "(" + join(option.names, " ") + ")";
    specification += name;
    if (!option.value.empty()) specification += name.starts_with("--") ? "=" : "+";
    specification += "[" + zsh_escape(option.description) + "]";
    if (!option.value.empty()) specification += zsh_values(option);
    out += (out.empty() ? "        " : " \\\n        ") + zsh_quote(specification);
  }
  return out;
}

std::string zsh_options(const CommandInfo& command) {
  std::string out;
  for (const OptionInfo& option : command.options) out += " \\\n" + zsh_option(option);
  return out;
}

std::string zsh_script(const CommandLineInfo& info) {
  std::string commands, cases;
  for (const CommandInfo& command : info.commands) {
    commands += fmt::format("        {}\n", zsh_quote(zsh_escape(command.name) + ":" +
                                                      zsh_escape(command.description)));
    cases +=
        fmt::format("    {})\n      _arguments{}\n      ;;\n", command.name, zsh_options(command));
  }
  return fmt::format(
      R"(#compdef {0}
# zsh completion for {0}, made by `{0} completion zsh`
_{0}() {{
  local context state line
  local -a commands
  _arguments -C{1} \
        '1: :->command' '*:: :->arguments'
  case $state in
    command)
      commands=(
{2}      )
      _describe command commands
      return
      ;;
    arguments) ;;
    *) return ;;
  esac
  case $line[1] in
{3}  esac
}}
if [[ $funcstack[1] == _{0} ]]; then
  _{0} "$@"
else
  compdef _{0} {0}
fi
)",
      info.program.name, zsh_options(info.program), commands, cases);
}

// fish: one `complete` for each command, option and argument.

std::string fish_quote(const std::string& text) {
  std::string escaped;
  for (char c : text) c == '\\' ? escaped += "\\\\" : escaped += c;
  return quote(escaped, "\\'");
}

std::string fish_option(const OptionInfo& option) {
  std::string out;
  for (const std::string& name : option.names)
    out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
  if (!option.choices.empty())
    out += (option.positional() ? " -a " : " -x -a ") + fish_quote(join(option.choices, " "));
  else if (option.files)
    out += option.positional() ? " -F" : " -r -F";
  else if (!option.value.empty() && !option.positional())
    out += " -x";
  return out + " -d " + fish_quote(option.description);
}

std::string fish_script(const CommandLineInfo& info) {
  const std::string& name = info.program.name;
  std::string out = fmt::format(
      "# fish completion for {0}, made by `{0} completion fish`\ncomplete -c {0} -f\n", name);
  for (const OptionInfo& option : info.program.options)
    out += fmt::format("complete -c {} -n __fish_use_subcommand{}\n", name, fish_option(option));
  for (const CommandInfo& command : info.commands)
    out += fmt::format("complete -c {} -n __fish_use_subcommand -a {} -d {}\n", name, command.name,
                       fish_quote(command.description));
  for (const CommandInfo& command : info.commands)
    for (const OptionInfo& option : command.options)
      out += fmt::format("complete -c {} -n '__fish_seen_subcommand_from {}'{}\n", name,
                         command.name, fish_option(option));
  return out;
}

}  // namespace

std::string completion_script(const CommandLineInfo& info, const std::string& shell) {
  if (shell == "bash") return bash_script(info);
  if (shell == "zsh") return zsh_script(info);
  check(shell == "fish", "there is no completion for {}: bash, zsh and fish have one", shell);
  return fish_script(info);
}

void add_completion(CLI::App& app, Run& run) {
  CLI::App& command =
      *app.add_subcommand("completion", "Print a script that completes this command in a shell");
  command.footer(
      "Examples:\n"
      "  source <(lockstep completion bash)                # in this shell, or in ~/.bashrc\n"
      "  source <(lockstep completion zsh)                 # in ~/.zshrc, after compinit\n"
      "  lockstep completion fish > ~/.config/fish/completions/lockstep.fish");
  auto shell = std::make_shared<std::string>();
  command.add_option("shell", *shell, "The shell to complete in")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command.parse_complete_callback([shell, &app, &run] {
    run = [shell, &app] {
      write_out(completion_script(describe(app), *shell));
      return 0;
    };
  });
}

}  // namespace lockstep::cli
