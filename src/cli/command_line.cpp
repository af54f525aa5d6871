#include "cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>

namespace lockstep::cli {
namespace {

// CLI11 keeps an option's validators in its type name: "TEXT:{auto,cpu,cuda}".
std::vector<std::string> choices_of(const std::string& type) {
  const std::size_t open = type.find(":{");
  const std::size_t close = type.find('}', open);
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 2, close - open - 2), ',');
}

OptionInfo describe_option(const CLI::Option& option) {
  OptionInfo info;
  for (const std::string& name : option.get_snames()) info.names.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) info.names.push_back("--" + name);
  info.description = option.get_description();
  info.variable = option.get_envname();
  info.required = option.get_required();
  if (option.get_items_expected_max() == 0) return info;  // a flag

  const std::string type = option.get_type_name();
  info.value = type.substr(0, type.find(':'));
  info.files = info.value == "FILE" || info.value == "DIR" || info.value == "MODEL";
  info.choices = choices_of(type);
  if (!info.choices.empty()) info.value = CLI::detail::join(info.choices, "|");
  info.repeats = option.get_expected_max() > 1;
  if (option.get_default_str() != "[]") info.default_value = option.get_default_str();
  // A list of one: "[1]".
  std::string& text = info.default_value;
  if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
  return info;
}

}  // namespace

CommandInfo describe_command(const CLI::App& app) {
  CommandInfo info;
  info.name = app.get_name();
  info.description = app.get_description();
  info.footer = app.get_footer();
  for (const CLI::Option* option : app.get_options())
    if (!option->get_group().empty()) info.options.push_back(describe_option(*option));
  // Help belongs at the end, where nobody looks for anything else.
  std::stable_partition(info.options.begin(), info.options.end(), [](const OptionInfo& option) {
    return std::find(option.names.begin(), option.names.end(), "--help") == option.names.end();
  });
  return info;
}

CommandLineInfo describe(const CLI::App& app) {
  CommandLineInfo info;
  info.program = describe_command(app);
  for (const CLI::App* command : app.get_subcommands({}))
    if (!command->get_group().empty()) info.commands.push_back(describe_command(*command));
  return info;
}

std::string suggestion(const std::string& word, const std::vector<std::string>& candidates) {
  // Edits that turn one into the other: insertions, deletions, replacements and exchanges of
  // neighbours (optimal string alignment).
  const auto distance = [](const std::string& a, const std::string& b) {
    std::vector<std::vector<std::size_t>> edits(a.size() + 1,
                                                std::vector<std::size_t>(b.size() + 1));
    for (std::size_t i = 0; i <= a.size(); ++i) {
      for (std::size_t j = 0; j <= b.size(); ++j) {
        if (i == 0 || j == 0) {
          edits[i][j] = i + j;
          continue;
        }
        edits[i][j] = std::min({edits[i - 1][j] + 1, edits[i][j - 1] + 1,
                                edits[i - 1][j - 1] + (a[i - 1] != b[j - 1])});
        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
          edits[i][j] = std::min(edits[i][j], edits[i - 2][j - 2] + 1);
      }
    }
    return edits[a.size()][b.size()];
  };
  constexpr std::size_t kShortest = 3, kLongest = 64;  // others are no typing errors
  if (word.size() < kShortest || word.size() > kLongest) return {};
  std::string best;
  std::size_t fewest = std::max<std::size_t>(word.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    // "--max" for "--max-tokens", "gen" for "generate".
    const bool begun = word.size() >= 3 && candidate.starts_with(word);
    const std::size_t edits = begun ? 1 : distance(word, candidate);
    if (edits >= fewest) continue;
    fewest = edits;
    best = candidate;
  }
  return best;
}

}  // namespace lockstep::cli
