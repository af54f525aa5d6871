#include "common/layer.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "checkpoint/checkpoint.h"
#include "checkpoint/json.h"
#include "core/check.h"
#include "sharding/loader.h"

namespace example {

namespace fs = std::filesystem;
using namespace lockstep;

namespace {

// The checkpoint of a model with this one's sizes, but one layer and no vocabulary to speak of.
std::unique_ptr<Checkpoint> one_layer_checkpoint(const fs::path& model) {
  nlohmann::json json = read_json_file(fs::is_directory(model) ? model / "config.json" : model);
  json["num_hidden_layers"] = 1;
  json["vocab_size"] = 64;
  json["eos_token_id"] = nullptr;
  json.erase("layer_types");
  std::string folder = (fs::temp_directory_path() / "lockstep-example-XXXXXX").string();
  check(mkdtemp(folder.data()) != nullptr, "{} cannot be made", folder);
  const fs::path file = fs::path(folder) / "config.json";
  std::ofstream(file) << json;
  auto checkpoint = open_dummy_checkpoint(file);
  fs::remove_all(folder);
  return checkpoint;
}

// `batch` sequences of `context` tokens, whose next token is to be run.
class Step {
 public:
  Step(const LayerOptions& options) : options_(options) {
    const std::int64_t blocks = kv_blocks(options.context + 1);
    for (int slot = 0; slot < options.batch; ++slot) {
      Admission admission;
      admission.slot = slot;
      admission.tokens.assign(static_cast<std::size_t>(options.context + 1), 0);
      for (std::int64_t i = 0; i < blocks; ++i)
        admission.blocks.push_back(static_cast<std::int32_t>(slot * blocks + i));
      admissions_.push_back(std::move(admission));
    }
  }

  // The tokens before, of one sequence.
  StepInput prompt(int slot) const {
    StepInput step;
    if (slot == 0) step.admissions = admissions_;
    for (std::int64_t position = 0; position < options_.context; ++position) {
      step.slots.push_back(slot);
      step.positions.push_back(static_cast<std::int32_t>(position));
    }
    return step;
  }

  // The next token of every sequence.
  StepInput next() const {
    StepInput step;
    for (int slot = 0; slot < options_.batch; ++slot) {
      step.slots.push_back(slot);
      step.positions.push_back(static_cast<std::int32_t>(options_.context));
    }
    return step;
  }

 private:
  const LayerOptions& options_;
  std::vector<Admission> admissions_;
};

// Random numbers as the hidden state of the batch's rows.
Tensor start(Rank& rank, Layer& layer, const Config& config, unsigned seed) {
  const std::int64_t rows = layer.batch.view().rows;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(rows * config.hidden_size));
  for (float& value : values) value = normal(random);
  const Tensor stream = layer.transformer.residual().start(rows);
  rank.ops().upload(stream, Tensor{values.data(), stream.dtype, stream.shape, Device{}});
  return stream;
}

// Runs the next tokens `repeats` times on one rank.
void run_part(Rank& rank, Layer& layer, const Part& part, int repeats) {
  for (int i = 0; i < repeats; ++i)
    layer.recorder->run(0, [&] { part(layer, layer.batch.view()); });
  rank.ops().synchronize();
}

// Runs the prompts and then the next tokens on one rank: the hidden state with the part's result
// added.
std::vector<float> result_of(Rank& rank, Layer& layer, const Config& config,
                             const LayerOptions& options, const Part& part) {
  const Step step(options);
  for (int slot = 0; slot < options.batch; ++slot) {
    layer.batch.upload(step.prompt(slot));
    start(rank, layer, config, 1u + static_cast<unsigned>(slot));
    part(layer, layer.batch.view());
  }
  layer.batch.upload(step.next());
  const Tensor stream = start(rank, layer, config, 0);
  run_part(rank, layer, part, 1);
  // The norm adds what is pending; every rank takes part in that.
  const OwnedTensor normed = allocate_tensor(
      rank.ops(), rank.device(), rank.ops().activation_dtype(config.dtype), stream.shape);
  layer.transformer.residual().norm(normed.tensor, layer.weights.norm.tensor, config.rms_norm_eps);
  std::vector<float> result(static_cast<std::size_t>(stream.numel()));
  rank.ops().download({result.data(), stream.dtype, stream.shape, Device{}}, stream);
  return result;
}

Result compute(const Mesh& mesh, const LayerOptions& options, int runs, const Part& part) {
  const auto checkpoint = one_layer_checkpoint(options.model);
  const Config& config = checkpoint->config();
  const ShardPlan plan = infer_sharding(config, mesh.world_size());
  BatchLimits limits;
  limits.max_batch_size = options.batch;
  limits.max_length = options.context + 1;
  limits.max_rows = std::max<std::int64_t>(options.batch, options.context);
  limits.max_logit_rows = options.batch;

  Result result;
  int repeats = 0;
  Executable layer(mesh, [&](Rank& rank) -> Executable::Step {
    auto state = std::make_shared<Layer>(rank, *checkpoint, plan, limits);
    std::vector<float> values = result_of(rank, *state, config, options, part);
    if (rank.id() == 0) result.values = std::move(values);
    return [&, state](std::span<const Tensor>, std::span<const Tensor>) {
      run_part(rank, *state, part, repeats);
    };
  });
  repeats = repeats_on(mesh);
  result.microseconds = median_time(runs, [&] { layer.run(); }) / repeats;
  return result;
}

}  // namespace

LayerOptions::LayerOptions(CLI::App& app) : model(LOCKSTEP_MODELS_DIR "/mistral-7b") {
  app.add_option("-m,--model", model, "A config.json, or its directory: the layer's sizes")
      ->capture_default_str();
  app.add_option("--batch", batch, "Sequences, of which each runs one token")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  app.add_option("--context", context, "Tokens of each sequence before it")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
}

Layer::Layer(Rank& rank, const Checkpoint& checkpoint, const ShardPlan& plan,
             const BatchLimits& limits)
    : weights(load_weights(rank, checkpoint, plan, {checkpoint.config().dtype, nullptr})),
      cache(rank, checkpoint.config(), plan.ranks[static_cast<std::size_t>(rank.id())],
            limits.max_batch_size * kv_blocks(limits.max_length), checkpoint.config().dtype),
      batch(rank, limits),
      transformer(rank, checkpoint.config(), plan, weights, limits),
      recorder(rank.ops().make_recorder()) {}

int run_layer_example(int argc, char** argv, const std::string& name,
                      const std::string& description, const Part& part) {
  CLI::App app(description, name);
  Options options(app);
  LayerOptions layer(app);
  return compare(app, argc, argv, options,
                 [&](const Mesh& mesh) { return compute(mesh, layer, options.runs, part); });
}

}  // namespace example
