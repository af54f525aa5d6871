// What the environment says about the hub, under the names that Python's huggingface_hub gave them.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

namespace lockstep {

struct HubSettings {
  std::string endpoint;         // HF_ENDPOINT, without a slash at its end
  std::filesystem::path cache;  // HF_HUB_CACHE, HF_HOME, ...: holds models--org--name
  bool offline = false;         // HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE
  std::optional<std::string> token;
  std::string token_source;                     // what to name in errors: HF_TOKEN, or a file
  std::string ca_bundle;                        // certificates to trust; empty: the system's
  std::chrono::seconds metadata_timeout{0};     // HF_HUB_ETAG_TIMEOUT: without an answer, or a byte
  std::chrono::seconds download_timeout{0};     // HF_HUB_DOWNLOAD_TIMEOUT
  int retries = 5;                              // in a row that bring nothing
  std::chrono::milliseconds retry_delay{1000};  // doubles with each
};

// Throws Error naming the variable that makes no sense.
HubSettings hub_settings();

}  // namespace lockstep
