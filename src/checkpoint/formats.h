// The readers behind open_checkpoint(), one a format; each is in the .cpp file of its name.
#pragma once

#include <filesystem>
#include <memory>

#include "checkpoint/checkpoint.h"

namespace lockstep {

// A directory with config.json and *.safetensors.
std::unique_ptr<Checkpoint> open_safetensors_checkpoint(const std::filesystem::path& directory);

// A .gguf file.
std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& path);

}  // namespace lockstep
