#include "text/byte_level.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace lockstep {
namespace {

struct Tables {
  std::array<std::string, 256> character_of;
  std::array<std::int16_t, 0x144> byte_of;  // by code point; -1: none

  Tables() {
    byte_of.fill(-1);
    char32_t next = 0x100;
    for (char32_t byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t code_point = printable ? byte : next++;
      append_utf8(code_point, character_of[byte]);
      byte_of[code_point] = static_cast<std::int16_t>(byte);
    }
  }
};

const Tables& tables() {
  static const Tables instance;
  return instance;
}

}  // namespace

std::string bytes_to_characters(std::string_view bytes) {
  const Tables& t = tables();
  std::string out;
  out.reserve(bytes.size() + bytes.size() / 4);
  for (const char c : bytes) out += t.character_of[static_cast<unsigned char>(c)];
  return out;
}

std::string characters_to_bytes(std::string_view characters) {
  const Tables& t = tables();
  std::string out;
  out.reserve(characters.size());
  for (std::size_t i = 0; i < characters.size();) {
    const Utf8Step step = decode_utf8(characters, i);
    if (!step.valid || step.code_point >= t.byte_of.size() || t.byte_of[step.code_point] < 0)
      return std::string(characters);
    out.push_back(static_cast<char>(t.byte_of[step.code_point]));
    i += step.length;
  }
  return out;
}

}  // namespace lockstep
