// Which of a repository's files a model consists of.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "hub/model_name.h"

namespace lockstep {

// Names of files, sorted.
using Names = std::vector<std::string>;

struct Selection {
  Names files;        // configuration, tokenizer and chat templates
  std::string index;  // of `files`, the one that lists the weights' files; empty: there is none
  Names weights;      // without an index: the weights' files
  bool gguf = false;  // the model is weights[0] and nothing else
};

// What to take of `names` for `model`. Throws Error (without the model's name) when there is
// nothing that can be run, naming what there is instead.
Selection select_files(const Names& names, const ModelName& model, bool weights);

// The files that a model.safetensors.index.json names, sorted. Throws Error naming `source` when it
// is broken or names a file that is not among `names`.
Names read_weight_index(const std::string& text, const std::string& source, const Names& names);

}  // namespace lockstep
