#include "hub/select.h"

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "checkpoint/file.h"
#include "checkpoint/json.h"
#include "core/check.h"

namespace lockstep {
namespace {

// What is read beside the weights, and chat templates.
constexpr std::array<std::string_view, 8> kSmallFiles = {
    "chat_template.jinja",     "chat_template.json", "config.json",     "generation_config.json",
    "special_tokens_map.json", "tokenizer.json",     "tokenizer.model", "tokenizer_config.json"};
constexpr std::string_view kIndex = "model.safetensors.index.json";
constexpr std::string_view kDefaultQuantization = "Q4_K_M";

bool has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }

// Whether `tag` is a word of the name: "Q4_K" is none of "model-Q4_K_M.gguf".
bool has_word(std::string_view name, std::string_view tag) {
  const auto equal = [](char a, char b) { return lower(a) == lower(b); };
  for (auto from = name.begin();; ++from) {
    const auto found = std::search(from, name.end(), tag.begin(), tag.end(), equal);
    if (found == name.end()) return false;
    const auto after = found + static_cast<std::ptrdiff_t>(tag.size());
    const auto ends = [](char c) { return c == '-' || c == '.' || c == '/'; };
    if ((found == name.begin() || ends(found[-1]) || found[-1] == '_') &&
        (after == name.end() || ends(*after)))
      return true;
    from = found;
  }
}

// "model-00001-of-00003" and this ending.
bool is_part(std::string_view name, std::string_view ending) {
  constexpr std::string_view kPattern = "-#####-of-#####";
  if (!name.ends_with(ending)) return false;
  name.remove_suffix(ending.size());
  if (name.size() < kPattern.size()) return false;
  name.remove_prefix(name.size() - kPattern.size());
  return name != "-00001-of-00001" &&
         std::equal(name.begin(), name.end(), kPattern.begin(),
                    [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

std::string list(const Names& names) {
  constexpr std::size_t kMost = 12;
  std::string text;
  for (std::size_t i = 0; i < std::min(kMost, names.size()); ++i)
    text += (i ? ", " : "") + quote_name(names[i]);
  return text + (names.size() > kMost ? ", ..." : "");
}

// The .gguf files that are models (and not a projector of images, or statistics).
Names gguf_models(const Names& names) {
  Names models;
  for (const std::string& name : names) {
    const std::string_view base = std::string_view(name).substr(name.rfind('/') + 1);
    if (base.ends_with(".gguf") && !base.starts_with("mmproj") && !base.starts_with("imatrix"))
      models.push_back(name);
  }
  return models;
}

// As llama.cpp: the quantization asked for, or Q4_K_M, or the only file.
std::string select_gguf(const Names& models, const std::string& quantization) {
  check(!models.empty(), "there is no .gguf file");
  if (quantization.empty() && models.size() == 1) return models.front();
  const std::string_view tag = quantization.empty() ? kDefaultQuantization : quantization;
  Names matching;
  for (const std::string& name : models)
    if (has_word(name, tag)) matching.push_back(name);
  if (matching.empty())
    fail(
        "no .gguf file is {}; say which one as org/name:QUANTIZATION or org/name/FILE; there are "
        "{}",
        tag, list(models));
  const auto whole = std::partition(matching.begin(), matching.end(), [](const std::string& name) {
    return !is_part(name, ".gguf");
  });
  check(whole != matching.begin(),
        "{} is split into several files, which are not supported: choose another .gguf file, or "
        "merge them with llama-gguf-split --merge; there are {}",
        tag, list(models));
  // "model-Q4_K_M.gguf" before "model-UD-Q4_K_M.gguf".
  return *std::min_element(matching.begin(), whole, [](const auto& a, const auto& b) {
    return std::pair(a.size(), a) < std::pair(b.size(), b);
  });
}

Names small_files(const Names& names) {
  Names files;
  for (const std::string& name : names) {
    const bool known = std::find(kSmallFiles.begin(), kSmallFiles.end(), name) != kSmallFiles.end();
    if (known || (name.starts_with("additional_chat_templates/") && name.ends_with(".jinja")))
      files.push_back(name);
  }
  return files;
}

// The weights beside config.json, in the order in which a directory is read: not those of
// original/, consolidated* or other formats.
void select_safetensors(const Names& names, Selection& selection) {
  if (has(names, "model.safetensors")) {
    selection.weights = {"model.safetensors"};
  } else if (has(names, kIndex)) {
    selection.index = kIndex;
    selection.files.emplace_back(kIndex);
  } else {
    for (const std::string& name : names)
      if (name.ends_with(".safetensors") && name.find('/') == name.npos &&
          !name.starts_with("consolidated") && !is_part(name, ".safetensors"))
        selection.weights.push_back(name);
    check(selection.weights.size() <= 1,
          "{} *.safetensors files, but neither model.safetensors nor {}", selection.weights.size(),
          kIndex);
  }
}

}  // namespace

Selection select_files(const Names& names, const ModelName& model, bool weights) {
  Selection selection;
  selection.gguf = true;
  if (!model.file.empty()) {
    check(has(names, model.file), "there is no file {}; the .gguf files are: {}", model.file,
          list(gguf_models(names)));
    selection.weights = {model.file};
    return selection;
  }
  if (!model.quantization.empty()) {
    selection.weights = {select_gguf(gguf_models(names), model.quantization)};
    return selection;
  }
  const bool config = has(names, "config.json");
  if (config) select_safetensors(names, selection);
  const bool safetensors = !selection.index.empty() || !selection.weights.empty();
  if (safetensors || (config && !weights)) {
    selection.gguf = false;
    const Names small = small_files(names);
    selection.files.insert(selection.files.end(), small.begin(), small.end());
    std::sort(selection.files.begin(), selection.files.end());
    if (weights) return selection;
    selection.weights.clear();
    std::erase(selection.files, selection.index);
    selection.index.clear();
    return selection;
  }
  const Names models = gguf_models(names);
  if (models.empty()) {
    const bool pickled = std::any_of(names.begin(), names.end(), [](const std::string& name) {
      return name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt");
    });
    check(!pickled,
          "has PyTorch checkpoints alone, which are not supported: look for a repository "
          "with safetensors or .gguf files");
    fail("has neither config.json with safetensors nor a .gguf file");
  }
  selection.weights = {select_gguf(models, "")};
  return selection;
}

Names read_weight_index(const std::string& text, const std::string& source, const Names& names) {
  const nlohmann::json index = parse_json(text, source);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  check(index.is_object() && map != index.end() && map->is_object(),
        "{}: weight_map is missing or no object", source);
  std::set<std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      fail("{}: weight_map {}: a file name is expected", source, quote_name(tensor));
    files.insert(file.get<std::string>());
  }
  for (const std::string& file : files)
    check(has(names, file), "{}: names the file {}, which is not there", source, quote_name(file));
  return {files.begin(), files.end()};
}

}  // namespace lockstep
