// The vocabularies that GGUF files carry in their metadata: `gpt2` (byte-level BPE) and `llama`
// (SentencePiece).
#pragma once

#include "checkpoint/gguf.h"
#include "text/pipeline.h"

namespace lockstep {

// Throws Error naming file and key for metadata that is malformed, and for a kind of vocabulary or
// of pre-tokenizer that is not supported.
TokenizerParts read_gguf_vocabulary(const GgufMetadata& metadata);

}  // namespace lockstep
