// A hub on loopback (hub_server.py), and folders to pull into.
#pragma once

#include <gmock/gmock.h>
#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "hub/pull.h"

namespace lockstep {

using Json = nlohmann::json;

// A folder that goes with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// hub_server.py with a specification, as a process of its own.
class Hub {
 public:
  explicit Hub(const Json& specification);
  ~Hub();
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  const std::string& url() const { return url_; }
  // What was asked so far, of paths that contain `part`.
  std::vector<Json> log(const std::string& part) const;
  // For this hub and an empty cache of its own; impatient.
  HubSettings settings() const;
  std::filesystem::path model(const std::string& repo = "models--acme--small") const;

 private:
  TemporaryFolder folder_;
  pid_t process_ = -1;
  int input_ = -1;
  std::string url_;
};

// A specification with one repository, acme/small, of these files.
Json repository(const Json& files);
// The same, which does this.
Json with_fault(Json specification, const Json& fault);

PulledModel pull_from(const HubSettings& settings, const std::string& model = "acme/small",
                      const PullOptions& options = {});

std::string read(const std::filesystem::path& path);
void write(const std::filesystem::path& path, const std::string& content);

// The message of the Error that this throws.
std::string error_of(const std::function<void()>& work);

}  // namespace lockstep
