// HTTP requests: a thin layer over libcurl.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "lockstep/error.h"

namespace lockstep {

// No answer, or not all of it: may be worth trying again.
class ConnectionError : public Error {
 public:
  ConnectionError(const std::string& message, bool reached) : Error(message), reached(reached) {}
  bool reached;  // false: there was no server under this address
};

// The caller asked to stop.
class PullCancelled : public Error {
 public:
  PullCancelled()
      : Error("cancelled; what has arrived is kept, and the next pull goes on from it") {}
};

struct HttpResponse {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case

  // Empty when there is no such header.
  std::string header(const std::string& name) const;
};

struct HttpRequest {
  std::string url;
  std::optional<std::string> token;
  std::uint64_t offset = 0;               // ask for the bytes from here on
  std::chrono::seconds timeout{10};       // to connect, and without a byte
  std::chrono::seconds total_timeout{0};  // for everything; 0: no limit
  // Gets the body piece by piece; what it throws ends the request and reaches the caller of get().
  std::function<void(const HttpResponse&, std::string_view)> on_body;
};

// One connection, kept for the next request. For one thread.
class HttpClient {
 public:
  // `ca_bundle`: file with the certificates to trust; empty: the system's.
  HttpClient(std::string ca_bundle, std::stop_token stop);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  // Does not follow redirects; any status is a response. Throws ConnectionError, PullCancelled, and
  // Error for what another attempt would not change, such as a certificate that is not trusted.
  HttpResponse get(const HttpRequest& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Scheme, host and port, with the default port filled in. Throws Error for what is no http(s) URL.
struct Origin {
  std::string scheme, host, port;
  friend bool operator==(const Origin&, const Origin&) = default;
};
Origin origin_of(const std::string& url);
// "localhost", 127.x.y.z, ::1.
bool is_loopback(const std::string& host);
// What a Location or Link header at `base` points to.
std::string resolve_url(const std::string& base, const std::string& reference);
// For errors: without the query, which may hold a signature that opens the file for everybody.
std::string without_query(const std::string& url);
// Percent-encodes all but letters, digits, "-._~" and, unless `slashes` too, "/".
std::string encode_url(std::string_view text, bool slashes);
// Seconds that a Retry-After header asks to wait: a number or a date. Empty: neither.
std::optional<std::chrono::seconds> parse_retry_after(const std::string& header);

}  // namespace lockstep
