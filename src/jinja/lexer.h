// A template's source as tokens, with white space control already done: trim_blocks and
// lstrip_blocks are on, as in Hugging Face's chat templates.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep::jinja {

struct Token {
  enum class Type : std::uint8_t {
    kData,           // text between tags
    kVariableBegin,  // {{
    kVariableEnd,
    kBlockBegin,  // {%
    kBlockEnd,
    kName,
    kString,    // without quotes, escapes resolved
    kInteger,   // as it stands, without underscores
    kFloat,     // the same
    kOperator,  // "==", "(", "|"
    kEnd,       // of the template
  };
  Type type;
  std::string text;
  int line;
};

// Throws Error naming the line for what is no template. `source` is valid UTF-8.
std::vector<Token> tokenize(std::string_view source);

}  // namespace lockstep::jinja
