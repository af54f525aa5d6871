// Pulling from a hub that works.
#include <algorithm>
#include <thread>

#include "hub/cache.h"
#include "hub/harness.h"
#include "hub/http.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::size_t kSize = 300000;
const Json kWeights = {{"size", kSize}};

std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (!entry.is_directory()) names.push_back(entry.path().lexically_relative(folder).string());
  std::sort(names.begin(), names.end());
  return names;
}

TEST(Pull, FetchesWhatIsNeededAndLaysItOutAsPythonDoes) {
  const Hub hub(repository({{"config.json", "{}"},
                            {"README.md", "read me"},
                            {"chat_template.jinja", "{{ a }}"},
                            {"additional_chat_templates/tool.jinja", "{{ b }}"},
                            {"generation_config.json", "{\"a\": 1}"},
                            {"tokenizer.json", {{"size", 1000}}},
                            {"model.safetensors", kWeights},
                            {"pytorch_model.bin", {{"size", 200}}},
                            {"consolidated.safetensors", {{"size", 201}}},
                            {"original/consolidated.00.pth", {{"size", 202}}},
                            {"onnx/model.onnx", {{"size", 203}}},
                            {"model-Q8_0.gguf", {{"size", 204}}}}));
  const PulledModel pulled = pull_from(hub.settings());
  EXPECT_EQ(pulled.path, hub.model() / "snapshots" / pulled.commit);
  EXPECT_THAT(
      files_below(pulled.path),
      ElementsAre("additional_chat_templates/tool.jinja", "chat_template.jinja", "config.json",
                  "generation_config.json", "model.safetensors", "tokenizer.json"));
  EXPECT_EQ(read(hub.model() / "refs/main"), pulled.commit);
  EXPECT_EQ(read(pulled.path / "config.json"), "{}");
  // git hash-object of "{}".
  const std::string hash = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
  EXPECT_EQ(fs::read_symlink(pulled.path / "config.json"), "../../blobs/" + hash);
  EXPECT_EQ(fs::read_symlink(pulled.path / "additional_chat_templates/tool.jinja").parent_path(),
            "../../../blobs");
  EXPECT_EQ(fs::file_size(pulled.path / "model.safetensors"), kSize);
  EXPECT_EQ(fs::read_symlink(pulled.path / "model.safetensors").filename().string().size(), 64u);
  // Nothing else is left behind.
  EXPECT_EQ(files_below(hub.model() / "blobs").size(), 6u);
  EXPECT_EQ(files_below(hub.model() / "refs").size(), 1u);
  EXPECT_EQ(files_below(hub.settings().cache / ".locks").size(), 6u);
}

TEST(Pull, FetchesNothingTwice) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  const PulledModel first = pull_from(hub.settings());
  const std::size_t asked = hub.log("/resolve/").size();
  const PulledModel second = pull_from(hub.settings());
  EXPECT_EQ(hub.log("/resolve/").size(), asked);
  EXPECT_EQ(second.path, first.path);
  for (const PulledFile& file : first.files) EXPECT_TRUE(file.fetched);
  for (const PulledFile& file : second.files) EXPECT_FALSE(file.fetched);
}

TEST(Pull, ReadsTheIndexOfSeveralWeightFilesAndAllPagesOfTheListing) {
  Json specification = repository(
      {{"config.json", "{}"},
       {"model-00001-of-00002.safetensors", {{"size", 1000}, {"seed", 1}}},
       {"model-00002-of-00002.safetensors", {{"size", 1000}, {"seed", 2}}},
       {"other.safetensors", {{"size", 1000}, {"seed", 3}}},
       {"model.safetensors.index.json",
        R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})"}});
  specification["page"] = 2;
  const Hub hub(specification);
  EXPECT_THAT(files_below(pull_from(hub.settings()).path),
              ElementsAre("config.json", "model-00001-of-00002.safetensors",
                          "model-00002-of-00002.safetensors", "model.safetensors.index.json"));
  EXPECT_EQ(hub.log("/tree/").size(), 3u);
}

TEST(Pull, TakesAGgufFileByQuantizationOrName) {
  const Hub hub(repository({{"config.json", "{}"},
                            {"small-Q4_K_M.gguf", {{"size", 300}}},
                            {"small-Q8_0.gguf", {{"size", 301}}},
                            {"more/odd.gguf", {{"size", 302}}}}));
  const HubSettings settings = hub.settings();
  EXPECT_EQ(pull_from(settings, "acme/small:q8_0").path.filename(), "small-Q8_0.gguf");
  EXPECT_EQ(pull_from(settings, "acme/small/more/odd.gguf").path.filename(), "odd.gguf");
  EXPECT_EQ(fs::file_size(pull_from(settings, "acme/small").path), 300u);
  EXPECT_EQ(hub.log("config.json").size(), 0u);
  EXPECT_THAT(error_of([&] { pull_from(settings, "acme/small:Q2_K"); }),
              HasSubstr("acme/small: no .gguf file is Q2_K"));
  EXPECT_TRUE(find_cached(settings, parse_pull_name("acme/small:Q8_0", ""), true).complete);
  EXPECT_FALSE(find_cached(settings, parse_pull_name("acme/small:Q5_0", ""), true).complete);
}

TEST(Pull, KnowsRevisions) {
  Json specification = repository({{"config.json", "{}"}, {"model.safetensors", kWeights}});
  specification["repos"]["acme/small"]["tags"] = {"refs/pr/1"};
  const Hub hub(specification);
  const PulledModel pulled = pull_from(hub.settings(), "acme/small@refs/pr/1");
  EXPECT_EQ(read(hub.model() / "refs/refs/pr/1"), pulled.commit);
  EXPECT_FALSE(fs::exists(hub.model() / "refs/main"));
  EXPECT_EQ(pull_from(hub.settings(), "acme/small@" + pulled.commit).path, pulled.path);
  EXPECT_EQ(files_below(hub.model() / "refs").size(), 1u);
}

TEST(Pull, LeavesTheWeightsOutWhenTheyAreNotWanted) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  PullOptions options;
  options.weights = false;
  const PulledModel pulled = pull_from(hub.settings(), "acme/small", options);
  EXPECT_THAT(files_below(pulled.path), ElementsAre("config.json"));
  const ModelName name = parse_pull_name("acme/small", "");
  EXPECT_FALSE(find_cached(hub.settings(), name, false).path.empty());
  EXPECT_TRUE(find_cached(hub.settings(), name, true).path.empty());
}

