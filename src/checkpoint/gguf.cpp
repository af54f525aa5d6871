#include "checkpoint/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <unordered_set>

#include "checkpoint/file.h"
#include "checkpoint/quantized.h"
#include "core/check.h"

namespace lockstep {
namespace {

// A header has the vocabulary in it: a few megabytes. Beyond this limit a file is not believed.
constexpr std::uint64_t kMaxHeaderBytes = std::uint64_t{64} << 20;
constexpr std::uint64_t kMaxKeyBytes = 65535;  // the specification's
constexpr std::uint64_t kMaxNameBytes = 64;    // the specification's, of a tensor's name
constexpr std::uint32_t kMaxDimensions = 4;    // the specification's

// Metadata value types, as numbered in the file.
enum class ValueType : std::uint32_t {
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
constexpr std::uint32_t kNumValueTypes = 13;

// Fewest bytes that a value of a type takes in the file.
std::uint64_t least_bytes(ValueType type) {
  constexpr std::array<std::uint64_t, kNumValueTypes> kBytes{1, 1, 2,  2, 4, 4, 4,
                                                             1, 8, 12, 8, 8, 8};
  return kBytes[static_cast<std::size_t>(type)];
}

// Reads the file from its start through a window of fixed size.
class Reader {
 public:
  explicit Reader(const File& file) : file_(file) {
    window_.resize(std::min<std::uint64_t>(file.size(), std::uint64_t{64} << 10));
  }

  std::uint64_t position() const { return position_; }
  const std::string& file() const { return file_.name(); }

  // Throws Error unless `count` things of at least `bytes` each can still follow.
  void expect(std::uint64_t count, std::uint64_t bytes, const char* what) const {
    const std::uint64_t rest = std::min(file_.size(), kMaxHeaderBytes) - position_;
    if (count > rest / bytes)
      fail("{}: {} {} at byte {}, but the header has room for at most {}", file(), count, what,
           position_, rest / bytes);
  }

  void bytes(void* out, std::size_t count, const char* what) {
    expect(count, 1, what);
    auto* destination = static_cast<char*>(out);
    while (count > 0) {
      if (position_ >= window_begin_ + window_size_) fill();
      const std::size_t at = static_cast<std::size_t>(position_ - window_begin_);
      const std::size_t piece = std::min(count, window_size_ - at);
      std::memcpy(destination, window_.data() + at, piece);
      destination += piece;
      position_ += piece;
      count -= piece;
    }
  }

  template <typename T>
  T scalar() {
    T value;
    bytes(&value, sizeof(value), "bytes of a value");
    return value;
  }

  std::string string(std::uint64_t most, const char* what) {
    const auto length = scalar<std::uint64_t>();
    if (length > most)
      fail("{}: {} of {} bytes at byte {}; at most {} are allowed", file(), what, length, position_,
           most);
    expect(length, 1, "bytes of a string");
    std::string text(static_cast<std::size_t>(length), '\0');
    bytes(text.data(), text.size(), what);
    return text;
  }

 private:
  void fill() {
    window_begin_ = position_;
    window_size_ =
        static_cast<std::size_t>(std::min<std::uint64_t>(window_.size(), file_.size() - position_));
    file_.read(window_begin_, window_size_, window_.data());
  }

