// Names of models, what the environment says, and which files are taken: without a network.
#include <cstdlib>
#include <string>

#include "hub/harness.h"
#include "hub/http.h"
#include "hub/select.h"
#include "lockstep/hub.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string parsed(const std::string& text) {
  const auto name = parse_model_name(text);
  if (!name) return "no name";
  return name->repo + "|" + name->revision + "|" + name->quantization + "|" + name->file;
}

TEST(ModelName, IsRepositoryRevisionAndGgufFile) {
  EXPECT_EQ(parsed("org/name"), "org/name|||");
  EXPECT_EQ(parsed("org/name-1.5_b@v1"), "org/name-1.5_b|v1||");
  EXPECT_EQ(parsed("org/name@refs/pr/1"), "org/name|refs/pr/1||");
  EXPECT_EQ(parsed("org/name:Q4_K_M"), "org/name||Q4_K_M|");
  EXPECT_EQ(parsed("org/name:Q4_K_M@main"), "org/name|main|Q4_K_M|");
  EXPECT_EQ(parsed("org/name/file-Q8_0.gguf"), "org/name|||file-Q8_0.gguf");
  EXPECT_EQ(parsed("org/name/a/b.gguf@v1"), "org/name|v1||a/b.gguf");
}

TEST(ModelName, IsNothingElse) {
  for (const char* text : {"",
                           "name",
                           "/org/name",
                           "./org",
                           "../x",
                           "org/",
                           "/",
                           "org/name/",
                           "org/name/model.bin",
                           "org/name/../x.gguf",
                           "org//x.gguf",
                           "org/name@",
                           "org/name@../x",
                           "org/name@/x",
                           "org/name@a\\b",
                           "org/name:",
                           "org/name:a/b",
                           "-org/name",
                           "org/name.",
                           "org/na--me",
                           "org/na..me",
                           "org/na me",
                           "org/name.git",
                           "models/llama.gguf",
                           "org/n\n",
                           "org/config.json",
                           "a/b/c",
                           "https://huggingface.co/org/name"})
    EXPECT_EQ(parsed(text), "no name") << text;
  EXPECT_EQ(parsed("org/" + std::string(100, 'n')), "no name");
}

TEST(ModelName, TakesItsRevisionFromOnePlace) {
  EXPECT_EQ(parse_pull_name("org/name", "").revision, "main");
  EXPECT_EQ(parse_pull_name("org/name", "v1").revision, "v1");
  EXPECT_EQ(parse_pull_name("org/name@v1", "").revision, "v1");
  EXPECT_THAT(error_of([] { parse_pull_name("org/name@v1", "v2"); }), HasSubstr("given as well"));
  EXPECT_THAT(error_of([] { parse_pull_name("org/name", "../v2"); }), HasSubstr("no revision"));
  EXPECT_THAT(error_of([] { parse_pull_name("name", ""); }), HasSubstr("expected is org/name"));
}

// Sets what Settings tests need, and nothing else that the hub's settings depend on.
class Settings : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name :
         {"HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_HUB_OFFLINE",
          "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
          "HF_HUB_DISABLE_IMPLICIT_TOKEN", "HF_ENDPOINT", "HF_HUB_ETAG_TIMEOUT",
          "HF_HUB_DOWNLOAD_TIMEOUT"})
      ::unsetenv(name);
    set("HOME", folder_.path().string());
  }
  static void set(const char* name, const std::string& value) { ::setenv(name, value.c_str(), 1); }
  TemporaryFolder folder_;
};

TEST_F(Settings, FindTheCacheAsPythonDoes) {
  const std::string home = folder_.path();
  EXPECT_EQ(hub_settings().cache, home + "/.cache/huggingface/hub");
  set("XDG_CACHE_HOME", "/xdg");
  EXPECT_EQ(hub_settings().cache, "/xdg/huggingface/hub");
  set("HF_HOME", "~/hf");
  EXPECT_EQ(hub_settings().cache, home + "/hf/hub");
  set("PLACE", "big");
  set("HF_HOME", "/$PLACE/${PLACE}x/$NONE/$");
  EXPECT_EQ(hub_settings().cache, "/big/bigx/$NONE/$/hub");
  set("HUGGINGFACE_HUB_CACHE", "/old");
  EXPECT_EQ(hub_settings().cache, "/old");
  set("HF_HUB_CACHE", "/new");
  EXPECT_EQ(hub_settings().cache, "/new");
  set("HF_HUB_CACHE", "relative");
  EXPECT_EQ(hub_settings().cache, fs::current_path() / "relative");
}

