#include "hub/harness.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "hub/http.h"

namespace lockstep {

namespace fs = std::filesystem;

TemporaryFolder::TemporaryFolder() {
  std::string name = fs::temp_directory_path() / "lockstep_hub.XXXXXX";
  path_ = ::mkdtemp(name.data());
}

TemporaryFolder::~TemporaryFolder() { fs::remove_all(path_); }

Hub::Hub(const Json& specification) {
  ::setenv("no_proxy", "*", 1);
  const std::string file = folder_.path() / "specification.json";
  write(file, specification.dump());
  int input[2], output[2];
  if (::pipe2(input, O_CLOEXEC) != 0 || ::pipe2(output, O_CLOEXEC) != 0)
    throw std::runtime_error("no pipes");
  process_ = ::fork();
  if (process_ == 0) {
    ::dup2(input[0], STDIN_FILENO);
    ::dup2(output[1], STDOUT_FILENO);
    ::execl(LOCKSTEP_PYTHON, LOCKSTEP_PYTHON, "-ES", LOCKSTEP_SOURCE_DIR "/tests/hub/hub_server.py",
            file.c_str(), nullptr);
    ::_exit(127);
  }
  ::close(input[0]);
  ::close(output[1]);
  input_ = input[1];
  for (char c = 0; ::read(output[0], &c, 1) == 1 && c != '\n';) url_ += c;
  ::close(output[0]);
  if (url_.empty()) throw std::runtime_error("hub_server.py does not start");
}

Hub::~Hub() {
  ::close(input_);
  ::kill(process_, SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

std::vector<Json> Hub::log(const std::string& part) const {
  HttpClient client("", {});
  std::string text;
  HttpRequest request;
  request.url = url_ + "/_log";
  request.on_body = [&](const HttpResponse&, std::string_view bytes) { text += bytes; };
  client.get(request);
  std::vector<Json> entries;
  for (const Json& entry : Json::parse(text))
    if (entry["path"].get<std::string>().find(part) != std::string::npos) entries.push_back(entry);
  return entries;
}

HubSettings Hub::settings() const {
  HubSettings settings;
  settings.endpoint = url_;
  settings.cache = folder_.path() / "hub";
  settings.metadata_timeout = settings.download_timeout = std::chrono::seconds(20);
  settings.retries = 3;
  settings.retry_delay = std::chrono::milliseconds(1);
  return settings;
}

fs::path Hub::model(const std::string& repo) const { return folder_.path() / "hub" / repo; }

Json repository(const Json& files) { return {{"repos", {{"acme/small", {{"files", files}}}}}}; }

Json with_fault(Json specification, const Json& fault) {
  specification["faults"].push_back(fault);
  return specification;
}

PulledModel pull_from(const HubSettings& settings, const std::string& model,
                      const PullOptions& options) {
  return pull_model(settings, parse_pull_name(model, ""), options);
}

std::string read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void write(const fs::path& path, const std::string& content) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << content;
}

std::string error_of(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace lockstep
