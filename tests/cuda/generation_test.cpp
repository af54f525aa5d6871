// Text from GPUs, and GPU ranks that fail.
#include <gmock/gmock.h>

#include "cuda/harness.h"
#include "lockstep/lockstep.h"
#include "model/golden_texts.h"
#include "model/model_harness.h"
#include "ops/ops.h"
#include "spmd/devices.h"
#include "spmd/team.h"

namespace lockstep::test {
namespace {

using testing::HasSubstr;

Mesh gpus(int count) { return Mesh::tensor_parallel(count, DeviceType::kCuda); }

class GenerationOnGpus : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) GTEST_SKIP() << "there is no GPU here";
  }
};

// Near ties are counted and printed there.
TEST_F(GenerationOnGpus, SmolLM2EqualsTransformersStepByStep) {
  try {
    if (kSimulated) GTEST_SKIP() << "this takes too long on simulated GPUs";
    smollm2_path();
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  expect_golden_texts(gpus(1));
  if (max_cuda_ranks() > 1) expect_golden_texts(gpus(std::min(4, max_cuda_ranks())));
}

// Ends of all kinds, more requests than slots, steps started ahead or not, on any number of GPUs.
TEST_F(GenerationOnGpus, TheSameTokensWithStepsAheadAndOnAnyNumberOfGpus) {
  const auto generate = [](int ranks, int steps_ahead) {
    const Model model = load_model(golden_path("llama").string(), gpus(ranks));
    Generator generator(model,
                        {.max_batch_size = 3, .prefill_chunk = 5, .steps_ahead = steps_ahead});
    std::vector<TokenStream> streams;
    for (int i = 0; i < sized(20, 4); ++i) {
      SamplingParams params;
      params.max_tokens = 1 + 7 * i % sized(40, 8);
      params.seed = i;
      params.ignore_eos = i % 2 == 1;
      if (i % 3 == 0) params.temperature = 0;
      if (i % 4 == 0) params.stop_token_ids = {5, 6, 7, 8, 9, 10};
      if (i % 5 == 0) params.logprobs = 2;
      if (i % 6 == 0) params.repetition_penalty = 1.3f;
      if (i % 7 == 0) params.top_k = 20;
      std::vector<std::int32_t> prompt;
      for (int token = 0; token < 1 + i % 13; ++token) prompt.push_back(3 + (i * 7 + token) % 90);
      streams.push_back(generator.stream(prompt, params));
    }
    std::vector<std::vector<std::int32_t>> ids;
    for (TokenStream& stream : streams) {
      ids.emplace_back();
      for (const Token& token : stream.completion().tokens) ids.back().push_back(token.id);
    }
    return ids;
  };
  const auto expected = generate(1, 0);
  EXPECT_EQ(generate(1, 1), expected);
  for (int ranks : {2, 4, 8}) {
    if (ranks > max_cuda_ranks()) continue;
    EXPECT_EQ(generate(ranks, 1), expected) << ranks;
    if (kSimulated) continue;
    EXPECT_EQ(generate(ranks, 0), expected) << ranks;
  }
}

class FailureOnGpus : public testing::TestWithParam<std::int64_t> {};
// Values of one all-reduce: directly between the GPUs, and through NCCL.
INSTANTIATE_TEST_SUITE_P(Sizes, FailureOnGpus, testing::Values(4096, 4 << 20));

TEST_P(FailureOnGpus, ARankThatThrowsEndsTheWaitOfTheOthers) {
  const int ranks = std::min(4, max_cuda_ranks());
  if (ranks < 2) GTEST_SKIP() << "this takes two GPUs";
  Team team(gpus(ranks));
  const auto run = [&] {
    team.run("the test", [&](Rank& rank) {
      if (rank.id() == 1) throw Error("on purpose");
      const OwnedTensor data =
          allocate_tensor(rank.ops(), rank.device(), DType::kFloat32, {GetParam()});
      rank.comm().all_reduce(data.tensor);
      rank.ops().synchronize();
      rank.comm().throw_if_aborted();
    });
  };
  try {
    run();
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    const std::string device = std::to_string(1 % cuda_device_count());
    EXPECT_EQ(error.what(), "rank 1 (cuda:" + device + ") failed in the test: on purpose");
  }
  EXPECT_THROW(run(), Error);  // GPU ranks stay stopped
}

TEST_F(GenerationOnGpus, TooLittleMemorySaysWhatWasAskedAndWhatIsFree) {
  Team team(gpus(1));
  try {
    team.run("the test", [](Rank& rank) { rank.ops().allocate(std::size_t{1} << 45); });
    ADD_FAILURE() << "32 TiB were given";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 (cuda:0) failed in the test: "));
    EXPECT_THAT(error.what(), HasSubstr("35184372088832 bytes were asked for"));
    EXPECT_THAT(error.what(), HasSubstr("--tp"));
  }
  // And nothing is broken afterwards.
  team.run("the test", [](Rank& rank) {
    rank.ops().allocate(1 << 20);
    rank.ops().synchronize();
  });
}

}  // namespace
}  // namespace lockstep::test
