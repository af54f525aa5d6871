#include <algorithm>
#include <map>
#include <unordered_map>

#include "checkpoint/file.h"
#include "checkpoint/formats.h"
#include "checkpoint/indexed_checkpoint.h"
#include "checkpoint/json.h"
#include "checkpoint/safetensors.h"
#include "core/check.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// Most files of one checkpoint: each keeps a descriptor open.
constexpr std::size_t kMaxShards = 512;

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

std::vector<std::string> names_ending_in(const fs::path& directory, std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error))
    if (std::string name = entry->path().filename().string(); name.ends_with(suffix))
      names.push_back(std::move(name));
  check(!error, "{}: cannot list the directory: {}", directory.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

// Where a model.safetensors.index.json says that each tensor is: file names by tensor name.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const nlohmann::json index = read_json_file(path);
  const std::string file = path.string();
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  check(map != index.end() && map->is_object(), "{}: weight_map is missing or no object", file);
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, value] : map->items()) {
    if (!value.is_string())
      fail("{}: weight_map {}: a file name is expected, not {}", file, quote_name(tensor),
           value.type_name());
    const auto shard = value.get<std::string>();
    // A plain name: a path could lead out of the directory.
    if (shard.find_first_of(std::string("/\\\0", 3)) != std::string::npos ||
        !shard.ends_with(".safetensors"))
      fail("{}: weight_map {}: {} is not the name of a .safetensors file beside the index", file,
           quote_name(tensor), quote_name(shard));
    shards.emplace(tensor, shard);
  }
  return shards;
}

// The one file of a checkpoint that has no index.
std::string find_single_file(const fs::path& directory) {
  const auto names = names_ending_in(directory, ".safetensors");
  if (names.size() == 1) return names.front();
  check(names.empty(),
        "{}: {} *.safetensors files, but neither model.safetensors nor "
        "model.safetensors.index.json",
        directory.string(), names.size());
  for (const char* suffix : {".bin", ".pth", ".pt"})
    if (const auto pickled = names_ending_in(directory, suffix); !pickled.empty())
      fail("{}: {} is a PyTorch checkpoint, which is not supported; convert it to safetensors",
           directory.string(), quote_name(pickled.front()));
  fail("{}: no *.safetensors file", directory.string());
}

DType dtype_of(const SafetensorsTensor& tensor, const std::string& file) {
  if (tensor.dtype == "F32") return DType::kFloat32;
  if (tensor.dtype == "F16") return DType::kFloat16;
  if (tensor.dtype == "BF16") return DType::kBFloat16;
  fail("{}: tensor {}: dtype {} is not supported; F32, F16 and BF16 are", file,
       quote_name(tensor.name), tensor.dtype);
}

class SafetensorsCheckpoint : public IndexedCheckpoint {
 public:
  explicit SafetensorsCheckpoint(const fs::path& directory) {
    const fs::path config_path = directory / "config.json";
    const nlohmann::json json = read_json_file(config_path);
    config_ = config_from_json(json, config_path.string());

    std::unordered_map<std::string, Found> found = read_headers(directory);
    for (const ExpectedTensor& expected : expected_tensors(config_)) {
      const auto place = found.find(expected.name);
      if (place == found.end())
        fail("{}: tensor \"{}\" of shape {} is missing",
             files_.size() == 1 ? files_.front().name() : directory.string(), expected.name,
             to_string(expected.shape));
      add_tensor(expected, place->second);
      found.erase(place);
    }
    reject_others(found);
    // A config that does not say what the weights are kept as: the weights do.
    if (!json.contains("dtype") && !json.contains("torch_dtype"))
      config_.dtype = tensors().front().dtype;
  }

  std::string file_of(const TensorInfo& info) const override {
    const TensorInfo* own = find(info.name);
    if (!own) fail("no tensor {} in this checkpoint", quote_name(info.name));
    return files_[stored_[static_cast<std::size_t>(own - tensors().data())].file].name();
  }

