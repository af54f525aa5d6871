// A checkpoint: named tensors under their Hugging Face names, of which any rectangle can be read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "core/dummy.h"
#include "lockstep/tensor.h"

namespace lockstep {

// Half-open: [begin, end).
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
  friend bool operator==(const Range&, const Range&) = default;
};

struct TensorInfo {
  std::string name;    // Hugging Face's: "model.layers.0.self_attn.q_proj.weight"
  Shape shape;         // as in Hugging Face: [out_features, in_features] or [size]
  DType dtype;         // what read() delivers: float32, bfloat16 or float16
  std::string stored;  // what the file holds, for people: "bfloat16", "Q4_K"
  std::uint64_t stored_bytes = 0;
};

// Thread-safe: every rank reads from the same Checkpoint at once.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  virtual const Config& config() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;
  // Null when there is no such tensor.
  virtual const TensorInfo* find(const std::string& name) const = 0;
  // The file that holds `info`, for errors.
  virtual std::string file_of(const TensorInfo& info) const = 0;

  // Reads elements rows x columns of a matrix (of a vector: `rows` alone, columns [0, 1)) into
  // `out`, dense and row-major, in info.dtype. Reads only the bytes that it needs (whole quantized
  // blocks where those do not end at the range's borders). Throws Error naming file and tensor when
  // the file ends early or cannot be read.
  virtual void read(const TensorInfo& info, Range rows, Range columns, void* out) const = 0;

  // For weights that are computed and not read: how, so that a device can do it by itself.
  virtual std::optional<DummySource> dummy_source(const TensorInfo&) const { return std::nullopt; }
};

// A directory with config.json and safetensors, or a .gguf file. Validates everything the headers
// say, including that each tensor that the config asks for is there in its shape, and that there is
// none besides; throws Error otherwise. Reads headers only.
std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path);

// Seeded random weights for a config.json (or the directory around it), made on demand. Element
// (row, column) of a tensor depends on seed, name, row and column alone, so that every world size
// sees the same values; core/dummy.h has the formula.
std::unique_ptr<Checkpoint> open_dummy_checkpoint(const std::filesystem::path& path,
                                                  std::uint64_t seed = 0);

// The tensors that a model of this config consists of: names and shapes, in model order.
struct ExpectedTensor {
  std::string name;
  Shape shape;
};
std::vector<ExpectedTensor> expected_tensors(const Config& config);

}  // namespace lockstep
