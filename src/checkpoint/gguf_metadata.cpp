// Typed access to GGUF metadata.
#include "checkpoint/file.h"
#include "checkpoint/gguf.h"
#include "core/check.h"

namespace lockstep {
namespace {

const char* kind_of(const GgufMetadata::Value& value) {
  constexpr const char* kKinds[] = {"an integer", "a number", "a bool", "a string",
                                    "integers",   "numbers",  "bools",  "strings"};
  return kKinds[value.index()];
}

[[noreturn]] void wrong_kind(const GgufMetadata& metadata, const std::string& key,
                             const char* expected, const GgufMetadata::Value& found) {
  fail("{}: metadata {} must be {}, not {}", metadata.file, quote_name(key), expected,
       kind_of(found));
}

// The value of `key` as a T; null when it is absent.
template <typename T>
const T* get(const GgufMetadata& metadata, const std::string& key, const char* expected) {
  const auto place = metadata.all().find(key);
  if (place == metadata.all().end()) return nullptr;
  const T* value = std::get_if<T>(&place->second);
  if (!value) wrong_kind(metadata, key, expected, place->second);
  return value;
}

template <typename T>
std::optional<T> copy(const T* value) {
  return value ? std::optional<T>(*value) : std::nullopt;
}

}  // namespace

std::optional<std::int64_t> GgufMetadata::integer(const std::string& key) const {
  return copy(get<std::int64_t>(*this, key, "an integer"));
}

std::optional<double> GgufMetadata::number(const std::string& key) const {
  const auto place = values_.find(key);
  if (place != values_.end())
    if (const auto* integer = std::get_if<std::int64_t>(&place->second))
      return static_cast<double>(*integer);
  return copy(get<double>(*this, key, "a number"));
}

std::optional<bool> GgufMetadata::boolean(const std::string& key) const {
  return copy(get<bool>(*this, key, "a bool"));
}

const std::string* GgufMetadata::string(const std::string& key) const {
  return get<std::string>(*this, key, "a string");
}

const std::vector<std::string>* GgufMetadata::strings(const std::string& key) const {
  return get<std::vector<std::string>>(*this, key, "a list of strings");
}

const std::vector<std::int64_t>* GgufMetadata::integers(const std::string& key) const {
  return get<std::vector<std::int64_t>>(*this, key, "a list of integers");
}

const std::vector<double>* GgufMetadata::numbers(const std::string& key) const {
  return get<std::vector<double>>(*this, key, "a list of numbers");
}

}  // namespace lockstep
