// What a command prints.
#pragma once

#include <cstddef>
#include <string_view>

namespace lockstep::cli {

// Writes `text` to stdout, together with all that was printed before, at once. Throws Error when it
// does not get there (a full disk).
void write_out(std::string_view text);

// Writes `text` to stderr. What nobody can read is nobody's error: does not throw.
void write_err(std::string_view text) noexcept;

bool output_is_terminal();

// Columns of the terminal that stdout is; 100 where it is none.
std::size_t output_width();

}  // namespace lockstep::cli
