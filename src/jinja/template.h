// Jinja2 templates, as Hugging Face's chat templates are written: what the immutable sandbox of
// Jinja2 3.1 with trim_blocks, lstrip_blocks and loop controls renders, byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jinja/ast.h"
#include "jinja/value.h"

namespace lockstep::jinja {

// What a rendering may cost: a step is a little work, some bytes of text, or part of a value.
inline constexpr std::uint64_t kMaxSteps = std::uint64_t{1} << 24;
inline constexpr std::size_t kMaxOutputBytes = std::size_t{16} << 20;
inline constexpr std::size_t kMaxTemplateBytes = std::size_t{4} << 20;

// Immutable and thread-safe.
class Template {
 public:
  // `name` (a file's) stands in errors. Throws Error naming the line for what is no template, or
  // uses what is not supported.
  Template(std::string_view source, std::string name);

  // `variables`: the names that the template sees. `now` is the time for strftime_now(). The output
  // knows of each byte whether it comes from untrusted text among the variables. Throws Error
  // naming template and line for whatever goes wrong, raise_exception() included, and when the
  // template takes too long, recurses too deeply or writes too much.
  MarkedText render(const std::vector<std::pair<std::string, Value>>& variables,
                    const std::tm& now) const;

 private:
  std::string name_;
  Body body_;
};

}  // namespace lockstep::jinja
