// Models by name through the C interface.
#include <cstdlib>

#include "hub/harness.h"
#include "lockstep/c/lockstep.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class CHub : public testing::Test {
 protected:
  CHub()
      : hub_(repository({{"config.json", read(LOCKSTEP_GOLDEN_DIR "/model/llama/config.json")},
                         {"model.safetensors", {{"size", 1000}}}})) {
    ::setenv("HF_ENDPOINT", hub_.url().c_str(), 1);
    ::setenv("HF_HUB_CACHE", (cache_.path() / "hub").c_str(), 1);
    ::unsetenv("HF_HUB_OFFLINE");
    EXPECT_EQ(lockstep_mesh_tensor_parallel(1, LOCKSTEP_DEVICE_CPU, &mesh_), LOCKSTEP_OK);
    EXPECT_EQ(lockstep_load_options_init(&options_, sizeof options_), LOCKSTEP_OK);
    options_.dummy_weights = true;  // the configuration alone is fetched
  }
  ~CHub() override { lockstep_mesh_free(mesh_); }

  std::string load() {
    lockstep_model* model = nullptr;
    const lockstep_status status = lockstep_model_load("acme/small", mesh_, &options_, &model);
    EXPECT_EQ(status == LOCKSTEP_OK, model != nullptr);
    lockstep_model_free(model);
    return lockstep_last_error();
  }

  TemporaryFolder cache_;
  Hub hub_;
  lockstep_mesh* mesh_ = nullptr;
  lockstep_load_options options_;
};

TEST_F(CHub, FetchesWithProgressAndThenTakesTheCache) {
  options_.offline = true;
  EXPECT_THAT(load(), HasSubstr("acme/small"));
  options_.offline = false;
  std::vector<std::string> files;
  options_.download = [](const lockstep_download* download, void* data) {
    EXPECT_LE(download->file_done, download->file_size);
    EXPECT_LE(download->done, download->total);
    auto& seen = *static_cast<std::vector<std::string>*>(data);
    if (seen.empty() || seen.back() != download->file) seen.emplace_back(download->file);
    return false;
  };
  options_.download_user_data = &files;
  EXPECT_EQ(load(), "");
  EXPECT_THAT(files, ElementsAre("config.json"));
  options_.offline = true;
  EXPECT_EQ(load(), "");
}

TEST_F(CHub, RevisionArrives) {
  options_.revision = "no-such-branch";
  EXPECT_THAT(load(), HasSubstr("no-such-branch"));
}

TEST_F(CHub, TheCallbackCanEndIt) {
  options_.download = [](const lockstep_download*, void*) { return true; };
  EXPECT_NE(load(), "");
}

}  // namespace
}  // namespace lockstep
