#include "hub/settings.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>
#include <string_view>

#include "checkpoint/file.h"
#include "core/check.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// The value of the first of these variables that is set and not empty.
std::optional<std::string> variable(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (const char* value = std::getenv(name); value && *value) return value;
  return std::nullopt;
}

bool is_true(const std::optional<std::string>& value) {
  if (!value) return false;
  std::string upper = *value;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return upper == "1" || upper == "ON" || upper == "YES" || upper == "TRUE";
}

fs::path home() {
  const auto value = variable({"HOME"});
  check(value.has_value(),
        "HOME is not set: say with HF_HOME or HF_HUB_CACHE where the cache of models is");
  return *value;
}

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// $NAME and ${NAME}, as Python's os.path.expandvars: what is not set stays as it is.
std::string expand_variables(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t dollar = std::min(text.find('$'), text.size());
    result += text.substr(0, dollar);
    text.remove_prefix(dollar);
    if (text.empty()) break;
    const bool braces = text.size() > 1 && text[1] == '{';
    const std::size_t begin = braces ? 2 : 1;
    std::size_t end = begin;
    while (end < text.size() && is_name(text[end])) ++end;
    const std::string name(text.substr(begin, end - begin));
    const bool whole = !name.empty() && (!braces || (end < text.size() && text[end] == '}'));
    const std::size_t length = whole ? end + (braces ? 1 : 0) : 1;
    const char* value = whole ? std::getenv(name.c_str()) : nullptr;
    result += value ? value : text.substr(0, length);
    text.remove_prefix(length);
  }
  return result;
}

fs::path expand(const std::string& path) {
  const bool from_home = path == "~" || path.starts_with("~/");
  return expand_variables(from_home ? home().string() + path.substr(1) : path);
}

fs::path hub_home() {
  if (const auto value = variable({"HF_HOME"})) return expand(*value);
  if (const auto value = variable({"XDG_CACHE_HOME"})) return expand(*value + "/huggingface");
  return home() / ".cache/huggingface";
}

std::string endpoint() {
  std::string url = variable({"HF_ENDPOINT"}).value_or("https://huggingface.co");
  while (url.ends_with('/')) url.pop_back();
  const bool web = url.starts_with("http://") || url.starts_with("https://");
  const bool plain = std::all_of(url.begin(), url.end(), [](char c) {
    return c > ' ' && c < 0x7f && c != '?' && c != '#' && c != '@' && c != '\\';
  });
  check(web && plain, "HF_ENDPOINT is {}: an address such as https://huggingface.co is expected",
        quote_name(url));
  return url;
}

std::chrono::seconds timeout(const char* name) {
  constexpr std::chrono::seconds kDefault{10};
  const auto value = variable({name});
  if (!value) return kDefault;
  int seconds = 0;
  const char* end = value->data() + value->size();
  const auto result = std::from_chars(value->data(), end, seconds);
  check(result.ec == std::errc() && result.ptr == end && seconds >= 0 && seconds <= 86400,
        "{} is {}: a whole number of seconds, at most 86400, is expected", name,
        quote_name(*value));
  return seconds == 0 ? kDefault : std::chrono::seconds(seconds);
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const std::size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

// Sets token and token_source, from the environment or from the file that `hf auth login` writes.
void read_token(HubSettings& settings) {
  if (is_true(variable({"HF_HUB_DISABLE_IMPLICIT_TOKEN"}))) return;
  constexpr std::uint64_t kMostBytes = 64 << 10;
  std::string token;
  if (const auto value = variable({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"})) {
    token = trimmed(*value);
    settings.token_source = "HF_TOKEN";
  } else {
    const auto named = variable({"HF_TOKEN_PATH"});
    const fs::path file = named ? expand(*named) : hub_home() / "token";
    std::error_code error;
    if (!fs::is_regular_file(file, error)) return;
    const File stored(file);
    check(stored.size() <= kMostBytes, "{}: {} bytes are no access token", stored.name(),
          stored.size());
    token.resize(stored.size());
    stored.read(0, token.size(), token.data());
    token = trimmed(token);
    settings.token_source = stored.name();
  }
  // A header of its own could be smuggled in otherwise.
  check(std::all_of(token.begin(), token.end(), [](char c) { return c > ' ' && c < 0x7f; }),
        "{} holds something else than an access token: it has spaces or control characters",
        settings.token_source);
  if (!token.empty()) settings.token = token;
}

}  // namespace

HubSettings hub_settings() {
  HubSettings settings;
  settings.endpoint = endpoint();
  const auto cache = variable({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = fs::absolute(cache ? expand(*cache) : hub_home() / "hub");
  settings.offline = is_true(variable({"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  settings.ca_bundle =
      variable({"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"}).value_or("");
  settings.metadata_timeout = timeout("HF_HUB_ETAG_TIMEOUT");
  settings.download_timeout = timeout("HF_HUB_DOWNLOAD_TIMEOUT");
  read_token(settings);
  return settings;
}

}  // namespace lockstep