TEST(Pull, ReportsProgressUpToAllBytes) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  PullOptions options;
  PullProgress last;
  std::uint64_t before = 0;
  options.progress = [&](const PullProgress& progress) {
    EXPECT_GE(progress.done, before);
    EXPECT_LE(progress.done, progress.total);
    before = progress.done;
    last = progress;
  };
  pull_from(hub.settings(), "acme/small", options);
  EXPECT_EQ(last.done, kSize + 2);
  EXPECT_EQ(last.total, kSize + 2);
}

TEST(Pull, OfTwoAtOnceFetchesEachFileOnce) {
  const Hub hub(repository({{"config.json", "{}"},
                            {"tokenizer.json", {{"size", 5000}}},
                            {"model.safetensors", {{"size", 5000000}}}}));
  fs::path paths[2];
  {
    std::jthread first([&] { paths[0] = pull_from(hub.settings()).path; });
    std::jthread second([&] { paths[1] = pull_from(hub.settings()).path; });
  }
  EXPECT_EQ(paths[0], paths[1]);
  EXPECT_EQ(fs::file_size(paths[0] / "model.safetensors"), 5000000u);
  EXPECT_EQ(hub.log("/resolve/").size(), 3u);
}

TEST(Pull, WaitsForTheLockThatPythonTakes) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  const HubSettings settings = hub.settings();
  const ModelCache cache(settings.cache, "acme/small");
  cache.create_folders();
  const std::string hash = "9e26dfeeb6e641a33dae4961196235bdb965b21b";
  std::stop_source stop;
  PullOptions options;
  options.stop = stop.get_token();
  {
    const FileLock lock(cache.lock(hash), {});
    std::jthread waiting(
        [&] { EXPECT_THROW(pull_from(settings, "acme/small", options), PullCancelled); });
    while (!fs::exists(hub.model() / "snapshots")) std::this_thread::yield();
    stop.request_stop();
  }
  EXPECT_FALSE(fs::exists(cache.blob(hash)));
  EXPECT_NO_THROW(pull_from(settings));
}

TEST(Pull, OfflineUsesTheCacheAlone) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  HubSettings offline = hub.settings();
  offline.offline = true;
  const auto message = error_of([&] { pull_from(offline); });
  EXPECT_THAT(message, HasSubstr("acme/small@main: not in the cache"));
  EXPECT_THAT(message, HasSubstr("`lockstep pull acme/small`"));
  EXPECT_TRUE(hub.log("").empty());
  const PulledModel pulled = pull_from(hub.settings());
  EXPECT_EQ(pull_from(offline).path, pulled.path);
  EXPECT_EQ(pull_from(offline).commit, pulled.commit);
  fs::remove(pulled.path / "model.safetensors");
  EXPECT_THAT(error_of([&] { pull_from(offline); }), HasSubstr("not complete"));
}

TEST(Pull, MendsACacheThatLostFiles) {
  const Hub hub(repository({{"config.json", "{}"}, {"model.safetensors", kWeights}}));
  const PulledModel pulled = pull_from(hub.settings());
  const std::string content = read(pulled.path / "model.safetensors");
  const fs::path blob = fs::canonical(pulled.path / "model.safetensors");
  fs::remove(blob);  // leaves a link to nothing
  pull_from(hub.settings());
  EXPECT_EQ(read(pulled.path / "model.safetensors"), content);
  fs::resize_file(blob, 1000);
  pull_from(hub.settings());
  EXPECT_EQ(read(pulled.path / "model.safetensors"), content);
  fs::remove(pulled.path / "config.json");
  pull_from(hub.settings());
  EXPECT_EQ(read(pulled.path / "config.json"), "{}");
}

}  // namespace
}  // namespace lockstep
