// Reading fields of a tokenizer's JSON with errors that name file and field. Header only,
// stateless.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "core/check.h"

namespace lockstep {

// Null when the field is absent or null.
inline const nlohmann::json* find_field(const nlohmann::json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(name);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

inline const nlohmann::json& require_field(const nlohmann::json& object, const char* name,
                                           const std::string& source) {
  const nlohmann::json* field = find_field(object, name);
  check(field != nullptr, "{}: the field '{}' is missing", source, name);
  return *field;
}

inline const std::string& as_string(const nlohmann::json& value, const char* name,
                                    const std::string& source) {
  check(value.is_string(), "{}: '{}' is a {}, not a string", source, name, value.type_name());
  return value.get_ref<const std::string&>();
}

inline const std::string& require_string(const nlohmann::json& object, const char* name,
                                         const std::string& source) {
  return as_string(require_field(object, name, source), name, source);
}

inline std::string string_or(const nlohmann::json& object, const char* name,
                             const std::string& fallback, const std::string& source) {
  const nlohmann::json* field = find_field(object, name);
  return field == nullptr ? fallback : as_string(*field, name, source);
}

inline bool bool_or(const nlohmann::json& object, const char* name, bool fallback,
                    const std::string& source) {
  const nlohmann::json* field = find_field(object, name);
  if (field == nullptr) return fallback;
  check(field->is_boolean(), "{}: '{}' is a {}, not a boolean", source, name, field->type_name());
  return field->get<bool>();
}

// A token id: an integer in [0, 2^31).
inline std::int32_t as_id(const nlohmann::json& value, const std::string& name,
                          const std::string& source) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > 0x7fffffffu)
    fail("{}: the id of '{}' is {}, not an integer in [0, 2^31)", source, name,
         value.is_number() ? value.dump() : value.type_name());
  return static_cast<std::int32_t>(value.get<std::uint64_t>());
}

inline const nlohmann::json& require_array(const nlohmann::json& object, const char* name,
                                           const std::string& source) {
  const nlohmann::json& field = require_field(object, name, source);
  check(field.is_array(), "{}: '{}' is a {}, not a list", source, name, field.type_name());
  return field;
}

}  // namespace lockstep
