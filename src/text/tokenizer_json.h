// Hugging Face's tokenizer.json with a BPE model.
#pragma once

#include <filesystem>

#include "text/pipeline.h"

namespace lockstep {

// Throws Error naming the file for one that is malformed, and naming the component for one that
// uses what is not supported. Padding and truncation are the caller's business and ignored.
TokenizerParts read_tokenizer_json(const std::filesystem::path& path);

}  // namespace lockstep
