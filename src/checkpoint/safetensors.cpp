#include "checkpoint/safetensors.h"

#include <algorithm>
#include <array>

#include "checkpoint/json.h"
#include "core/check.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's
constexpr std::size_t kMaxAxes = 8;

struct StoredType {
  const char* name;
  std::int64_t bytes;
};
constexpr std::array<StoredType, 16> kTypes{{
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"F64", 8},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"F8_E8M0", 1},
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"U16", 2},
    {"I16", 2},
    {"U32", 4},
    {"I32", 4},
    {"U64", 8},
    {"I64", 8},
}};

// One entry's context, for errors.
struct Place {
  const std::string& file;
  const std::string& tensor;
};

const Json& member(const Json& entry, const char* key, Place place) {
  const auto found = entry.find(key);
  if (found == entry.end())
    fail("{}: tensor {}: {} is missing", place.file, quote_name(place.tensor), key);
  return *found;
}

// A size or offset.
std::int64_t natural(const Json& value, const char* key, Place place) {
  if (!value.is_number_unsigned() ||
      value.get<std::uint64_t>() > static_cast<std::uint64_t>(INT64_MAX))
    fail("{}: tensor {}: {} must hold integers from 0 to 2^63-1, not {}", place.file,
         quote_name(place.tensor), key,
         value.is_structured() ? value.type_name() : quote_name(value.dump(-1, ' ', true)));
  return value.get<std::int64_t>();
}

std::vector<std::int64_t> naturals(const Json& entry, const char* key, std::size_t most,
                                   Place place) {
  const Json& list = member(entry, key, place);
  if (!list.is_array() || list.size() > most)
    fail("{}: tensor {}: {} must be a list of at most {} integers", place.file,
         quote_name(place.tensor), key, most);
  std::vector<std::int64_t> values;
  for (const Json& value : list) values.push_back(natural(value, key, place));
  return values;
}

// Bytes of a tensor of this dtype and shape.
std::int64_t bytes_of(const SafetensorsTensor& tensor, Place place) {
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const StoredType& each) { return tensor.dtype == each.name; });
  if (type == kTypes.end())
    fail("{}: tensor {}: unknown dtype {}", place.file, quote_name(tensor.name),
         quote_name(tensor.dtype));
  std::int64_t bytes = type->bytes;
  for (const std::int64_t size : tensor.shape)
    if (__builtin_mul_overflow(bytes, size, &bytes))
      fail("{}: tensor {}: the product of its sizes [{}] overflows", place.file,
           quote_name(tensor.name), fmt::join(tensor.shape, ", "));
  return bytes;
}

SafetensorsTensor read_entry(const std::string& name, const Json& entry, const std::string& file) {
  const Place place{file, name};
  if (!entry.is_object())
    fail("{}: tensor {}: an object is expected, not {}", file, quote_name(name), entry.type_name());
  SafetensorsTensor tensor;
  tensor.name = name;
  const Json& dtype = member(entry, "dtype", place);
  if (!dtype.is_string())
    fail("{}: tensor {}: dtype must be a string, not {}", file, quote_name(name),
         dtype.type_name());
  tensor.dtype = dtype.get<std::string>();
  tensor.shape = naturals(entry, "shape", kMaxAxes, place);
  const auto offsets = naturals(entry, "data_offsets", 2, place);
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    fail("{}: tensor {}: data_offsets must be [begin, end], not [{}]", file, quote_name(name),
         fmt::join(offsets, ", "));
  const std::int64_t bytes = bytes_of(tensor, place);
  if (bytes != offsets[1] - offsets[0])
    fail("{}: tensor {}: {} of shape [{}] takes {} bytes, but data_offsets [{}, {}] span {}", file,
         quote_name(name), tensor.dtype, fmt::join(tensor.shape, ", "), bytes, offsets[0],
         offsets[1], offsets[1] - offsets[0]);
  tensor.offset = static_cast<std::uint64_t>(offsets[0]);
  tensor.bytes = static_cast<std::uint64_t>(bytes);
  return tensor;
}

void check_metadata(const Json& metadata, const std::string& file) {
  check(metadata.is_object(), "{}: __metadata__ must be an object, not {}", file,
        metadata.type_name());
  for (const auto& [key, value] : metadata.items())
    if (!value.is_string())
      fail("{}: __metadata__ {} must be a string, not {}", file, quote_name(key),
           value.type_name());
}

// The tensors must fill the data section from its start to the end of the file, each beginning
// where the one before it ends. Turns offsets into the data into offsets into the file.
void place_tensors(std::uint64_t data, const File& file, std::vector<SafetensorsTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  const std::uint64_t room = file.size() - data;
  for (const SafetensorsTensor& tensor : tensors)
    if (tensor.offset + tensor.bytes > room)
      fail("{}: tensor {}: its data ends at {}, but the file has only {} bytes of data",
           file.name(), quote_name(tensor.name), tensor.offset + tensor.bytes, room);
  std::uint64_t end = 0;
  for (SafetensorsTensor& tensor : tensors) {
    if (tensor.offset != end)
      fail("{}: tensor {}: its data begins at {}, but that of the tensor before it ends at {}: {}",
           file.name(), quote_name(tensor.name), tensor.offset, end,
           tensor.offset < end ? "they overlap" : "there is a hole");
    end += tensor.bytes;
    tensor.offset += data;
  }
  check(end == room, "{}: the tensors take {} bytes, but the file has {} bytes of data",
        file.name(), end, room);
}

}  // namespace

std::vector<SafetensorsTensor> read_safetensors_header(const File& file) {
  reject_git_lfs_pointer(file);
  std::uint64_t length = 0;
  check(file.size() >= sizeof(length), "{}: truncated: {} bytes are too few for a safetensors file",
        file.name(), file.size());
  file.read(0, sizeof(length), &length);
  check(length <= kMaxHeaderBytes, "{}: a header of {} bytes; at most {} are allowed", file.name(),
        length, kMaxHeaderBytes);
  check(length <= file.size() - sizeof(length),
        "{}: truncated: a header of {} bytes in a file of {}", file.name(), length, file.size());
  std::string text(static_cast<std::size_t>(length), '\0');
  file.read(sizeof(length), text.size(), text.data());
  check(text.starts_with('{'), "{}: the header does not begin with '{{': not a safetensors file",
        file.name());

  const Json header = parse_json(text, file.name());
  check(header.is_object(), "{}: the header must be an object, not {}", file.name(),
        header.type_name());
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__")
      check_metadata(entry, file.name());
    else
      tensors.push_back(read_entry(name, entry, file.name()));
  }
  place_tensors(sizeof(length) + length, file, tensors);
  return tensors;
}

}  // namespace lockstep
