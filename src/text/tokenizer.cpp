#include "text/tokenizer.h"

#include "checkpoint/gguf.h"
#include "core/check.h"
#include "text/gguf_vocabulary.h"
#include "text/pipeline.h"
#include "text/sentencepiece_model.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace lockstep {

std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path) {
  check(std::filesystem::exists(path), "{}: no such file or directory", path.string());
  if (!std::filesystem::is_directory(path))
    return std::make_unique<PipelineTokenizer>(
        read_gguf_vocabulary(read_gguf_header(path).metadata));
  const std::filesystem::path json = path / "tokenizer.json";
  const std::filesystem::path model = path / "tokenizer.model";
  const bool has_json = std::filesystem::exists(json);
  if (!has_json && !std::filesystem::exists(model)) return nullptr;
  const TokenizerConfig config = read_tokenizer_config(path);
  // transformers took `legacy` for true where nothing was said.
  TokenizerParts parts = has_json ? read_tokenizer_json(json)
                                  : read_sentencepiece_model(model, config.legacy.value_or(true));
  apply_tokenizer_config(config, parts);
  return std::make_unique<PipelineTokenizer>(std::move(parts));
}

}  // namespace lockstep
