// Pulling when something goes wrong.
#include <sys/resource.h>

#include <csignal>

#include "hub/harness.h"
#include "hub/http.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr std::size_t kSize = 300000;

Json small_repository() {
  return repository({{"config.json", "{}"}, {"model.safetensors", {{"size", kSize}}}});
}

// The hub with one fault at the weights' contents.
Json with_bad_weights(Json fault) {
  fault["match"] = "/cdn/";
  return with_fault(small_repository(), fault);
}

std::string sound_weights() {
  const Hub hub(small_repository());
  return read(pull_from(hub.settings()).path / "model.safetensors");
}

fs::path the_incomplete_file(const Hub& hub) {
  for (const auto& entry : fs::directory_iterator(hub.model() / "blobs"))
    if (entry.path().extension() == ".incomplete") return entry.path();
  return "none";
}

// Expects a pull to end well, with the right weights, in spite of everything.
void expect_success(const Hub& hub) {
  const PulledModel pulled = pull_from(hub.settings());
  EXPECT_TRUE(read(pulled.path / "model.safetensors") == sound_weights());
  EXPECT_EQ(the_incomplete_file(hub), "none");
}

TEST(Fault, ALostConnectionIsTakenUpWhereItBroke) {
  const Hub hub(with_bad_weights({{"drop_after", 100000}, {"times", 2}}));
  expect_success(hub);
  const auto log = hub.log("/cdn/");
  ASSERT_EQ(log.size(), 3u);
  EXPECT_TRUE(log[0]["range"].is_null());
  EXPECT_EQ(log[1]["range"], "bytes=100000-");
  EXPECT_EQ(log[2]["range"], "bytes=200000-");
}

TEST(Fault, LosingTheConnectionAgainAndAgainIsAnError) {
  const Hub hub(with_bad_weights({{"drop_after", 0}, {"times", 100}}));
  const std::string message = error_of([&] { pull_from(hub.settings()); });
  EXPECT_THAT(message, AllOf(HasSubstr("gave up after 4 attempts"), Not(HasSubstr("signature"))));
  EXPECT_EQ(hub.log("/cdn/").size(), 4u);
  EXPECT_FALSE(fs::exists(hub.model() / "refs/main"));
}

TEST(Fault, AnEarlierAttemptIsContinued) {
  const Hub hub(with_bad_weights({{"drop_after", 100000}, {"times", 1}}));
  HubSettings settings = hub.settings();
  settings.retries = 0;
  EXPECT_NE(error_of([&] { pull_from(settings); }), "no error");
  EXPECT_EQ(fs::file_size(the_incomplete_file(hub)), 100000u);
  expect_success(hub);
  EXPECT_EQ(hub.log("/cdn/").back()["range"], "bytes=100000-");
}

// What is in the .incomplete file when the pull starts.
void expect_success_after(const std::string& left_over, const Json& fault = {{"times", 0}}) {
  const Hub hub(with_bad_weights(fault));
  HubSettings settings = hub.settings();
  const PulledModel pulled = pull_from(settings);
  const fs::path blob = fs::canonical(pulled.path / "model.safetensors");
  fs::remove(blob);
  write(blob.string() + ".incomplete", left_over);
  expect_success(hub);
}

TEST(Fault, WhatIsLeftOfAnEarlierAttemptMayBeAnything) {
  const std::string sound = sound_weights();
  expect_success_after("");
  expect_success_after(sound);
  expect_success_after(sound.substr(0, 12345));
  expect_success_after(sound + "more");
  expect_success_after(std::string(12345, 'x'));
  expect_success_after(std::string(kSize, 'x'));
}

TEST(Fault, AServerThatCannotResumeSendsAllOfIt) {
  const Hub hub(with_fault(with_bad_weights({{"drop_after", 100000}}),
                           {{"match", "/cdn/"}, {"ignore_range", true}}));
  expect_success(hub);
  // One that never gets further is given up.
  const Hub hopeless(
      with_bad_weights({{"drop_after", 100000}, {"ignore_range", true}, {"times", 100}}));
  EXPECT_THAT(error_of([&] { pull_from(hopeless.settings()); }), HasSubstr("gave up"));
}

TEST(Fault, Status416StartsAnew) {
  const Hub hub(with_fault(with_bad_weights({{"drop_after", 100000}}),
                           {{"match", "/cdn/"}, {"status", 416}}));
  expect_success(hub);
  EXPECT_TRUE(hub.log("/cdn/").back()["range"].is_null());
}