  const File& file_;
  std::uint64_t position_ = 0;
  std::vector<char> window_;
  std::uint64_t window_begin_ = 0;
  std::size_t window_size_ = 0;
};

// One value's context, for errors.
struct Place {
  Reader& reader;
  const std::string& key;
};

ValueType read_value_type(Place place) {
  const auto type = place.reader.scalar<std::uint32_t>();
  if (type >= kNumValueTypes)
    fail("{}: metadata {}: unknown value type {}", place.reader.file(), quote_name(place.key),
         type);
  return static_cast<ValueType>(type);
}

bool is_integer(ValueType type) {
  switch (type) {
    case ValueType::kUint8:
    case ValueType::kInt8:
    case ValueType::kUint16:
    case ValueType::kInt16:
    case ValueType::kUint32:
    case ValueType::kInt32:
    case ValueType::kUint64:
    case ValueType::kInt64:
      return true;
    default:
      return false;
  }
}

std::int64_t read_integer(ValueType type, Place place) {
  Reader& reader = place.reader;
  switch (type) {
    case ValueType::kUint8:
      return reader.scalar<std::uint8_t>();
    case ValueType::kInt8:
      return reader.scalar<std::int8_t>();
    case ValueType::kUint16:
      return reader.scalar<std::uint16_t>();
    case ValueType::kInt16:
      return reader.scalar<std::int16_t>();
    case ValueType::kUint32:
      return reader.scalar<std::uint32_t>();
    case ValueType::kInt32:
      return reader.scalar<std::int32_t>();
    case ValueType::kInt64:
      return reader.scalar<std::int64_t>();
    default: {
      const auto value = reader.scalar<std::uint64_t>();
      if (value > static_cast<std::uint64_t>(INT64_MAX))
        fail("{}: metadata {}: {} is beyond 2^63-1", reader.file(), quote_name(place.key), value);
      return static_cast<std::int64_t>(value);
    }
  }
}

double read_number(ValueType type, Place place) {
  return type == ValueType::kFloat32 ? place.reader.scalar<float>() : place.reader.scalar<double>();
}

bool read_boolean(Place place) {
  const auto value = place.reader.scalar<std::uint8_t>();
  if (value > 1)
    fail("{}: metadata {}: a bool of value {}", place.reader.file(), quote_name(place.key), value);
  return value == 1;
}

// The elements exist in the file, as expect() saw to; what they become in memory is at most 8 times
// as large.
GgufMetadata::Value read_array(Place place) {
  const ValueType type = read_value_type(place);
  if (type == ValueType::kArray)
    fail("{}: metadata {}: arrays of arrays are not supported", place.reader.file(),
         quote_name(place.key));
  const auto count = place.reader.scalar<std::uint64_t>();
  place.reader.expect(count, least_bytes(type), "array elements");
  const auto size = static_cast<std::size_t>(count);
  if (type == ValueType::kString) {
    std::vector<std::string> list;
    list.reserve(size);
    for (std::size_t i = 0; i < size; ++i)
      list.push_back(place.reader.string(kMaxHeaderBytes, "a string"));
    return list;
  }
  if (type == ValueType::kBool) {
    std::vector<bool> list(size);
    for (std::size_t i = 0; i < size; ++i) list[i] = read_boolean(place);
    return list;
  }
  if (is_integer(type)) {
    std::vector<std::int64_t> list(size);
    for (auto& element : list) element = read_integer(type, place);
    return list;
  }
  std::vector<double> list(size);
  for (auto& element : list) element = read_number(type, place);
  return list;
}

GgufMetadata::Value read_value(ValueType type, Place place) {
  if (is_integer(type)) return read_integer(type, place);
  switch (type) {
    case ValueType::kBool:
      return read_boolean(place);
    case ValueType::kString:
      return place.reader.string(kMaxHeaderBytes, "a string");
    case ValueType::kArray:
      return read_array(place);
    default:
      return read_number(type, place);
  }
}

void read_metadata(Reader& reader, std::uint64_t count, GgufMetadata& metadata) {
  reader.expect(count, 8 + 4 + 1, "metadata entries");
  for (std::uint64_t i = 0; i < count; ++i) {
    std::string key = reader.string(kMaxKeyBytes, "a metadata key");
    if (key.empty()) fail("{}: metadata entry {} has an empty key", reader.file(), i);
    const Place place{reader, key};
    const ValueType type = read_value_type(place);
    GgufMetadata::Value value = read_value(type, place);
    if (metadata.values_.contains(key))
      fail("{}: metadata {} is there twice", reader.file(), quote_name(key));
    metadata.values_.emplace(std::move(key), std::move(value));
  }
}

// Sets tensor.bytes from type and shape.
void size_tensor(const std::string& file, GgufTensor& tensor) {
  const GgmlTypeInfo* type = find_ggml_type(tensor.type);
  if (!type)
    fail("{}: tensor {} has type {}, which is not supported", file, quote_name(tensor.name),
         describe_ggml_type(tensor.type));
  const std::int64_t row = tensor.shape.back();
  if (row % type->block_size != 0)
    fail("{}: tensor {}: rows of {} elements are not whole {} blocks of {}", file,
         quote_name(tensor.name), row, type->name, type->block_size);
  std::int64_t bytes = type->block_bytes;
  bool overflow = __builtin_mul_overflow(bytes, row / type->block_size, &bytes);
  for (std::size_t axis = 0; axis + 1 < tensor.shape.size(); ++axis)
    overflow |= __builtin_mul_overflow(bytes, tensor.shape[axis], &bytes);
  if (overflow)
    fail("{}: tensor {}: the product of its sizes [{}] overflows", file, quote_name(tensor.name),
         fmt::join(tensor.shape, ", "));
  tensor.bytes = static_cast<std::uint64_t>(bytes);
}

GgufTensor read_tensor(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.string(kMaxNameBytes, "a tensor name");
  const auto dimensions = reader.scalar<std::uint32_t>();
  if (dimensions < 1 || dimensions > kMaxDimensions)
    fail("{}: tensor {} has {} dimensions; 1 to {} are allowed", reader.file(),
         quote_name(tensor.name), dimensions, kMaxDimensions);
  tensor.shape.resize(dimensions);
  // The file has the fastest axis first.
  for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
    const auto stored = reader.scalar<std::uint64_t>();
    if (stored < 1 || stored > static_cast<std::uint64_t>(INT64_MAX))
      fail("{}: tensor {} has an axis of size {}", reader.file(), quote_name(tensor.name), stored);
    *size = static_cast<std::int64_t>(stored);
  }
  tensor.type = reader.scalar<std::uint32_t>();
  tensor.offset = reader.scalar<std::uint64_t>();
  size_tensor(reader.file(), tensor);
  return tensor;
}

std::uint64_t alignment_of(const GgufMetadata& metadata) {
  const std::int64_t alignment = metadata.integer("general.alignment").value_or(32);
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  check(0 < alignment && alignment <= kMost && (alignment & (alignment - 1)) == 0,
        "{}: general.alignment must be a power of two up to {}, not {}", metadata.file, kMost,
        alignment);
  return static_cast<std::uint64_t>(alignment);
}

// Turns offsets within the data section, which begins at the first aligned byte after the header,
// into offsets within the file, and checks that the tensors are all there, apart from each other.
void place_tensors(const File& file, std::uint64_t header_bytes, GgufHeader& header) {
  const std::uint64_t alignment = alignment_of(header.metadata);
  const std::uint64_t data = (header_bytes + alignment - 1) / alignment * alignment;
  std::unordered_set<std::string> names;
  std::vector<const GgufTensor*> by_offset;
  for (GgufTensor& tensor : header.tensors) {
    if (!names.insert(tensor.name).second)
      fail("{}: tensor {} is there twice", file.name(), quote_name(tensor.name));
    if (tensor.offset % alignment != 0)
      fail("{}: tensor {}: offset {} is not a multiple of the alignment {}", file.name(),
           quote_name(tensor.name), tensor.offset, alignment);
    const std::uint64_t room = file.size() > data ? file.size() - data : 0;
    if (tensor.offset > room || tensor.bytes > room - tensor.offset)
      fail("{}: tensor {}: {} bytes at offset {} of the data, but the file has only {} there",
           file.name(), quote_name(tensor.name), tensor.bytes, tensor.offset, room);
    tensor.offset += data;
    by_offset.push_back(&tensor);
  }
  std::sort(by_offset.begin(), by_offset.end(),
            [](const auto* a, const auto* b) { return a->offset < b->offset; });
  for (std::size_t i = 1; i < by_offset.size(); ++i) {
    const GgufTensor& before = *by_offset[i - 1];
    if (before.offset + before.bytes > by_offset[i]->offset)
      fail("{}: tensors {} and {} overlap", file.name(), quote_name(before.name),
           quote_name(by_offset[i]->name));
  }
}

void read_version(Reader& reader) {
  std::array<char, 4> magic{};
  reader.bytes(magic.data(), magic.size(), "bytes of the magic number");
  if (std::string_view(magic.data(), magic.size()) != "GGUF")
    fail("{}: not a GGUF file: it starts with {}", reader.file(),
         quote_name({magic.data(), magic.size()}));
  const auto version = reader.scalar<std::uint32_t>();
  if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3))
    fail("{}: a big-endian GGUF file; only little-endian ones are supported", reader.file());
  if (version != 2 && version != 3)
    fail("{}: GGUF version {} is not supported; 2 and 3 are", reader.file(), version);
}

}  // namespace

GgufHeader read_gguf_header(const File& file) {
  reject_git_lfs_pointer(file);
  Reader reader(file);
  read_version(reader);
  const auto tensors = reader.scalar<std::uint64_t>();
  const auto entries = reader.scalar<std::uint64_t>();

  GgufHeader header;
  header.metadata.file = file.name();
  read_metadata(reader, entries, header.metadata);
  reader.expect(tensors, 8 + 4 + 8 + 4 + 8, "tensors");
  header.tensors.reserve(static_cast<std::size_t>(tensors));
  for (std::uint64_t i = 0; i < tensors; ++i) header.tensors.push_back(read_tensor(reader));
  place_tensors(file, reader.position(), header);
  return header;
}

GgufHeader read_gguf_header(const std::filesystem::path& path) {
  return read_gguf_header(File(path));
}

}  // namespace lockstep
