// Names of models on the hub.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace lockstep {

// org/name[:quantization | /file.gguf][@revision].
struct ModelName {
  std::string repo;          // "org/name"
  std::string revision;      // branch, tag or commit; empty where none was given
  std::string quantization;  // "Q4_K_M": the .gguf file of this kind
  std::string file;          // "folder/file.gguf"
};

// Empty for what cannot be a name, such as a path.
std::optional<ModelName> parse_model_name(std::string_view text);

// Whether these can stand in a path below the cache, which they must not leave: no "..", no empty
// part, nothing absolute, no backslash, no control character.
bool is_safe_path(std::string_view path);
// 40 hexadecimal digits.
bool is_commit(std::string_view text);
// Digits and letters a to f alone.
bool is_lower_hex(std::string_view text);

}  // namespace lockstep
