// lockstep chat: a conversation on the terminal, or one question from a pipe.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <iterator>
#include <limits>

#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "core/check.h"

namespace lockstep::cli {
namespace {

struct CommandOptions {
  ModelOptions model;
  int tp = 1;
  std::string prompt;
  std::string system;
  ChatOptions chat;
  SamplingOptions sampling;
  GeneratorOptions generator;
};

constexpr std::string_view kHelp =
    "/system TEXT   say how the model should behave; without TEXT: show what is said\n"
    "/reset         forget the conversation\n"
    "/save FILE     write the conversation to a file, as JSON\n"
    "/stats         figures of the last answer\n"
    "/exit          leave; so does Ctrl-D, and Ctrl-C on an empty line twice\n"
    "A line that ends with \\ goes on in the next one. \"\"\" begins a text of several lines, and\n"
    "\"\"\" at the end of a line ends it. Ctrl-C stops an answer.\n";

// Writes the answer; returns whether Ctrl-C stopped it.
bool answer(Conversation& conversation, const std::string& message) {
  const Interrupt::Scope interrupt;
  std::string last;
  const auto write = [&](std::string_view text) {
    if (!text.empty()) last = text;
    write_out(text);
  };
  const Completion& completion = conversation.say(message, write, interrupt.token());
  if (!last.ends_with('\n')) write_out("\n");
  if (completion.finish_reason == FinishReason::kLength)
    write_err("(cut off: --max-tokens or the end of the context is reached)\n");
  return interrupt.interrupted();
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

// Reads a message of one or several lines.
LineEditor::Result read_message(LineEditor& editor, std::string& message) {
  constexpr std::string_view kQuotes = "\"\"\"";
  std::string line;
  LineEditor::Result result = editor.read(">>> ", line);
  message = line;
  const bool quoted = trimmed(line).starts_with(kQuotes);
  if (quoted) message = line.substr(line.find(kQuotes) + kQuotes.size());
  while (result == LineEditor::Result::kLine) {
    if (quoted && trimmed(message).ends_with(kQuotes)) {
      message.erase(message.rfind(kQuotes));
      break;
    }
    const bool continued = !quoted && message.ends_with('\\');
    if (continued) message.pop_back();
    if (!quoted && !continued) break;
    result = editor.read("... ", line);
    message += "\n" + line;
  }
  return result;
}

// Returns false to leave.
bool run_command(Conversation& conversation, std::string_view line) {
  const std::size_t space = std::min(line.find_first_of(" \t\n"), line.size());
  const std::string_view name = line.substr(0, space);
  const std::string argument(trimmed(line.substr(space)));
  if (name == "/exit" || name == "/quit" || name == "/bye") return false;
  if (name == "/system") {
    if (!argument.empty()) conversation.set_system(argument);
    write_err(conversation.system().empty() ? "no system message\n"
                                            : "system: " + conversation.system() + "\n");
  } else if (name == "/reset") {
    conversation.reset();
    write_err("the conversation is forgotten\n");
  } else if (name == "/save") {
    check(!argument.empty(), "/save needs the name of a file");
    conversation.save(argument);
    write_err(fmt::format("written to {}\n", argument));
  } else if (name == "/stats") {
    write_err(conversation.stats() + "\n");
  } else if (name == "/help" || name == "/?") {
    write_err(kHelp);
  } else {
    fail("there is no command {}; /help lists them", name);
  }
  return true;
}

void run_terminal(Conversation& conversation) {
  write_err("Ask something, or /help; Ctrl-D leaves.\n");
  LineEditor editor(state_file("chat_history"));
  bool leaving = false;  // Ctrl-C was the last key
  while (true) {
    std::string message;
    const LineEditor::Result result = read_message(editor, message);
    if (result == LineEditor::Result::kEnd) break;
    if (result == LineEditor::Result::kInterrupt) {
      if (leaving && message.empty()) break;
      leaving = message.empty();
      if (leaving) write_err("Ctrl-C again, or Ctrl-D, leaves.\n");
      continue;
    }
    leaving = false;
    const std::string_view text = trimmed(message);
    if (text.empty()) continue;
    editor.add_history(message);
    try {
      if (!text.starts_with('/'))
        answer(conversation, message);
      else if (!run_command(conversation, text))
        break;
    } catch (const Error& error) {
      write_err(fmt::format("lockstep: error: {}\n", error.what()));
    }
  }
  write_err("\n");
}

int run_chat(const CommandOptions& options) {
  options.sampling.check_early();
  const bool terminal = options.prompt.empty() && isatty(STDIN_FILENO);
  std::string question = options.prompt;
  if (!terminal && question.empty()) {
    question.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
    if (trimmed(question).empty()) usage_error("no message: give one with -p or on stdin");
    question = trimmed(question);
  }
  GeneratorOptions generator_options = options.generator;
  generator_options.max_batch_size = 1;
  const Model model =
      load(options.model, options.tp, !options.sampling.no_generation_config, &generator_options);
  check(model.has_chat_template() || !options.chat.chat_template.empty(),
        "{}: no chat template: this model was not made for conversations; continue texts with "
        "`lockstep generate`",
        options.model.model);
  Generator generator(model, generator_options);
  Conversation conversation(model, generator, options.sampling.overlay(model.default_sampling()),
                            options.chat, options.system);
  if (terminal) {
    run_terminal(conversation);
    return 0;
  }
  const bool interrupted = answer(conversation, question);
  write_err(conversation.stats() + "\n");
  return interrupted ? 130 : 0;
}

}  // namespace

void add_chat(CLI::App& app, Run& run) {
  CLI::App& command =
      *app.add_subcommand("chat", "Talk with a model, on the terminal or through a pipe");
  auto options = std::make_shared<CommandOptions>();
  CommandOptions& o = *options;
  command.footer(
      "On a terminal: a conversation, with line editing and history; /help lists its commands.\n"
      "From a pipe: all of stdin is one message, which is answered.\n\n"
      "Examples:\n"
      "  lockstep chat -m models/Qwen3-8B --tp 4\n"
      "  lockstep chat -m model.gguf --system \"Answer in one sentence.\" -t 0\n"
      "  lockstep chat -m model.gguf -p \"Why is the sky blue?\" > answer.txt\n"
      "  git diff | lockstep chat -m model.gguf --system \"Review this change.\"");
  o.model.add_to(command);
  add_option(command, "--tp", o.tp, "Ranks that share the model (tensor parallelism)", "TP")
      ->check(CLI::Range(1, Mesh::kMaxWorldSize));
  add_option(command, "-p,--prompt", o.prompt, "Ask this, print the answer, and leave", "PROMPT");
  add_option(command, "--system", o.system, "How the model should behave", "SYSTEM");
  add_option(command, "--template-variables", o.chat.variables,
             "JSON object of what the chat template may use: {\"enable_thinking\": false}",
             "TEMPLATE_VARIABLES");
  o.sampling.max_tokens = std::numeric_limits<int>::max();
  o.sampling.add_to(command);
  add_option(command, "--max-length", o.generator.max_length,
             "Tokens of the whole conversation; 0: the model's, at most 8192", "MAX_LENGTH");
  add_option(command, "--prefill-chunk", o.generator.prefill_chunk,
             "Prompt tokens that one step works on", "PREFILL_CHUNK");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_chat(*options); }; });
}

}  // namespace lockstep::cli
