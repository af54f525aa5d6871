// Small files to test the readers with, built byte by byte so that a test can break any of them.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/names.h"
#include "core/convert.h"
#include "lockstep/error.h"

namespace lockstep::test {

// A directory of its own, removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = testing::TempDir() + "/lockstep-XXXXXX";
    if (!::mkdtemp(name.data())) throw std::runtime_error("cannot make " + name);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::filesystem::path& path() const { return path_; }

  std::filesystem::path write(const std::string& name, std::string_view bytes) const {
    const auto path = path_ / name;
    std::ofstream(path, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return path;
  }

 private:
  std::filesystem::path path_;
};

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The bytes of a little-endian value.
template <typename T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

// The model that the hostile tests break: every size is different where it can be.
inline nlohmann::json tiny_config_json() {
  return {{"model_type", "llama"},
          {"vocab_size", 5},
          {"hidden_size", 8},
          {"intermediate_size", 6},
          {"num_hidden_layers", 1},
          {"num_attention_heads", 2},
          {"num_key_value_heads", 1},
          {"max_position_embeddings", 16},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"bos_token_id", 1},
          {"eos_token_id", 2},
          {"tie_word_embeddings", false},
          {"torch_dtype", "float32"}};
}

struct SafetensorsFile {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  std::string data;