  void read(const TensorInfo& info, Range rows, Range columns, void* out) const override {
    const Matrix matrix = locate(info, rows, columns);
    const Stored& stored = stored_[matrix.index];
    if (rows.size() == 0 || columns.size() == 0) return;
    try {
      read_plain(files_[stored.file], stored.offset, matrix.columns, size_of(info.dtype), rows,
                 columns, out);
    } catch (const Error& error) {
      fail("{} (tensor {})", error.what(), info.name);
    }
  }

 private:
  struct Stored {
    std::size_t file;
    std::uint64_t offset;
  };
  struct Found {
    SafetensorsTensor tensor;
    std::size_t file;
  };

  // Opens the files and reads what they have, by name.
  std::unordered_map<std::string, Found> read_headers(const fs::path& directory) {
    const fs::path index_path = directory / "model.safetensors.index.json";
    std::unordered_map<std::string, Found> found;
    if (is_there(directory / "model.safetensors") || !is_there(index_path)) {
      const std::string name = is_there(directory / "model.safetensors")
                                   ? "model.safetensors"
                                   : find_single_file(directory);
      read_file(directory / name, found);
      return found;
    }
    const std::map<std::string, std::string> index = read_index(index_path);
    std::map<std::string, std::size_t> shards;  // number by file name
    for (const auto& [tensor, shard] : index) {
      if (shards.contains(shard)) continue;
      check(shards.size() < kMaxShards, "{}: more than {} files", index_path.string(), kMaxShards);
      shards.emplace(shard, files_.size());
      read_file(directory / shard, found);
    }
    for (const auto& [tensor, shard] : index) {
      const auto place = found.find(tensor);
      if (place == found.end() || place->second.file != shards.at(shard))
        fail("{}: tensor {} is not in {}, where {} puts it", directory.string(), quote_name(tensor),
             quote_name(shard), index_path.filename().string());
    }
    for (const auto& [tensor, place] : found)
      if (!index.contains(tensor))
        fail("{}: tensor {} is not in {}", files_[place.file].name(), quote_name(tensor),
             index_path.filename().string());
    return found;
  }

  void read_file(const fs::path& path, std::unordered_map<std::string, Found>& found) {
    File file(path);
    for (SafetensorsTensor& tensor : read_safetensors_header(file)) {
      const std::string name = tensor.name;
      const auto [place, inserted] = found.emplace(name, Found{std::move(tensor), files_.size()});
      if (!inserted)
        fail("{}: tensor {} is in {} already", file.name(), quote_name(name),
             files_[place->second.file].name());
    }
    files_.push_back(std::move(file));
  }

  void add_tensor(const ExpectedTensor& expected, const Found& found) {
    const std::string& file = files_[found.file].name();
    check_shape(expected, found.tensor.shape, found.tensor.name, file);
    const DType dtype = dtype_of(found.tensor, file);
    stored_.push_back({found.file, found.tensor.offset});
    add({expected.name, expected.shape, dtype, std::string(name_of(dtype)), found.tensor.bytes});
  }

  void reject_others(const std::unordered_map<std::string, Found>& left) const {
    for (const auto& [name, found] : left) {
      // Old checkpoints keep the rotary frequencies, tied ones sometimes the table's other name.
      if (name.ends_with(".rotary_emb.inv_freq")) continue;
      if (name == "lm_head.weight" && config_.tie_word_embeddings) continue;
      fail("{}: unexpected tensor {}: a {} model with this config.json has none of that name",
           files_[found.file].name(), quote_name(name), config_.model_type);
    }
  }

  std::vector<File> files_;
  std::vector<Stored> stored_;  // in the order of tensors()
};

}  // namespace

std::unique_ptr<Checkpoint> open_safetensors_checkpoint(const fs::path& directory) {
  return std::make_unique<SafetensorsCheckpoint>(directory);
}

}  // namespace lockstep
