#include "cli/output.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
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

bool output_is_terminal() { return isatty(STDOUT_FILENO); }

std::size_t output_width() {
  constexpr std::size_t kNarrowest = 40, kOtherwise = 100;
  winsize size{};
  if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0)
    return kOtherwise;
  return std::max<std::size_t>(size.ws_col, kNarrowest);
}

}  // namespace lockstep::cli
