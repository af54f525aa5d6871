// SentencePiece's tokenizer.model, encoded by libsentencepiece itself.
#pragma once

#include <filesystem>

#include "text/pipeline.h"

namespace lockstep {

// Ids are those of Hugging Face's LlamaTokenizer: bos before the text, control tokens recognised.
// `legacy` (its field of tokenizer_config.json): a space is put before every stretch of text and
// not only at the start. Throws Error naming the file for one that is malformed or normalises text.
TokenizerParts read_sentencepiece_model(const std::filesystem::path& path, bool legacy);

}  // namespace lockstep
