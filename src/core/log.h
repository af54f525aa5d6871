// Logging goes to stderr through spdlog, which is thread-safe; text that a user asked for goes to
// stdout and never through here. LOCKSTEP_LOG sets the level: trace, debug, info, warn, error, off.
#pragma once

#include <spdlog/spdlog.h>

namespace lockstep {

// The library's logger; made on first use, level `warn` unless LOCKSTEP_LOG says otherwise.
spdlog::logger& logger();

}  // namespace lockstep