TEST_F(Settings, FindTheToken) {
  EXPECT_FALSE(hub_settings().token.has_value());
  write(folder_.path() / ".cache/huggingface/token", " hf_file\n");
  EXPECT_EQ(hub_settings().token, "hf_file");
  EXPECT_EQ(hub_settings().token_source, folder_.path() / ".cache/huggingface/token");
  write(folder_.path() / "other", "hf_other");
  set("HF_TOKEN_PATH", (folder_.path() / "other").string());
  EXPECT_EQ(hub_settings().token, "hf_other");
  set("HF_TOKEN", "hf_variable\n");
  EXPECT_EQ(hub_settings().token, "hf_variable");
  set("HF_TOKEN", "hf_a\nHost: elsewhere");
  EXPECT_THAT(error_of([] { hub_settings(); }),
              AllOf(HasSubstr("HF_TOKEN"), Not(HasSubstr("hf_a"))));
  set("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
  EXPECT_FALSE(hub_settings().token.has_value());
}

TEST_F(Settings, ReadTheRest) {
  EXPECT_EQ(hub_settings().endpoint, "https://huggingface.co");
  EXPECT_EQ(hub_settings().download_timeout, std::chrono::seconds(10));
  EXPECT_FALSE(hub_settings().offline);
  set("HF_ENDPOINT", "http://mirror:8080/hf/");
  EXPECT_EQ(hub_settings().endpoint, "http://mirror:8080/hf");
  set("HF_HUB_DOWNLOAD_TIMEOUT", "30");
  EXPECT_EQ(hub_settings().download_timeout, std::chrono::seconds(30));
  set("TRANSFORMERS_OFFLINE", "yes");
  EXPECT_TRUE(hub_settings().offline);
  set("HF_HUB_OFFLINE", "0");
  EXPECT_FALSE(hub_settings().offline);
  set("HF_HUB_ETAG_TIMEOUT", "soon");
  EXPECT_THAT(error_of([] { hub_settings(); }), HasSubstr("HF_HUB_ETAG_TIMEOUT is \"soon\""));
  set("HF_HUB_ETAG_TIMEOUT", "");
  for (const char* endpoint : {"huggingface.co", "file:///x", "https://a b", "https://u:p@host"}) {
    set("HF_ENDPOINT", endpoint);
    EXPECT_THAT(error_of([] { hub_settings(); }), HasSubstr("HF_ENDPOINT is ")) << endpoint;
  }
}

TEST_F(Settings, AModelIsAPathFirst) {
  set("HF_HUB_OFFLINE", "1");
  EXPECT_EQ(locate_model(folder_.path().string()), folder_.path());
  for (const char* name : {"./nothing", "nothing", "models/llama.gguf", "/a/b/c"})
    EXPECT_THAT(error_of([&] { locate_model(name); }),
                AllOf(HasSubstr(std::string(name) + ": there is no such file or directory"),
                      HasSubstr("a model on the hub is named org/name")));
  const std::string both = error_of([] { locate_model("acme/small"); });
  EXPECT_THAT(both, AllOf(HasSubstr("acme/small@main: not in the cache"),
                          HasSubstr("nor is there a file or directory acme/small")));
}

std::string gguf(const Names& names, const std::string& model) {
  return select_files(names, *parse_model_name(model), true).weights.at(0);
}

TEST(Select, TakesTheGgufFileThatIsMeant) {
  const Names names = {
      "UD/m-UD-Q4_K_M.gguf", "m-Q4_K_M.gguf",      "m-Q4_K_S.gguf", "m-Q6_K-00001-of-00002.gguf",
      "m-bf16.gguf",         "mmproj-m-Q5_0.gguf", "q5_0.gguf"};
  EXPECT_EQ(gguf(names, "a/b"), "m-Q4_K_M.gguf");
  EXPECT_EQ(gguf(names, "a/b:q4_k_m"), "m-Q4_K_M.gguf");
  EXPECT_EQ(gguf(names, "a/b:UD-Q4_K_M"), "UD/m-UD-Q4_K_M.gguf");
  EXPECT_EQ(gguf(names, "a/b:BF16"), "m-bf16.gguf");
  EXPECT_EQ(gguf(names, "a/b:Q5_0"), "q5_0.gguf");
  EXPECT_EQ(gguf({"x.gguf"}, "a/b"), "x.gguf");
  EXPECT_THAT(error_of([&] { gguf(names, "a/b:Q4_K"); }),
              AllOf(HasSubstr("no .gguf file is Q4_K"), HasSubstr("\"m-Q4_K_S.gguf\"")));
  EXPECT_THAT(error_of([&] { gguf(names, "a/b:Q6_K"); }), HasSubstr("split into several files"));
  EXPECT_THAT(error_of([&] { gguf({"a-Q2_K.gguf", "b.gguf"}, "a/b"); }), HasSubstr("is Q4_K_M"));
  EXPECT_THAT(error_of([&] { gguf(names, "a/b/none.gguf"); }), HasSubstr("no file none.gguf"));
}

TEST(Select, TakesSafetensorsAsTheyAreLoaded) {
  const auto selected = [](const Names& names) {
    const Selection selection = select_files(names, *parse_model_name("a/b"), true);
    return selection.index.empty() ? selection.weights : Names{selection.index};
  };
  const std::string index = "model.safetensors.index.json";
  EXPECT_THAT(selected({"config.json", "model.safetensors", index}),
              ElementsAre("model.safetensors"));
  EXPECT_THAT(selected({"config.json", index, "x.safetensors"}), ElementsAre(index));
  EXPECT_THAT(selected({"config.json", "consolidated.safetensors", "x.safetensors"}),
              ElementsAre("x.safetensors"));
  EXPECT_THAT(error_of([&] {
                selected({"config.json", "x.safetensors", "y.safetensors"});
              }),
              HasSubstr("2 *.safetensors files"));
  // Half of a model in the cache.
  EXPECT_NE(error_of([&] {
              selected({"config.json", "model-00001-of-00002.safetensors"});
            }),
            "no error");
  EXPECT_THAT(error_of([&] {
                selected({"config.json", "pytorch_model.bin"});
              }),
              HasSubstr("PyTorch checkpoints alone"));
  EXPECT_THAT(error_of([&] { selected({"README.md"}); }), HasSubstr("neither config.json"));
}

TEST(Select, ReadsTheIndex) {
  const Names names = {"a.safetensors", "b.safetensors"};
  EXPECT_THAT(
      read_weight_index(
          R"({"weight_map": {"x": "b.safetensors", "y": "a.safetensors", "z": "b.safetensors"}})",
          "index", names),
      ElementsAre("a.safetensors", "b.safetensors"));
  for (const char* text : {"{}", "[]", R"({"weight_map": 1})", R"({"weight_map": {"x": 1}})"})
    EXPECT_THAT(error_of([&] { read_weight_index(text, "index", names); }),
                HasSubstr("index: weight_map"));
  EXPECT_THAT(
      error_of([&] { read_weight_index(R"({"weight_map": {"x": "../c"}})", "index", names); }),
      HasSubstr("\"../c\", which is not there"));
}

TEST(Http, TellsHostsApart) {
  EXPECT_EQ(origin_of("https://Hub.example/a"), origin_of("https://hub.example:443/b"));
  EXPECT_NE(origin_of("https://hub.example"), origin_of("http://hub.example"));
  EXPECT_NE(origin_of("https://hub.example"), origin_of("https://hub.example:444"));
  EXPECT_NE(origin_of("https://hub.example"), origin_of("https://hub.example.org"));
  EXPECT_NE(origin_of("https://hub.example"), origin_of("https://hub.example@evil.example"));
  for (const char* host : {"localhost", "127.0.0.1", "127.9.9.9", "[::1]"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"127.evil.example", "hub.example", "128.0.0.1", "127-0-0-1", "[::2]"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Http, ReadsAddressesAndDates) {
  EXPECT_EQ(resolve_url("https://a/b/c?d", "/e?f"), "https://a/e?f");
  EXPECT_EQ(resolve_url("https://a/b/c", "http://x/y z"), "http://x/y%20z");
  EXPECT_EQ(without_query("https://a/b?signature#x"), "https://a/b");
  EXPECT_EQ(encode_url("a b/ü#?%.gguf", false), "a%20b/%C3%BC%23%3F%25.gguf");
  EXPECT_EQ(encode_url("refs/pr/1", true), "refs%2Fpr%2F1");
  EXPECT_EQ(parse_retry_after("17"), std::chrono::seconds(17));
  EXPECT_EQ(parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), std::chrono::seconds(0));
  EXPECT_GT(parse_retry_after("Wed, 21 Oct 2065 07:28:00 GMT"), std::chrono::hours(24));
  EXPECT_EQ(parse_retry_after("soon"), std::nullopt);
  EXPECT_EQ(parse_retry_after(""), std::nullopt);
  EXPECT_EQ(parse_retry_after("-1"), std::nullopt);
}

}  // namespace
}  // namespace lockstep