TEST(Fault, AWrongSumIsAnErrorAndLeavesNothing) {
  const Hub hub(with_bad_weights({{"corrupt", true}}));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }),
              AllOf(HasSubstr("acme/small/model.safetensors: its sha256 is "),
                    HasSubstr("but the hub announced")));
  EXPECT_EQ(fs::file_size(the_incomplete_file(hub)), 0u);
  expect_success(hub);
  // And of a file that git keeps itself.
  const Hub other(with_fault(small_repository(), {{"match", "/config.json"}, {"corrupt", true}}));
  EXPECT_THAT(error_of([&] { pull_from(other.settings()); }),
              HasSubstr("acme/small/config.json: its git's sha1 is "));
}

TEST(Fault, AWrongSizeIsAnError) {
  const Hub shorter(with_bad_weights({{"shorter", 1}}));
  EXPECT_THAT(error_of([&] { pull_from(shorter.settings()); }),
              HasSubstr("299999 bytes arrive, but the hub announced 300000"));
  expect_success(shorter);
  const Hub longer(with_bad_weights({{"longer", 1000}}));
  EXPECT_THAT(error_of([&] { pull_from(longer.settings()); }),
              HasSubstr("more bytes arrive than the 300000"));
  const Hub packed(with_bad_weights({{"encoding", "gzip"}}));
  EXPECT_THAT(error_of([&] { pull_from(packed.settings()); }), HasSubstr("encoding \"gzip\""));
}

TEST(Fault, PrivateRepositoriesNeedAToken) {
  Json specification = small_repository();
  specification["repos"]["acme/small"]["private"] = true;
  specification["token"] = "hf_right";
  const Hub hub(specification);
  HubSettings settings = hub.settings();
  EXPECT_THAT(error_of([&] { pull_from(settings); }),
              AllOf(HasSubstr("acme/small: not found on " + hub.url() + ", or private"),
                    HasSubstr("set HF_TOKEN")));
  settings.token = "hf_wrong";
  settings.token_source = "HF_TOKEN";
  EXPECT_THAT(
      error_of([&] { pull_from(settings); }),
      AllOf(HasSubstr("the token from HF_TOKEN does not open it"), Not(HasSubstr("hf_wrong"))));
  settings.token = "hf_right";
  pull_from(settings);
}

TEST(Fault, GatedRepositoriesSayWhereToAccept) {
  Json specification = small_repository();
  specification["repos"]["acme/small"]["gated"] = true;
  const Hub hub(specification);
  EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }),
              HasSubstr("accept its licence at " + hub.url() + "/acme/small, then set HF_TOKEN"));
  const Hub denied(with_fault(
      small_repository(),
      {{"match", "/resolve/"},
       {"status", 403},
       {"headers", {{"X-Error-Code", "GatedRepo"}, {"X-Error-Message", "Ask the authors"}}}}));
  EXPECT_THAT(error_of([&] { pull_from(denied.settings()); }), HasSubstr("Ask the authors"));
  const Hub forbidden(with_fault(small_repository(), {{"match", "/api/"}, {"status", 403}}));
  EXPECT_THAT(error_of([&] { pull_from(forbidden.settings()); }), HasSubstr("access is denied"));
}

TEST(Fault, WhatIsNotThereIsNamed) {
  const Hub hub(with_fault(small_repository(), {{"match", "/resolve/.*/config.json"},
                                                {"status", 404},
                                                {"headers", {{"X-Error-Code", "EntryNotFound"}}}}));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings(), "acme/other"); }),
              HasSubstr("acme/other: not found on"));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings(), "acme/small@v9"); }),
              HasSubstr("acme/small: there is no such revision (\"Invalid rev id: v9\")"));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }), HasSubstr("config.json is not there"));
}

TEST(Fault, ABusyServerIsAskedAgain) {
  const Hub hub(with_fault(
      with_fault(with_bad_weights({{"status", 503}, {"times", 2}}),
                 {{"match", "/revision/"}, {"status", 429}, {"headers", {{"Retry-After", "1"}}}}),
      {{"match", "/resolve/.*config"}, {"status", 500}}));
  expect_success(hub);
  EXPECT_EQ(hub.log("/revision/").size(), 2u);
}

