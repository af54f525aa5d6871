// GPT-2's spelling of bytes as printable characters, so that any text can be spelled with 256
// characters: printable Latin-1 stands for itself, the other bytes for U+0100 and on. Stateless.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// "a b" becomes "aĠb".
std::string bytes_to_characters(std::string_view bytes);

// The reverse; a token with any other character in it is taken as it stands, as Hugging Face does.
std::string characters_to_bytes(std::string_view characters);

}  // namespace lockstep
