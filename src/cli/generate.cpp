// lockstep generate: text to stdout as it is made, figures to stderr.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "cli/commands.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/sampling_options.h"
#include "core/check.h"
#include "generate/model_impl.h"

namespace lockstep::cli {
namespace {

struct GenerateOptions {
  ModelOptions model;
  int tp = 1;
  std::vector<std::string> prompts;
  std::vector<std::string> files;
  std::vector<std::int32_t> prompt_ids;
  SamplingOptions sampling;
  std::optional<int> logprobs;
  bool json = false;
  bool echo = false;
  GeneratorOptions generator;
};

std::string read_all(std::istream& in) {
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Every editor and `echo` end a text with a newline that is not meant to be continued.
std::string without_last_newline(std::string text) {
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::vector<Prompt> read_prompts(const GenerateOptions& options) {
  std::vector<Prompt> prompts(options.prompts.begin(), options.prompts.end());
  for (const std::string& file : options.files) {
    std::ifstream in(file, std::ios::binary);
    check(in.is_open() && in.peek() != std::ifstream::traits_type::eof(),
          "{}: cannot be read, or is empty", file);
    prompts.emplace_back(without_last_newline(read_all(in)));
  }
  if (!options.prompt_ids.empty()) prompts.emplace_back(options.prompt_ids);
  if (prompts.empty()) {
    if (isatty(STDIN_FILENO))
      usage_error("no prompt: give one with -p, -f, --prompt-ids or on stdin");
    std::ostringstream text;
    char chunk[4096];
    for (ssize_t size; (size = read(STDIN_FILENO, chunk, sizeof chunk)) > 0;)
      text.write(chunk, size);
    prompts.emplace_back(without_last_newline(text.str()));
  }
  return prompts;
}

SamplingParams sampling_params(const GenerateOptions& options, const SamplingParams& defaults) {
  SamplingParams params = options.sampling.overlay(defaults);
  params.logprobs = options.logprobs;
  return params;
}

// What can be known to be wrong before the model is loaded.
void check_params(const GenerateOptions& options) {
  try {
    validate(sampling_params(options, SamplingParams{}));
  } catch (const Error& error) {
    usage_error(error.what());
  }
}

// Broken text (a token that is not UTF-8 on its own) is replaced and not an error.
std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

nlohmann::ordered_json to_json(const Completion& completion) {
  nlohmann::ordered_json tokens = nlohmann::ordered_json::array();
  for (const Token& token : completion.tokens) {
    nlohmann::ordered_json entry = {{"id", token.id}, {"text", token.text}};
    if (token.logprob) {
      entry["logprob"] = *token.logprob;
      entry["top_logprobs"] = nlohmann::ordered_json::array();
      for (const TokenLogprob& top : token.top_logprobs)
        entry["top_logprobs"].push_back(
            {{"id", top.id}, {"token", top.token}, {"logprob", top.logprob}});
    }
    tokens.push_back(std::move(entry));
  }
  const std::size_t count = completion.tokens.size();
  nlohmann::ordered_json json = {
      {"text", completion.text},
      {"tokens", std::move(tokens)},
      {"finish_reason", name_of(completion.finish_reason)},
      {"usage", {{"prompt_tokens", completion.prompt_tokens}, {"completion_tokens", count}}},
      {"timings",
       {{"queue_seconds", completion.timings.queue_seconds},
        {"prefill_seconds", completion.timings.prefill_seconds},
        {"decode_seconds", completion.timings.decode_seconds}}}};
  if (!completion.stop_string.empty()) json["stop_string"] = completion.stop_string;
  return json;
}

void print_figures(const Model& model, const Completion& completion) {
  const Timings& timings = completion.timings;
  const auto steps = static_cast<double>(completion.tokens.size()) - 1;
  std::string line = fmt::format("{}: {} prompt tokens in {:.1f} ms, {} new tokens",
                                 to_string(model.mesh()), completion.prompt_tokens,
                                 1e3 * timings.prefill_seconds, completion.tokens.size());
  if (steps > 0 && timings.decode_seconds > 0)
    line += fmt::format(" at {:.2f} ms each ({:.1f} tokens/s)",
                        1e3 * timings.decode_seconds / steps, steps / timings.decode_seconds);
  line += fmt::format("; finished by {}; loading took {:.2f} s\n",
                      name_of(completion.finish_reason), model.impl()->load_seconds);
  write_err(line);
}

int run_generate(const GenerateOptions& options) {
  check_params(options);
  const std::vector<Prompt> prompts = read_prompts(options);
  GeneratorOptions generator_options = options.generator;
  generator_options.max_batch_size = static_cast<int>(std::min<std::size_t>(prompts.size(), 64));
  const Model model =
      load(options.model, options.tp, !options.sampling.no_generation_config, &generator_options);
  const SamplingParams params = sampling_params(options, model.default_sampling());
  Generator generator(model, generator_options);

  const Interrupt::Scope interrupt;
  const auto status = [&] { return interrupt.interrupted() ? 130 : 0; };
  if (prompts.size() == 1 && !options.json) {
    TokenStream stream = generator.stream(prompts.front(), params);
    const std::stop_callback cancel(interrupt.token(), [&] { stream.cancel(); });
    if (options.echo) write_out(prompts.front().text);
    for (const Token& token : stream) {
      write_out(model.has_tokenizer() ? token.text : fmt::format("{} ", token.id));
    }
    write_out("\n");
    print_figures(model, stream.completion());
    return status();
  }
  const std::vector<Completion> completions =
      generator.generate(prompts, params, interrupt.token());
  for (std::size_t i = 0; i < completions.size(); ++i) {
    if (options.json) {
      write_out(dump(to_json(completions[i])) + "\n");
    } else {
      write_out((options.echo ? prompts[i].text : "") + completions[i].text + "\n");
      print_figures(model, completions[i]);
    }
  }
  return status();
}

}  // namespace

void add_generate(CLI::App& app, Run& run) {
  CLI::App& command = *app.add_subcommand("generate", "Continue a text");
  auto options = std::make_shared<GenerateOptions>();
  GenerateOptions& o = *options;
  command.footer(
      "Examples:\n"
      "  lockstep generate -m models/SmolLM2-135M --tp 4 -p \"The capital of France is\"\n"
      "  lockstep generate -m model.gguf -t 0 -n 64 -f question.txt > answer.txt\n"
      "  echo \"Once upon a time\" | lockstep generate -m model.gguf --seed 1 --json");
  o.model.add_to(command);
  add_option(command, "--tp", o.tp, "Ranks that share the model (tensor parallelism)", "TP")
      ->check(CLI::Range(1, Mesh::kMaxWorldSize));
  add_option(command, "-p,--prompt", o.prompts, "Text to continue; several times: a batch",
             "PROMPT")
      ->allow_extra_args(false);
  add_option(command, "-f,--file", o.files, "File with a text to continue", "FILE")
      ->type_name("FILE")
      ->allow_extra_args(false);
  add_option(command, "--prompt-ids", o.prompt_ids, "Token ids to continue: 1,2,3", "PROMPT_IDS")
      ->delimiter(',');
  o.sampling.max_tokens = 128;
  o.sampling.add_to(command);
  add_option(command, "--logprobs", o.logprobs,
             "With --json: log-probabilities, also of this many of the best tokens", "LOGPROBS");
  command.add_flag("--echo", o.echo, "Print the prompt first")->envname("LOCKSTEP_ECHO");
  command.add_flag("--json", o.json, "One JSON object a prompt, at the end")
      ->envname("LOCKSTEP_JSON");
  add_option(command, "--max-length", o.generator.max_length,
             "Tokens of prompt and output; 0: the model's, at most 8192", "MAX_LENGTH");
  add_option(command, "--prefill-chunk", o.generator.prefill_chunk,
             "Prompt tokens that one step works on", "PREFILL_CHUNK");
  command.parse_complete_callback(
      [options, &run] { run = [options] { return run_generate(*options); }; });
}

}  // namespace lockstep::cli
