// One layer of a model, with seeded weights, on all ranks of a mesh.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "common/example.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/transformer.h"

namespace example {

struct LayerOptions {
  std::string model;           // a config.json or its directory: the layer's sizes
  int batch = 1;               // sequences, of which each runs one token
  std::int64_t context = 128;  // tokens before it
  explicit LayerOptions(CLI::App& app);
};

// One rank's share of the layer.
struct Layer {
  Layer(lockstep::Rank& rank, const lockstep::Checkpoint& checkpoint,
        const lockstep::ShardPlan& plan, const lockstep::BatchLimits& limits);

  lockstep::Weights weights;
  lockstep::KvCache cache;
  lockstep::Batch batch;
  lockstep::Transformer transformer;
  std::unique_ptr<lockstep::Recorder> recorder;
};

// A part of the layer: takes the hidden state out of layer.transformer.residual() and owes it its
// result.
using Part = std::function<void(Layer& layer, const lockstep::BatchView& batch)>;

// A main program that runs `part` for one token of each sequence.
int run_layer_example(int argc, char** argv, const std::string& name,
                      const std::string& description, const Part& part);

}  // namespace example
