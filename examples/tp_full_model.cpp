// A whole model on all ranks: greedy text, and the log-probabilities of its tokens.
//
//   build-dev/examples/tp_full_model --tp 4 --model path/to/model
#include <iostream>

#include "common/example.h"
#include "lockstep/lockstep.h"

namespace {

struct ModelOptions {
  std::string model = LOCKSTEP_MODELS_DIR "/tinyllama-1.1b";
  int tokens = 32;

  // A directory with nothing but a config.json gives the sizes; the weights are then seeded.
  bool dummy() const {
    namespace fs = std::filesystem;
    return fs::is_directory(model) && !fs::exists(fs::path(model) / "model.safetensors") &&
           !fs::exists(fs::path(model) / "model.safetensors.index.json");
  }
};

example::Result compute(const lockstep::Mesh& mesh, const ModelOptions& options, int runs) {
  lockstep::LoadOptions load;
  load.dummy_weights = options.dummy();
  const lockstep::Model model = lockstep::load_model(options.model, mesh, load);
  lockstep::Generator generator(
      model, {.max_batch_size = 1, .max_length = std::min<std::int64_t>(model.max_length(), 1024)});
  lockstep::SamplingParams params;
  params.temperature = 0;
  params.max_tokens = options.tokens;
  params.ignore_eos = true;
  params.logprobs = 0;
  const std::vector<std::int32_t> prompt = {1, 2, 3, 5, 8, 13, 21, 34};

  example::Result result;
  for (const lockstep::Token& token : generator.stream(prompt, params)) {
    result.values.push_back(static_cast<float>(token.id));
    result.values.push_back(*token.logprob);
  }
  params.logprobs.reset();
  result.microseconds = example::median_time(runs, [&] { generator.generate(prompt, params); });
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Greedy text of a whole model on several ranks", "tp_full_model");
  example::Options options(app);
  ModelOptions model;
  app.add_option("-m,--model", model.model,
                 "A model; or a directory with only its config.json, for seeded weights")
      ->capture_default_str();
  app.add_option("-n,--tokens", model.tokens, "New tokens")
      ->check(CLI::Range(1, 512))
      ->capture_default_str();
  return example::compare(app, argc, argv, options, [&](const lockstep::Mesh& mesh) {
    return compute(mesh, model, options.runs);
  });
}
