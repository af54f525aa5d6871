#include "cli/output.h"

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "core/check.h"

namespace lockstep::cli {

void write_out(std::string_view text) {
  errno = 0;
  std::fwrite(text.data(), 1, text.size(), stdout);
  if (std::fflush(stdout) == 0 && !std::ferror(stdout)) return;
  fail("cannot write to standard output: {}", std::generic_category().message(errno));
}

void write_err(std::string_view text) noexcept { std::fwrite(text.data(), 1, text.size(), stderr); }

}  // namespace lockstep::cli