TEST(Fault, ABusyServerIsNotWaitedForWithoutEnd) {
  const Json wait = {{"Retry-After", "100000"}};
  const Hub hub(with_fault(small_repository(),
                           {{"match", "/revision/"}, {"status", 429}, {"headers", wait}}));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }),
              AllOf(HasSubstr("status 429 (too many requests)"), HasSubstr("wait 100000 s")));
  const Hub down(with_fault(small_repository(), {{"match", "/"}, {"status", 502}, {"times", 100}}));
  EXPECT_THAT(error_of([&] { pull_from(down.settings()); }), HasSubstr("gave up after 4 attempts"));
}

TEST(Fault, TheTokenStaysWithTheHub) {
  Json specification = small_repository();
  specification["token"] = "hf_right";
  const Hub hub(specification);
  HubSettings settings = hub.settings();
  settings.token = "hf_right";
  pull_from(settings);
  ASSERT_FALSE(hub.log("/cdn/").empty());
  for (const Json& entry : hub.log("")) {
    const bool home = entry["host"] == "127.0.0.1";
    EXPECT_EQ(home, entry["authorization"] == "Bearer hf_right") << entry;
    EXPECT_EQ(home, !entry["path"].get<std::string>().starts_with("/cdn/")) << entry;
  }
}

TEST(Fault, TheTokenIsNotSentInClearToAnotherMachine) {
  Json specification = small_repository();
  specification["token"] = "hf_right";
  specification["repos"]["acme/small"]["private"] = true;
  const Hub hub(specification);
  HubSettings settings = hub.settings();
  settings.token = "hf_right";
  // Reaches the same server, but does not look like loopback.
  settings.endpoint.replace(settings.endpoint.find("127.0.0.1"), 9, "0.0.0.0");
  EXPECT_THAT(error_of([&] { pull_from(settings); }), HasSubstr("was not sent"));
  for (const Json& entry : hub.log("")) EXPECT_TRUE(entry["authorization"].is_null());
}

TEST(Fault, RedirectsAreFollowedButNotAnywhere) {
  Json specification = small_repository();
  specification["repos"]["acme/new"] = specification["repos"]["acme/small"];
  specification["token"] = "hf_right";
  const Hub hub(with_fault(specification, {{"match", "acme/small/revision/"},
                                           {"redirect", "/api/models/acme/new/revision/main"}}));
  HubSettings settings = hub.settings();
  settings.token = "hf_right";
  pull_from(settings);
  EXPECT_EQ(hub.log("acme/new/revision").at(0)["authorization"], "Bearer hf_right");

  const auto error_with_redirect = [](const std::string& target, int times) {
    const Hub bad(with_fault(small_repository(),
                             {{"match", "/loop|/cdn/"}, {"redirect", target}, {"times", times}}));
    return error_of([&] { pull_from(bad.settings()); });
  };
  EXPECT_THAT(error_with_redirect("/loop", 100), HasSubstr("more than 10 redirects"));
  EXPECT_THAT(error_with_redirect("file:///etc/passwd", 1), HasSubstr("http://"));
  EXPECT_THAT(error_with_redirect("http://user:secret@127.0.0.1/", 1), HasSubstr("password"));
  EXPECT_THAT(error_with_redirect("http://[", 1), HasSubstr("no URL"));
}

TEST(Fault, AServerThatSaysNothingIsGivenUp) {
  const Hub silent(with_fault(small_repository(),
                              {{"match", "/resolve/.*config"}, {"hang_after", 1}, {"times", 9}}));
  HubSettings settings = silent.settings();
  settings.retries = 0;
  settings.download_timeout = std::chrono::seconds(1);
  EXPECT_THAT(error_of([&] { pull_from(settings); }), HasSubstr("gave up after 1 attempts"));
  settings.endpoint = "http://127.0.0.1:1";
  EXPECT_THAT(error_of([&] { pull_from(settings); }),
              AllOf(HasSubstr("127.0.0.1 port 1"), HasSubstr("the hub cannot be reached")));
}

TEST(Fault, AStopKeepsWhatHasArrived) {
  const Hub hub(with_bad_weights({{"hang_after", 100000}}));
  std::stop_source stop;
  PullOptions options;
  options.stop = stop.get_token();
  options.progress = [&](const PullProgress& progress) {
    if (progress.file == "model.safetensors" && progress.file_done == 100000) stop.request_stop();
  };
  EXPECT_THROW(pull_from(hub.settings(), "acme/small", options), PullCancelled);
  EXPECT_EQ(fs::file_size(the_incomplete_file(hub)), 100000u);
  expect_success(hub);
  EXPECT_EQ(hub.log("/cdn/").back()["range"], "bytes=100000-");
}

