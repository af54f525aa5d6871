#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdlib>
#include <memory>

namespace lockstep {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
    auto logger = std::make_shared<spdlog::logger>("lockstep", std::move(sink));
    logger->set_pattern("lockstep: %^%l%$: %v");
    const char* level = std::getenv("LOCKSTEP_LOG");
    logger->set_level(level ? spdlog::level::from_str(level) : spdlog::level::warn);
    return logger;
  }();
  return *instance;
}

}  // namespace lockstep
