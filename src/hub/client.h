// Questions to the hub: which commit, which files, and their bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "hub/http.h"
#include "hub/settings.h"

namespace lockstep {

struct HubFile {
  std::string path;  // in the repository; safe to use below the cache
  std::uint64_t size = 0;
  std::string hash;  // sha256 (64 digits) of files in LFS, git's sha1 (40) of others
};

// A request that may succeed later: no connection, or a status such as 429 or 503.
class TemporaryError : public Error {
 public:
  explicit TemporaryError(const std::string& message) : Error(message) {}
  std::optional<std::chrono::seconds> wait;  // what the server asked for
  bool reached = true;                       // false: there was no server
};

// Follows redirects. The token goes to the endpoint's own scheme, host and port alone, and in clear
// to no other machine. For one thread.
class HubClient {
 public:
  // `settings` must outlive the client.
  HubClient(const HubSettings& settings, std::stop_token stop);

  // The commit that a revision is at.
  std::string find_commit(const std::string& repo, const std::string& revision);
  // All files of a commit.
  std::vector<HubFile> list_files(const std::string& repo, const std::string& commit);
  // The bytes of a file from `offset` on, or from the start where the server cannot do that (status
  // 200 instead of 206). One attempt: throws TemporaryError. Returns the status: 200, 206 or 416.
  using Sink = std::function<void(const HttpResponse&, std::string_view)>;
  int download(const std::string& repo, const std::string& commit, const HubFile& file,
               std::uint64_t offset, const Sink& sink);

  // Calls `attempt` until it does not throw TemporaryError, with growing pauses; gives up when it
  // failed settings.retries times without `advanced` having been true in between.
  void retry(const std::function<void()>& attempt, const std::function<bool()>& advanced);

 private:
  HttpResponse follow(HttpRequest request, const std::string& repo);
  // A JSON document of the API, and the address of the next page if there is one.
  std::string get_document(const std::string& url, const std::string& repo, std::string* next);
  [[noreturn]] void reject(const HttpResponse& response, const std::string& url,
                           const std::string& repo) const;

  const HubSettings& settings_;
  std::stop_token stop_;
  HttpClient http_;
  Origin endpoint_;
  bool send_token_ = false;
};

}  // namespace lockstep
