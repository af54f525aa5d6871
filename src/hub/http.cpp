#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <exception>
#include <utility>

#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {
namespace {

constexpr std::size_t kMaxHeaderBytes = 256 << 10;

using CurlUrl = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;
using CurlList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

CurlUrl parse_url(const std::string& url) {
  CurlUrl parsed(curl_url(), curl_url_cleanup);
  check(parsed && curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) == CURLUE_OK,
        "{} is no URL", quote_name(without_query(url)));
  return parsed;
}

std::string part(const CurlUrl& url, CURLUPart what, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url.get(), what, &text, flags) != CURLUE_OK) return "";
  std::string result = text;
  curl_free(text);
  return result;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

void start_curl() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  check(result == CURLE_OK, "libcurl cannot start: {}", curl_easy_strerror(result));
}

}  // namespace

std::string HttpResponse::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

struct HttpClient::Impl {
  CURL* handle = nullptr;
  std::string ca_bundle;
  std::stop_token stop;
  std::array<char, CURL_ERROR_SIZE> message{};
  // Of the request that is running.
  const HttpRequest* request = nullptr;
  HttpResponse response;
  std::size_t header_bytes = 0;
  std::exception_ptr error;

  // Runs one of libcurl's callbacks, which must not throw: false when it did.
  template <typename F>
  bool guarded(F&& work) noexcept {
    try {
      work();
      return true;
    } catch (...) {
      error = std::current_exception();
      return false;
    }
  }

  void add_header(std::string_view line) {
    header_bytes += line.size();
    check(header_bytes <= kMaxHeaderBytes, "{}: more than {} bytes of headers",
          without_query(request->url), kMaxHeaderBytes);
    if (line.starts_with("HTTP/")) {  // also after "100 Continue"
      response.headers.clear();
      return;
    }
    const std::size_t colon = line.find(':');
    if (colon == line.npos) return;
    constexpr std::string_view kSpace = " \t\r\n";
    std::string_view value = line.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(kSpace), value.size()));
    value = value.substr(0, value.find_last_not_of(kSpace) + 1);
    response.headers[lower(std::string(line.substr(0, colon)))] = value;
  }

  void add_body(std::string_view bytes) {
    long status = 0;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
    response.status = static_cast<int>(status);
    if (request->on_body) request->on_body(response, bytes);
  }

  static std::size_t on_header(char* data, std::size_t, std::size_t size, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    return impl.guarded([&] { impl.add_header({data, size}); }) ? size : 0;
  }
  static std::size_t on_body(char* data, std::size_t, std::size_t size, void* self) {
    auto& impl = *static_cast<Impl*>(self);
    return impl.guarded([&] { impl.add_body({data, size}); }) ? size : 0;
  }
  static int on_tick(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<Impl*>(self)->stop.stop_requested() ? 1 : 0;
  }

  template <typename T>
  void set(CURLoption option, T value) {
    const CURLcode result = curl_easy_setopt(handle, option, value);
    check(result == CURLE_OK, "libcurl refuses option {}: {}", static_cast<int>(option),
          curl_easy_strerror(result));
  }

  void prepare(const HttpRequest& next, const CurlList& headers) {
    curl_easy_reset(handle);  // keeps the connection
    request = &next;
    response = {};
    header_bytes = 0;
    error = nullptr;
    message[0] = '\0';
    set(CURLOPT_URL, next.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, "lockstep");
    set(CURLOPT_HTTPHEADER, headers.get());
    set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);  // a proxy's
    set(CURLOPT_ERRORBUFFER, message.data());
    set(CURLOPT_HEADERFUNCTION, &Impl::on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &Impl::on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_XFERINFOFUNCTION, &Impl::on_tick);
    set(CURLOPT_XFERINFODATA, this);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(next.timeout.count()));
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(next.timeout.count()));
    set(CURLOPT_TIMEOUT, static_cast<long>(next.total_timeout.count()));
    if (!ca_bundle.empty()) set(CURLOPT_CAINFO, ca_bundle.c_str());
    if (next.offset > 0) set(CURLOPT_RANGE, fmt::format("{}-", next.offset).c_str());
  }
};