  void add(const std::string& name, const std::vector<std::int64_t>& shape,
           const std::string& dtype, std::string_view bytes) {
    header[name] = {{"dtype", dtype},
                    {"shape", shape},
                    {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  std::string bytes() const { return with_header(header.dump()); }
  std::string with_header(const std::string& text) const {
    return bytes_of(std::uint64_t{text.size()}) + text + data;
  }
};

inline std::vector<std::int64_t> sizes_of(const Shape& shape) {
  std::vector<std::int64_t> sizes;
  for (int axis = 0; axis < shape.rank(); ++axis) sizes.push_back(shape[axis]);
  return sizes;
}

// float32 values 0, 1, 2, ... (on from `first`).
inline std::string counting_floats(std::int64_t count, float first) {
  std::string bytes;
  for (std::int64_t i = 0; i < count; ++i) bytes += bytes_of(first + static_cast<float>(i));
  return bytes;
}

inline SafetensorsFile tiny_safetensors() {
  SafetensorsFile file;
  file.header["__metadata__"] = {{"format", "pt"}};
  float first = 0;
  for (const auto& tensor : expected_tensors(config_from_json(tiny_config_json(), "tiny"))) {
    file.add(tensor.name, sizes_of(tensor.shape), "F32",
             counting_floats(tensor.shape.numel(), first));
    first += 1000;
  }
  return file;
}

// Writes the tiny model's directory.
inline void write_tiny_model(const TempDir& directory) {
  directory.write("config.json", tiny_config_json().dump());
  directory.write("model.safetensors", tiny_safetensors().bytes());
}

// Metadata value types of GGUF, by number.
enum GgufType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
};

inline std::string gguf_string(std::string_view text) {
  return bytes_of(std::uint64_t{text.size()}) + std::string(text);
}
inline std::string gguf_array(std::uint32_t type, std::uint64_t count, std::string_view elements) {
  return bytes_of(type) + bytes_of(count) + std::string(elements);
}

struct GgufFile {
  struct Entry {
    std::string key;
    std::uint32_t type;
    std::string value;
  };
  struct TensorEntry {
    std::string name;
    std::vector<std::uint64_t> sizes;  // as in the file: fastest axis first
    std::uint32_t type;
    std::uint64_t offset;
  };

  std::string magic = "GGUF";
  std::uint32_t version = 3;
  std::vector<Entry> entries;
  std::vector<TensorEntry> tensors;
  std::string data;
  std::uint64_t alignment = 32;
  std::uint64_t more_tensors = 0;  // added to the count that the header claims
  std::uint64_t more_entries = 0;

  void set(const std::string& key, std::uint32_t type, std::string value) {
    for (Entry& entry : entries)
      if (entry.key == key) {
        entry = {key, type, std::move(value)};
        return;
      }
    entries.push_back({key, type, std::move(value)});
  }
  void set(const std::string& key, std::uint32_t value) { set(key, kUint32, bytes_of(value)); }
  void set(const std::string& key, float value) { set(key, kFloat32, bytes_of(value)); }
  void set(const std::string& key, const char* value) { set(key, kString, gguf_string(value)); }
  void erase(const std::string& key) {
    std::erase_if(entries, [&](const Entry& entry) { return entry.key == key; });
  }

  // Shape as in Hugging Face: slowest axis first.
  void add(const std::string& name, const std::vector<std::int64_t>& shape, std::uint32_t type,
           std::string_view bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    tensors.push_back({name, {shape.rbegin(), shape.rend()}, type, data.size()});
    data += bytes;
  }
  TensorEntry& tensor(const std::string& name) {
    for (TensorEntry& entry : tensors)
      if (entry.name == name) return entry;
    throw std::runtime_error("no tensor " + name);
  }

  std::string bytes() const {
    std::string out = magic + bytes_of(version) +
                      bytes_of(std::uint64_t{tensors.size()} + more_tensors) +
                      bytes_of(std::uint64_t{entries.size()} + more_entries);
    for (const Entry& entry : entries)
      out += gguf_string(entry.key) + bytes_of(entry.type) + entry.value;
    for (const TensorEntry& tensor : tensors) {
      out += gguf_string(tensor.name) + bytes_of(static_cast<std::uint32_t>(tensor.sizes.size()));
      for (const std::uint64_t size : tensor.sizes) out += bytes_of(size);
      out += bytes_of(tensor.type) + bytes_of(tensor.offset);
    }
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

// The tiny model as GGUF, in float32.
inline GgufFile tiny_gguf() {
  GgufFile file;
  file.set("general.architecture", "llama");
  file.set("llama.block_count", 1u);
  file.set("llama.context_length", 16u);
  file.set("llama.embedding_length", 8u);
  file.set("llama.feed_forward_length", 6u);
  file.set("llama.attention.head_count", 2u);
  file.set("llama.attention.head_count_kv", 1u);
  file.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  file.set("llama.rope.freq_base", 10000.0f);
  file.set("tokenizer.ggml.bos_token_id", 1u);
  file.set("tokenizer.ggml.eos_token_id", 2u);
  float first = 0;
  for (const auto& tensor : expected_tensors(config_from_json(tiny_config_json(), "tiny"))) {
    file.add(gguf_name(tensor.name), sizes_of(tensor.shape), 0,
             counting_floats(tensor.shape.numel(), first));
    first += 1000;
  }
  return file;
}

// Elements rows x columns of a tensor, as float32.
inline std::vector<float> read_floats(const Checkpoint& checkpoint, const TensorInfo& info,
                                      Range rows, Range columns) {
  const auto count = static_cast<std::size_t>(rows.size() * columns.size());
  std::vector<float> values(count);
  if (info.dtype == DType::kFloat32) {
    checkpoint.read(info, rows, columns, values.data());
    return values;
  }
  std::vector<std::uint16_t> bits(count);
  checkpoint.read(info, rows, columns, bits.data());
  for (std::size_t i = 0; i < count; ++i)
    values[i] =
        info.dtype == DType::kFloat16 ? float16_to_float(bits[i]) : bfloat16_to_float(bits[i]);
  return values;
}
inline std::vector<float> read_floats(const Checkpoint& checkpoint, const TensorInfo& info) {
  return read_floats(checkpoint, info, {0, info.shape[0]},
                     {0, info.shape.rank() == 1 ? 1 : info.shape[1]});
}

// The message of the Error that `function` throws; fails the test when it throws none, or another.
template <typename Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not an Error: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no Error";
  return {};
}

}  // namespace lockstep::test