TEST(Fault, AFullDiskIsNamedAndCanBeTakenUp) {
  const Hub hub(small_repository());
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{100000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  const std::string message = error_of([&] { pull_from(hub.settings()); });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_THAT(message, AllOf(HasSubstr(".incomplete: cannot write "),
                             HasSubstr("bytes at offset 100000: File too large")));
  EXPECT_EQ(fs::file_size(the_incomplete_file(hub)), 100000u);
  expect_success(hub);
}

Json listing_of(const Json& entry) {
  Json list = {{{"type", "file"},
                {"path", "config.json"},
                {"size", 2},
                {"oid", "9e26dfeeb6e641a33dae4961196235bdb965b21b"}}};
  list.push_back(entry);
  return list;
}

std::string error_with_listing(const std::string& body) {
  const Hub hub(with_fault(small_repository(), {{"match", "/tree/"}, {"body", body}}));
  const std::string message = error_of([&] { pull_from(hub.settings()); });
  EXPECT_FALSE(fs::exists(hub.model() / "snapshots"));
  return message;
}

TEST(Fault, TooLittleSpaceIsFoundBeforeAnythingIsFetched) {
  const Json entry = {{"type", "file"},
                      {"path", "model.safetensors"},
                      {"size", std::uint64_t{1} << 50},
                      {"oid", std::string(40, 'a')}};
  const Hub hub(
      with_fault(small_repository(), {{"match", "/tree/"}, {"body", listing_of(entry).dump()}}));
  EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }),
              HasSubstr("acme/small: 1125.90 TB are to be fetched, but "));
}

TEST(Fault, NamesThatCouldLeaveTheCacheAreRefused) {
  for (const std::string name :
       {"../config.json", "a/../../b", "/etc/passwd", "a//b", "a/./b", "..", "a\\..\\b", "a\nb",
        "a\x1b[31m", "", "a/", "C:\\x", "\xc2\x9b"}) {
    const Json entry = {
        {"type", "file"}, {"path", name}, {"size", 2}, {"oid", std::string(40, 'a')}};
    EXPECT_THAT(error_with_listing(listing_of(entry).dump()), HasSubstr("could leave the cache"))
        << name;
  }
}

TEST(Fault, AnswersThatMakeNoSenseAreRefused) {
  const auto entry = [](Json changes) {
    Json sound = {{"type", "file"}, {"path", "a"}, {"size", 2}, {"oid", std::string(40, 'a')}};
    sound.update(changes);
    return listing_of(sound).dump();
  };
  EXPECT_THAT(error_with_listing("<html>"), HasSubstr("not valid JSON"));
  EXPECT_THAT(error_with_listing("{}"), HasSubstr("a list of files is expected"));
  EXPECT_THAT(error_with_listing("[1]"), HasSubstr("\"type\" is missing"));
  EXPECT_THAT(error_with_listing(std::string(100000, '[')), HasSubstr("nested deeper"));
  EXPECT_THAT(error_with_listing(entry({{"oid", "../../x"}})), HasSubstr("which is none"));
  EXPECT_THAT(error_with_listing(entry({{"oid", 7}})), HasSubstr("\"oid\""));
  EXPECT_THAT(error_with_listing(entry({{"size", -1}})), HasSubstr("no size"));
  EXPECT_THAT(error_with_listing(entry({{"size", 1e300}})), HasSubstr("no size"));
  EXPECT_THAT(error_with_listing(entry({{"lfs", {{"oid", "00"}, {"size", 1}}}})),
              HasSubstr("which is none"));
  EXPECT_THAT(error_with_listing("[]"), HasSubstr("neither config.json"));
  for (const char* commit : {"main", "../../..", "", "ABCDEF"}) {
    const std::string body = Json{{"sha", commit}}.dump();
    const Hub hub(with_fault(small_repository(), {{"match", "/revision/"}, {"body", body}}));
    EXPECT_THAT(error_of([&] { pull_from(hub.settings()); }), HasSubstr("is no commit"));
  }
}

}  // namespace
}  // namespace lockstep
