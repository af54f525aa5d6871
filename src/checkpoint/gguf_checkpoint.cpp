#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "checkpoint/file.h"
#include "checkpoint/formats.h"
#include "checkpoint/gguf.h"
#include "checkpoint/indexed_checkpoint.h"
#include "checkpoint/names.h"
#include "checkpoint/quantized.h"
#include "core/check.h"

namespace lockstep {
namespace {

// Quantized data is expanded through a buffer of about this size.
constexpr std::int64_t kScratchBytes = std::int64_t{1} << 20;

DType delivered_dtype(const GgmlTypeInfo& type) {
  switch (type.type) {
    case GgmlType::kF16:
      return DType::kFloat16;
    case GgmlType::kBF16:
      return DType::kBFloat16;
    default:
      return DType::kFloat32;
  }
}

// The file's row that holds row `row` of a query or key projection. GGUF's `llama` architecture
// keeps the two halves of a head's rotary pairs interleaved: its row h*d + 2*i + j is Hugging
// Face's row h*d + j*d/2 + i.
std::int64_t interleaved_row(std::int64_t row, std::int64_t head_dim) {
  const std::int64_t within = row % head_dim;
  const std::int64_t half = head_dim / 2;
  return row - within + 2 * (within % half) + within / half;
}

class GgufCheckpoint : public IndexedCheckpoint {
 public:
  explicit GgufCheckpoint(const std::filesystem::path& path) : file_(path) {
    const GgufHeader header = read_gguf_header(file_);
    config_ = config_from_gguf(header);
    std::unordered_map<std::string, const GgufTensor*> stored;
    for (const GgufTensor& tensor : header.tensors) stored.emplace(tensor.name, &tensor);
    if (const auto place = stored.find("rope_freqs.weight"); place != stored.end()) {
      read_rope_frequencies(*place->second);
      stored.erase(place);
    }
    for (const ExpectedTensor& expected : expected_tensors(config_)) {
      const auto place = stored.find(gguf_name(expected.name));
      if (place == stored.end())
        fail("{}: tensor {} ({}) is missing", file_.name(), quote_name(gguf_name(expected.name)),
             expected.name);
      add_tensor(expected, *place->second);
      stored.erase(place);
    }
    reject_others(header, stored);
  }

  std::string file_of(const TensorInfo&) const override { return file_.name(); }

  void read(const TensorInfo& info, Range rows, Range columns, void* out) const override {
    const Matrix matrix = locate(info, rows, columns);
    const Stored& stored = stored_[matrix.index];
    if (rows.size() == 0 || columns.size() == 0) return;
    try {
      if (!stored.is_interleaved) return read_rows(stored, matrix, rows, columns, out);
      const std::size_t row_bytes = static_cast<std::size_t>(columns.size()) * size_of(info.dtype);
      auto* destination = static_cast<char*>(out);
      for (std::int64_t row = rows.begin; row < rows.end; ++row, destination += row_bytes) {
        const std::int64_t source = interleaved_row(row, config_.head_dim);
        read_rows(stored, matrix, {source, source + 1}, columns, destination);
      }
    } catch (const Error& error) {
      fail("{} (tensor {})", error.what(), info.name);
    }
  }

 private:
  struct Stored {
    const GgmlTypeInfo* type;
    std::uint64_t offset;
    bool is_interleaved;  // see interleaved_row
  };

  void add_tensor(const ExpectedTensor& expected, const GgufTensor& tensor) {
    check_shape(expected, tensor.shape, tensor.name, file_.name());
    const GgmlTypeInfo* type = find_ggml_type(tensor.type);
    check(expected.shape.rank() > 1 || !type->is_quantized(),
          "{}: tensor {} is a vector of type {}; vectors must not be quantized", file_.name(),
          tensor.name, type->name);
    const bool is_query_or_key = expected.name.find(".q_proj.") != std::string::npos ||
                                 expected.name.find(".k_proj.") != std::string::npos;
    stored_.push_back({type, tensor.offset, is_query_or_key && config_.model_type == "llama"});
    add({expected.name, expected.shape, delivered_dtype(*type), type->name, tensor.bytes});
  }

