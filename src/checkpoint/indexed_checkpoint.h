// What the checkpoint readers share: the list of tensors, looked up by name, and reading a
// rectangle of a plain row-major matrix.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/file.h"

namespace lockstep {

// Owns config and list. Immutable once its subclass is constructed, so safe to use from many
// threads.
class IndexedCheckpoint : public Checkpoint {
 public:
  const Config& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* find(const std::string& name) const override;

 protected:
  // A tensor as a matrix: a vector has one column.
  struct Matrix {
    std::size_t index;  // in tensors()
    std::int64_t rows;
    std::int64_t columns;
  };

  // Appends; names are unique.
  void add(TensorInfo info);
  // The tensor that a call of read() is about; throws Error unless it is of this checkpoint and the
  // ranges are within it.
  Matrix locate(const TensorInfo& info, Range rows, Range columns) const;

  Config config_;

 private:
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, std::size_t> index_;
};

// Reads rows x columns of a row-major matrix of `row_elements` columns that begins at `offset` of
// `file`: one read for whole rows, else one a row.
void read_plain(const File& file, std::uint64_t offset, std::int64_t row_elements,
                std::size_t element_bytes, Range rows, Range columns, void* out);

// Throws Error unless a tensor of `found` sizes is what `expected` says; `file` and the tensor's
// name in the file stand in it.
void check_shape(const ExpectedTensor& expected, const std::vector<std::int64_t>& found,
                 const std::string& stored_name, const std::string& file);

}  // namespace lockstep
