// GGUF v2 and v3: the header (metadata and tensor directory) as checked, immutable data.
// Format: the GGUF specification of the ggml project.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace lockstep {

class File;
struct Config;

// Key-value metadata. Accessors return empty for an absent key and throw Error (naming file and
// key) for one of another type. Integers of all widths are int64, both float types double.
class GgufMetadata {
 public:
  using Value = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                             std::vector<double>, std::vector<bool>, std::vector<std::string>>;

  std::optional<std::int64_t> integer(const std::string& key) const;
  std::optional<double> number(const std::string& key) const;  // integers too
  std::optional<bool> boolean(const std::string& key) const;
  const std::string* string(const std::string& key) const;
  const std::vector<std::string>* strings(const std::string& key) const;
  const std::vector<std::int64_t>* integers(const std::string& key) const;
  const std::vector<double>* numbers(const std::string& key) const;
  const std::map<std::string, Value>& all() const { return values_; }

  std::string file;  // for errors
  std::map<std::string, Value> values_;
};

struct GgufTensor {
  std::string name;                 // GGUF's: "blk.0.attn_q.weight"
  std::vector<std::int64_t> shape;  // as in Hugging Face: slowest axis first
  std::uint32_t type = 0;           // ggml_type
  std::uint64_t offset = 0;         // from the start of the file
  std::uint64_t bytes = 0;
};

struct GgufHeader {
  GgufMetadata metadata;
  std::vector<GgufTensor> tensors;
};

// Reads and checks the header. Throws Error for truncation, unknown types, counts, sizes or offsets
// that overflow or leave the file, overlapping tensors, duplicate keys or names.
GgufHeader read_gguf_header(const std::filesystem::path& path);
GgufHeader read_gguf_header(const File& file);

// The model's config, but for rope_frequency_divisors, which are a tensor. Throws Error for another
// architecture than llama (Mistral too), qwen2 and qwen3, missing or contradicting metadata, and
// files that are one part of several.
Config config_from_gguf(const GgufHeader& header);

}  // namespace lockstep