  // Llama 3's frequency scaling, as the converter computed it: a divisor for each frequency.
  void read_rope_frequencies(const GgufTensor& tensor) {
    check(tensor.type == static_cast<std::uint32_t>(GgmlType::kF32),
          "{}: tensor \"rope_freqs.weight\" must be F32, not {}", file_.name(),
          describe_ggml_type(tensor.type));
    check_shape({"", {config_.head_dim / 2}}, tensor.shape, tensor.name, file_.name());
    config_.rope_frequency_divisors.resize(static_cast<std::size_t>(config_.head_dim / 2));
    file_.read(tensor.offset, tensor.bytes, config_.rope_frequency_divisors.data());
    validate(config_, file_.name());
  }

  void reject_others(const GgufHeader& header,
                     const std::unordered_map<std::string, const GgufTensor*>& left) const {
    for (const GgufTensor& tensor : header.tensors) {
      // Rotary frequencies of old files, which can be computed.
      if (!left.contains(tensor.name) || tensor.name.ends_with(".attn_rot_embd.weight")) continue;
      fail("{}: unexpected tensor {}: a {} model with this metadata has none of that name",
           file_.name(), quote_name(tensor.name), config_.model_type);
    }
  }

  void read_rows(const Stored& stored, const Matrix& matrix, Range rows, Range columns,
                 void* out) const {
    if (stored.type->is_quantized())
      read_quantized(stored, matrix, rows, columns, static_cast<float*>(out));
    else
      read_plain(file_, stored.offset, matrix.columns,
                 static_cast<std::size_t>(stored.type->block_bytes), rows, columns, out);
  }

  // Reads the blocks that enclose the columns, as many rows at a time as fit the scratch buffer
  // where whole rows are wanted, and expands them.
  void read_quantized(const Stored& stored, const Matrix& matrix, Range rows, Range columns,
                      float* out) const {
    const GgmlTypeInfo& type = *stored.type;
    const std::int64_t row_bytes = matrix.columns / type.block_size * type.block_bytes;
    const Range blocks{columns.begin / type.block_size,
                       (columns.end + type.block_size - 1) / type.block_size};
    const std::int64_t skipped = columns.begin - blocks.begin * type.block_size;
    const std::int64_t expanded = blocks.size() * type.block_size;
    const bool whole_rows = columns.size() == matrix.columns;
    const std::int64_t step =
        whole_rows ? std::clamp<std::int64_t>(kScratchBytes / row_bytes, 1, rows.size()) : 1;

    std::vector<std::byte> packed(
        static_cast<std::size_t>(step * blocks.size() * type.block_bytes));
    std::vector<float> row_values(
        static_cast<std::size_t>(expanded == columns.size() ? 0 : expanded));
    for (std::int64_t row = rows.begin; row < rows.end; row += step) {
      const std::int64_t count = std::min(step, rows.end - row);
      const std::int64_t position = row * row_bytes + blocks.begin * type.block_bytes;
      file_.read(stored.offset + static_cast<std::uint64_t>(position),
                 static_cast<std::size_t>(count * blocks.size() * type.block_bytes), packed.data());
      if (row_values.empty()) {
        dequantize(type, packed.data(), count * blocks.size(), out);
      } else {
        dequantize(type, packed.data(), blocks.size(), row_values.data());
        std::copy_n(row_values.data() + skipped, columns.size(), out);
      }
      out += count * columns.size();
    }
  }

  File file_;
  std::vector<Stored> stored_;  // in the order of tensors()
};

}  // namespace

std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& path) {
  return std::make_unique<GgufCheckpoint>(path);
}

}  // namespace lockstep
