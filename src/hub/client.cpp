#include "hub/client.h"

#include <algorithm>
#include <utility>

#include "checkpoint/file.h"
#include "checkpoint/json.h"
#include "core/check.h"
#include "hub/cache.h"
#include "hub/model_name.h"

namespace lockstep {
namespace {

constexpr int kMaxRedirects = 10;
constexpr std::size_t kMaxDocument = 32 << 20;
constexpr std::size_t kMaxFiles = 100000;
constexpr int kMaxPages = 1000;
// A document is small; a server that drips must not hold us for ever.
constexpr std::chrono::seconds kDocumentTimeout{300};
constexpr std::chrono::seconds kMaxWait{300};

bool is_temporary(int status) {
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

// The URL of rel="next" in a Link header: <https://...?cursor=x>; rel="next".
std::string next_link(const std::string& header) {
  for (std::size_t begin = header.find('<'); begin != header.npos;
       begin = header.find('<', begin + 1)) {
    const std::size_t end = header.find('>', begin);
    if (end == header.npos) break;
    const std::string rest = header.substr(end + 1, header.find(',', end) - end - 1);
    if (rest.find("rel=\"next\"") != rest.npos) return header.substr(begin + 1, end - begin - 1);
  }
  return "";
}

std::string text_field(const nlohmann::json& json, const char* key, const std::string& source) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  if (!json.is_object() || found == json.end() || !found->is_string())
    fail("{}: \"{}\" is missing, or no text", source, key);
  return found->get<std::string>();
}

// One entry of a listing, which names anything that its owner likes.
HubFile file_from(const nlohmann::json& entry, const std::string& source) {
  HubFile file;
  file.path = text_field(entry, "path", source);
  check(is_safe_path(file.path),
        "{}: a file is named {}, which could leave the cache; nothing of it is fetched", source,
        quote_name(file.path));
  const auto lfs = entry.find("lfs");
  const bool large = lfs != entry.end() && lfs->is_object();
  const nlohmann::json& content = large ? *lfs : entry;
  file.hash = text_field(content, "oid", source);
  if (file.hash.starts_with("sha256:")) file.hash.erase(0, 7);
  check(file.hash.size() == (large ? 64 : 40) && is_lower_hex(file.hash),
        "{}: file {} has the sum {}, which is none", source, quote_name(file.path),
        quote_name(file.hash));
  const auto size = content.find("size");
  check(size != content.end() && size->is_number_unsigned() &&
            size->get<std::uint64_t>() <= std::uint64_t{1} << 50,
        "{}: file {} has no size, or one that makes no sense", source, quote_name(file.path));
  file.size = size->get<std::uint64_t>();
  return file;
}

}  // namespace

HubClient::HubClient(const HubSettings& settings, std::stop_token stop)
    : settings_(settings),
      stop_(stop),
      http_(settings.ca_bundle, stop),
      endpoint_(origin_of(settings.endpoint)),
      send_token_(settings.token && (endpoint_.scheme == "https" || is_loopback(endpoint_.host))) {}

HttpResponse HubClient::follow(HttpRequest request, const std::string& repo) {
  const std::string first = request.url;
  const auto sink = std::move(request.on_body);
  std::size_t ignored = 0;
  request.on_body = [&](const HttpResponse& response, std::string_view bytes) {
    if (response.status == 200 || response.status == 206) return sink(response, bytes);
    // What is said besides the headers is for browsers.
    ignored += bytes.size();
    check(ignored <= kMaxDocument, "{}: the answer with status {} does not end",
          without_query(request.url), response.status);
  };
  bool at_home = true;  // once away, the token does not come back
  for (int redirects = 0;; ++redirects) {
    const Origin origin = origin_of(request.url);
    at_home = at_home && origin == endpoint_;
    request.token = at_home && send_token_ ? settings_.token : std::nullopt;
    HttpResponse response;
    try {
      response = http_.get(request);
    } catch (const ConnectionError& error) {
      TemporaryError temporary(error.what());
      temporary.reached = error.reached;
      throw temporary;
    }
    if (is_redirect(response.status) && !response.header("location").empty()) {
      check(redirects < kMaxRedirects, "{}: more than {} redirects", without_query(first),
            kMaxRedirects);
      request.url = resolve_url(request.url, response.header("location"));
      check(origin.scheme == "http" || origin_of(request.url).scheme == "https",
            "{}: redirected to {}, where nothing is encrypted", without_query(first),
            quote_name(without_query(request.url)));
      continue;
    }
    if (response.status == 200 || response.status == 206 || response.status == 416) return response;
    if (is_temporary(response.status)) {
      TemporaryError temporary(fmt::format("{}: status {}{}", without_query(request.url),
                                           response.status,
                                           response.status == 429 ? " (too many requests)" : ""));
      temporary.wait = parse_retry_after(response.header("retry-after"));
      throw temporary;
    }
    reject(response, request.url, repo);
  }
}

void HubClient::reject(const HttpResponse& response, const std::string& url,
                       const std::string& repo) const {
  const std::string code = response.header("x-error-code");
  const std::string said = response.header("x-error-message").empty()
                               ? ""
                               : " (" + quote_name(response.header("x-error-message")) + ")";
  const std::string tokens = settings_.endpoint + "/settings/tokens";
  if (code == "GatedRepo")
    fail(
        "{}: this model is gated{}: accept its licence at {}/{}, then set HF_TOKEN to a token from "
        "{}{}",
        repo, said, settings_.endpoint, repo, tokens,
        settings_.token ? " of the same account" : "");
  if (response.status == 401 || code == "RepoNotFound") {
    if (settings_.token && !send_token_)
      fail(
          "{}: not found on {}, or private{}; the token from {} was not sent, because nothing is "
          "encrypted there: use https",
          repo, settings_.endpoint, said, settings_.token_source);
    if (settings_.token)
      fail(
          "{}: not found on {}, or the token from {} does not open it{}: check the name, and the "
          "token at {}",
          repo, settings_.endpoint, settings_.token_source, said, tokens);
    fail(
        "{}: not found on {}, or private{}: check the name; if it is private, set HF_TOKEN to a "
        "token from {}",
        repo, settings_.endpoint, said, tokens);
  }
  if (response.status == 403)
    fail("{}: access is denied{}: {}", repo, said,
         settings_.token ? "check that the token from " + settings_.token_source + " may read it"
                         : "set HF_TOKEN to a token from " + tokens);
  if (code == "RevisionNotFound")
    fail("{}: there is no such revision{}: {}/{}/tree/main lists branches and tags", repo, said,
         settings_.endpoint, repo);
  if (response.status == 404)
    fail("{}: {} is not there{}: check the name and the revision", repo, without_query(url), said);
  fail("{}: {} answers with status {}{}", repo, without_query(url), response.status, said);
}

void HubClient::retry(const std::function<void()>& attempt, const std::function<bool()>& advanced) {
  std::chrono::milliseconds delay = settings_.retry_delay;
  for (int failures = 1;; ++failures) {
    try {
      return attempt();
    } catch (const TemporaryError& error) {
      if (advanced()) {
        failures = 1;
        delay = settings_.retry_delay;
      }
      if (failures > settings_.retries)
        fail("{}; gave up after {} attempts: try again later, what has arrived is kept",
             error.what(), failures);
      if (error.wait && *error.wait > kMaxWait)
        fail("{}; the server asks to wait {} s: try again then{}", error.what(),
             error.wait->count(), settings_.token ? "" : ", or set HF_TOKEN, which may do more");
      sleep_for(error.wait ? std::max<std::chrono::milliseconds>(*error.wait, delay) : delay,
                stop_);
      delay = std::min(delay * 2, settings_.retry_delay * 8);
    }
  }
}

std::string HubClient::get_document(const std::string& url, const std::string& repo,
                                    std::string* next) {
  std::string document;
  const auto attempt = [&] {
    document.clear();
    HttpRequest request;
    request.url = url;
    request.timeout = settings_.metadata_timeout;
    request.total_timeout = kDocumentTimeout;
    request.on_body = [&](const HttpResponse&, std::string_view bytes) {
      check(document.size() + bytes.size() <= kMaxDocument, "{}: more than {} bytes",
            without_query(url), kMaxDocument);
      document += bytes;
    };
    const HttpResponse response = follow(std::move(request), repo);
    check(response.status == 200, "{}: status {}", without_query(url), response.status);
    const std::string link = next_link(response.header("link"));
    if (next) *next = link.empty() ? "" : resolve_url(url, link);
  };
  const auto reach = [&] {
    try {
      attempt();
    } catch (const TemporaryError& error) {
      // Nobody waits gladly for what is a mistyped path, on a machine without a network.
      check(error.reached, "{}: the hub cannot be reached: check the network, and HF_ENDPOINT",
            error.what());
      throw;
    }
  };
  retry(reach, [] { return false; });
  return document;
}

std::string HubClient::find_commit(const std::string& repo, const std::string& revision) {
  const std::string url = fmt::format("{}/api/models/{}/revision/{}", settings_.endpoint, repo,
                                      encode_url(revision, true));
  std::string commit = text_field(parse_json(get_document(url, repo, nullptr), url), "sha", url);
  check(is_commit(commit), "{}: {} is no commit; is {} a Hugging Face hub?", url,
        quote_name(commit), settings_.endpoint);
  check(!is_commit(revision) || revision == commit, "{}: answers with another commit, {}", url,
        commit);
  return commit;
}

std::vector<HubFile> HubClient::list_files(const std::string& repo, const std::string& commit) {
  std::string url =
      fmt::format("{}/api/models/{}/tree/{}?recursive=true", settings_.endpoint, repo, commit);
  std::vector<HubFile> files;
  for (int page = 0; !url.empty(); ++page) {
    const std::string source = without_query(url);
    check(page < kMaxPages, "{}: more than {} pages", source, kMaxPages);
    std::string next;
    const nlohmann::json entries = parse_json(get_document(url, repo, &next), source);
    check(entries.is_array(), "{}: a list of files is expected", source);
    for (const nlohmann::json& entry : entries)
      if (text_field(entry, "type", source) == "file") files.push_back(file_from(entry, source));
    check(files.size() <= kMaxFiles, "{}: more than {} files", source, kMaxFiles);
    url = next;
  }
  return files;
}

int HubClient::download(const std::string& repo, const std::string& commit, const HubFile& file,
                        std::uint64_t offset, const Sink& sink) {
  HttpRequest request;
  request.url = fmt::format("{}/{}/resolve/{}/{}", settings_.endpoint, repo, commit,
                            encode_url(file.path, false));
  request.offset = offset;
  request.timeout = settings_.download_timeout;
  request.on_body = sink;
  return follow(std::move(request), repo).status;
}

}  // namespace lockstep
