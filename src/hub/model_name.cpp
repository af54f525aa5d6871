#include "hub/model_name.h"

#include <algorithm>

namespace lockstep {
namespace {

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_' || c == '.';
}

// As huggingface_hub's validate_repo_id.
bool is_repo_part(std::string_view text) {
  const auto bad_end = [](char c) { return c == '-' || c == '.'; };
  return !text.empty() && std::all_of(text.begin(), text.end(), is_word) &&
         !bad_end(text.front()) && !bad_end(text.back()) && text.find("--") == text.npos &&
         text.find("..") == text.npos;
}

}  // namespace

bool is_safe_path(std::string_view path) {
  constexpr std::size_t kMost = 1024;
  if (path.empty() || path.size() > kMost) return false;
  for (std::size_t i = 0; i < path.size(); ++i) {
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(path[at]); };
    if (byte(i) < 0x20 || byte(i) == 0x7f || byte(i) == '\\') return false;
    // U+0080 to U+009F, which control terminals too.
    if (byte(i) == 0xc2 && i + 1 < path.size() && byte(i + 1) < 0xa0) return false;
  }
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    constexpr std::size_t kMostOfPart = 255;
    if (part.empty() || part == "." || part == ".." || part.size() > kMostOfPart) return false;
    begin = end + 1;
  }
  return true;
}

bool is_lower_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

bool is_commit(std::string_view text) { return text.size() == 40 && is_lower_hex(text); }

std::optional<ModelName> parse_model_name(std::string_view text) {
  ModelName name;
  if (const std::size_t at = text.find('@'); at != text.npos) {
    name.revision = text.substr(at + 1);
    if (!is_safe_path(name.revision)) return std::nullopt;
    text = text.substr(0, at);
  }
  const std::size_t slash = text.find('/');
  if (slash == text.npos) return std::nullopt;
  if (const std::size_t second = text.find('/', slash + 1); second != text.npos) {
    name.file = text.substr(second + 1);
    text = text.substr(0, second);
    if (!name.file.ends_with(".gguf") || !is_safe_path(name.file)) return std::nullopt;
  } else if (const std::size_t colon = text.find(':'); colon != text.npos) {
    name.quantization = text.substr(colon + 1);
    text = text.substr(0, colon);
    if (name.quantization.empty() ||
        !std::all_of(name.quantization.begin(), name.quantization.end(), is_word))
      return std::nullopt;
  }
  name.repo = text;
  constexpr std::size_t kMost = 96;
  // "models/llama.gguf" is a path to a file that is not there.
  const bool valid = name.repo.size() <= kMost && is_repo_part(text.substr(0, slash)) &&
                     is_repo_part(text.substr(slash + 1)) && !text.ends_with(".git") &&
                     !text.ends_with(".gguf") && !text.ends_with(".json");
  return valid ? std::optional(name) : std::nullopt;
}

}  // namespace lockstep
