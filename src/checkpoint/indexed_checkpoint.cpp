#include "checkpoint/indexed_checkpoint.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"

namespace lockstep {

const TensorInfo* IndexedCheckpoint::find(const std::string& name) const {
  const auto place = index_.find(name);
  return place == index_.end() ? nullptr : &tensors_[place->second];
}

void IndexedCheckpoint::add(TensorInfo info) {
  index_.emplace(info.name, tensors_.size());
  tensors_.push_back(std::move(info));
}

IndexedCheckpoint::Matrix IndexedCheckpoint::locate(const TensorInfo& info, Range rows,
                                                    Range columns) const {
  const auto place = index_.find(info.name);
  if (place == index_.end()) fail("no tensor {} in this checkpoint", quote_name(info.name));
  const Shape& shape = tensors_[place->second].shape;
  const Matrix matrix{place->second, shape[0], shape.rank() == 1 ? 1 : shape[1]};
  const auto within = [](Range range, std::int64_t size) {
    return 0 <= range.begin && range.begin <= range.end && range.end <= size;
  };
  if (!within(rows, matrix.rows) || !within(columns, matrix.columns))
    fail("{}: tensor {}: rows [{}, {}) and columns [{}, {}) are not within {}", file_of(info),
         info.name, rows.begin, rows.end, columns.begin, columns.end, to_string(shape));
  return matrix;
}

void read_plain(const File& file, std::uint64_t offset, std::int64_t row_elements,
                std::size_t element_bytes, Range rows, Range columns, void* out) {
  const auto row_bytes = static_cast<std::uint64_t>(row_elements) * element_bytes;
  const auto first = offset + static_cast<std::uint64_t>(rows.begin) * row_bytes;
  if (columns.size() == row_elements) {
    file.read(first, static_cast<std::size_t>(rows.size()) * row_bytes, out);
    return;
  }
  auto* destination = static_cast<char*>(out);
  const auto skipped = static_cast<std::uint64_t>(columns.begin) * element_bytes;
  const auto piece = static_cast<std::size_t>(columns.size()) * element_bytes;
  for (std::int64_t row = 0; row < rows.size(); ++row, destination += piece)
    file.read(first + static_cast<std::uint64_t>(row) * row_bytes + skipped, piece, destination);
}

void check_shape(const ExpectedTensor& expected, const std::vector<std::int64_t>& found,
                 const std::string& stored_name, const std::string& file) {
  bool equal = static_cast<int>(found.size()) == expected.shape.rank();
  for (int axis = 0; equal && axis < expected.shape.rank(); ++axis)
    equal = found[static_cast<std::size_t>(axis)] == expected.shape[axis];
  if (!equal)
    fail("{}: tensor {} has shape [{}]; the config asks for {}", file, quote_name(stored_name),
         fmt::join(found, ", "), to_string(expected.shape));
}

}  // namespace lockstep