HttpClient::HttpClient(std::string ca_bundle, std::stop_token stop)
    : impl_(std::make_unique<Impl>()) {
  start_curl();
  impl_->handle = curl_easy_init();
  check(impl_->handle != nullptr, "libcurl cannot start: out of memory");
  impl_->ca_bundle = std::move(ca_bundle);
  impl_->stop = std::move(stop);
}

HttpClient::~HttpClient() { curl_easy_cleanup(impl_->handle); }

HttpResponse HttpClient::get(const HttpRequest& request) {
  CurlList headers(nullptr, curl_slist_free_all);
  if (request.token)
    headers.reset(curl_slist_append(nullptr, ("Authorization: Bearer " + *request.token).c_str()));
  impl_->prepare(request, headers);
  const CURLcode result = curl_easy_perform(impl_->handle);
  if (impl_->error) std::rethrow_exception(std::exchange(impl_->error, nullptr));
  if (impl_->stop.stop_requested()) throw PullCancelled();
  const char* why = impl_->message[0] ? impl_->message.data() : curl_easy_strerror(result);
  check(result != CURLE_PEER_FAILED_VERIFICATION && result != CURLE_SSL_CACERT_BADFILE,
        "{}: {}; SSL_CERT_FILE can name a file with the certificates to trust",
        without_query(request.url), why);
  if (result != CURLE_OK)
    throw ConnectionError(fmt::format("{}: {}", without_query(request.url), why),
                          result != CURLE_COULDNT_RESOLVE_HOST &&
                              result != CURLE_COULDNT_RESOLVE_PROXY &&
                              result != CURLE_COULDNT_CONNECT);
  long status = 0;
  curl_easy_getinfo(impl_->handle, CURLINFO_RESPONSE_CODE, &status);
  impl_->response.status = static_cast<int>(status);
  return std::move(impl_->response);
}

Origin origin_of(const std::string& url) {
  const CurlUrl parsed = parse_url(url);
  Origin origin{lower(part(parsed, CURLUPART_SCHEME)), lower(part(parsed, CURLUPART_HOST)),
                part(parsed, CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  check((origin.scheme == "http" || origin.scheme == "https") && !origin.host.empty(),
        "{}: an address that starts with http:// or https:// is expected",
        quote_name(without_query(url)));
  return origin;
}

bool is_loopback(const std::string& host) {
  const bool numbers = host.find_first_not_of("0123456789.") == host.npos;
  return host == "localhost" || host == "[::1]" || (host.starts_with("127.") && numbers);
}

std::string resolve_url(const std::string& base, const std::string& reference) {
  const CurlUrl url = parse_url(base);
  check(curl_url_set(url.get(), CURLUPART_URL, reference.c_str(), CURLU_URLENCODE) == CURLUE_OK,
        "{} points to {}, which is no URL", without_query(base),
        quote_name(without_query(reference)));
  check(part(url, CURLUPART_USER).empty() && part(url, CURLUPART_PASSWORD).empty(),
        "{} points to an address with a password", without_query(base));
  return part(url, CURLUPART_URL);
}

std::string without_query(const std::string& url) { return url.substr(0, url.find_first_of("?#")); }

std::string encode_url(std::string_view text, bool slashes) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '.' || c == '_' || c == '~' || (c == '/' && !slashes);
    if (plain)
      result += c;
    else
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

std::optional<std::chrono::seconds> parse_retry_after(const std::string& header) {
  std::int64_t seconds = 0;
  const char* end = header.data() + header.size();
  const auto number = std::from_chars(header.data(), end, seconds);
  if (number.ec == std::errc() && number.ptr == end && seconds >= 0)
    return std::chrono::seconds(seconds);
  const std::time_t date = curl_getdate(header.c_str(), nullptr);
  if (date < 0) return std::nullopt;
  return std::chrono::seconds(std::max<std::time_t>(0, date - std::time(nullptr)));
}

}  // namespace lockstep
