#include "core/dummy.h"

#include "checkpoint/indexed_checkpoint.h"
#include "checkpoint/json.h"
#include "core/check.h"
#include "core/convert.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

class DummyCheckpoint : public IndexedCheckpoint {
 public:
  DummyCheckpoint(const fs::path& config_path, std::uint64_t seed)
      : file_(config_path.string()), seed_(seed) {
    config_ = config_from_json(read_json_file(config_path), file_);
    for (const ExpectedTensor& expected : expected_tensors(config_)) {
      const auto bytes =
          static_cast<std::uint64_t>(expected.shape.numel()) * size_of(config_.dtype);
      add({expected.name, expected.shape, config_.dtype,
           fmt::format("dummy {}", name_of(config_.dtype)), bytes});
    }
  }

  std::string file_of(const TensorInfo&) const override { return file_; }

  void read(const TensorInfo& info, Range rows, Range columns, void* out) const override {
    locate(info, rows, columns);
    switch (config_.dtype) {
      case DType::kFloat32:
        return fill(info.name, rows, columns, static_cast<float*>(out), [](float v) { return v; });
      case DType::kBFloat16:
        return fill(info.name, rows, columns, static_cast<std::uint16_t*>(out), float_to_bfloat16);
      case DType::kFloat16:
        return fill(info.name, rows, columns, static_cast<std::uint16_t*>(out), float_to_float16);
      default:
        fail("{}: dummy weights cannot be {}", file_, lockstep::name_of(config_.dtype));
    }
  }

  std::optional<DummySource> dummy_source(const TensorInfo& info) const override {
    return source_of(info.name);
  }

 private:
  DummySource source_of(const std::string& name) const {
    return {dummy_key(seed_, name), is_dummy_norm(name) ? kDummyNormBase : 0, config_.dtype};
  }

  template <typename T, typename Round>
  void fill(const std::string& name, Range rows, Range columns, T* out, Round round) const {
    const DummySource source = source_of(name);
    for (std::int64_t row = rows.begin; row < rows.end; ++row) {
      const std::uint64_t row_key = dummy_row(source.key, static_cast<std::uint64_t>(row));
      for (std::int64_t column = columns.begin; column < columns.end; ++column)
        *out++ = round(dummy_value(row_key, static_cast<std::uint64_t>(column), source.base));
    }
  }

  std::string file_;
  std::uint64_t seed_;
};

}  // namespace

std::unique_ptr<Checkpoint> open_dummy_checkpoint(const fs::path& path, std::uint64_t seed) {
  std::error_code error;
  const bool is_directory = fs::is_directory(path, error);
  return std::make_unique<DummyCheckpoint>(is_directory ? path / "config.json" : path, seed);
}

}  // namespace lockstep
