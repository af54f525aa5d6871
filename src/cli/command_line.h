// The command line as data: what help, completion, the man page and suggestions are made from. Read
// from the CLI11 application, so that a new command or option is in all of them by itself.
#pragma once

#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace lockstep::cli {

struct OptionInfo {
  std::vector<std::string> names;  // "-m", "--model"; none: a positional argument
  std::string value;  // what it takes, for people: "MODEL", "auto|cpu"; empty for a flag
  std::string description;
  std::string default_value;         // empty: none
  std::string variable;              // environment variable; empty: none
  std::vector<std::string> choices;  // empty: anything
  bool files = false;                // takes a path
  bool required = false;
  bool repeats = false;  // may be given several times

  bool positional() const { return names.empty(); }
};

struct CommandInfo {
  std::string name;
  std::string description;
  std::string footer;  // examples
  std::vector<OptionInfo> options;
};

struct CommandLineInfo {
  CommandInfo program;
  std::vector<CommandInfo> commands;
};

// Without what is hidden: CLI11's empty groups. An option takes a path when its type name is FILE,
// DIR or MODEL.
CommandLineInfo describe(const CLI::App& app);
CommandInfo describe_command(const CLI::App& command);

// The text of --help, no line longer than `width` where words allow it.
std::string help_text(const CommandLineInfo& info, std::size_t width);  // of the program
std::string help_text(const std::string& program, const CommandInfo& command, std::size_t width);

// A script that completes the command line in "bash", "zsh" or "fish".
std::string completion_script(const CommandLineInfo& info, const std::string& shell);

// The manual page, in the man macros of roff. `version` is named in its footer.
std::string man_page(const CommandLineInfo& info, const std::string& version);

// What a mistyped word was meant to be: the candidate that takes the fewest edits, if those are few
// for its length. Empty: none.
std::string suggestion(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace lockstep::cli
