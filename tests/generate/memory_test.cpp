// Whether a model fits, by arithmetic alone, and that load_model and Generator ask.
#include "generate/memory.h"

#include <gmock/gmock.h>

#include "core/format_bytes.h"
#include "core/host_memory.h"
#include "generate/test_model.h"
#include "lockstep/error.h"

namespace lockstep::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::ThrowsMessage;

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

Config mistral_7b() {
  Config config;
  config.model_type = "mistral";
  config.vocab_size = 32000;
  config.hidden_size = 4096;
  config.intermediate_size = 14336;
  config.num_hidden_layers = 32;
  config.num_attention_heads = 32;
  config.num_key_value_heads = 8;
  config.head_dim = 128;
  config.max_position_embeddings = 32768;
  config.sliding_window.assign(32, 4096);
  return config;
}

std::vector<RankMemory> needed(int ranks, DType dtype, const Workload& workload,
                               DeviceType device = DeviceType::kCpu) {
  const Config config = mistral_7b();
  return memory_needed(config, infer_sharding(config, ranks), dtype, device, workload);
}

FreeMemory host(std::uint64_t bytes) { return {DeviceType::kCpu, {bytes}}; }
FreeMemory gpus(std::vector<std::uint64_t> bytes) { return {DeviceType::kCuda, std::move(bytes)}; }

auto refusal(int ranks, DType dtype, const Workload& workload, const FreeMemory& free) {
  return [=] { check_fits(mistral_7b(), ranks, dtype, workload, free); };
}

TEST(MemoryTest, ARankHoldsItsSlicesAndItsHeadsOfTheCache) {
  // 7,241,732,096 parameters, of which 266,240 are norms in float32.
  constexpr std::uint64_t kWeights = std::uint64_t{7'241'465'856} * 2 + 266'240 * 4;
  const auto one = needed(1, DType::kBFloat16, {2, 4096, 512});
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].weights, kWeights);
  EXPECT_EQ(one[0].cache, 2u * 4096 * (32 * 2 * 8 * 128 * 2));
  const auto four = needed(4, DType::kBFloat16, {2, 4096, 512});
  ASSERT_EQ(four.size(), 4u);
  // Embeddings and norms are on every rank.
  constexpr std::uint64_t kReplicated = std::uint64_t{32000} * 4096 * 2 + 266'240 * 4;
  for (const RankMemory& rank : four) {
    EXPECT_EQ(rank.weights, (kWeights - kReplicated) / 4 + kReplicated);
    EXPECT_EQ(rank.cache, one[0].cache / 4);
    EXPECT_LT(rank.scratch, one[0].scratch);
  }
}

TEST(MemoryTest, WithoutAWorkloadThereAreWeightsOnly) {
  EXPECT_EQ(needed(1, DType::kBFloat16, {})[0].cache, 0u);
  Workload loaded{1, 4096, 512, true};
  EXPECT_EQ(needed(1, DType::kBFloat16, loaded)[0].weights, 0u);
  EXPECT_EQ(needed(1, DType::kBFloat16, loaded)[0].cache, 512u << 20);
}

TEST(MemoryTest, CpuRanksShareTheHostAndGpusDoNot) {
  const auto four = needed(4, DType::kBFloat16, {});
  std::uint64_t sum = 0;
  for (const RankMemory& rank : four) sum += rank.total();
  EXPECT_TRUE(fits(four, host(sum)));
  EXPECT_FALSE(fits(four, host(sum - 1)));
  const std::uint64_t each = four[0].total();
  EXPECT_TRUE(fits(four, gpus({each, each, each, each})));
  EXPECT_FALSE(fits(four, gpus({each, each, each - 1, each})));
  EXPECT_FALSE(fits(four, gpus({each, each, each})));
}

TEST(MemoryTest, TheLongestLengthIsTheLastThatFits) {
  const Config config = mistral_7b();
  for (int ranks : {1, 3}) {
    const ShardPlan plan = infer_sharding(config, ranks);
    for (std::uint64_t gib : {15, 16, 18, 21}) {
      Workload workload{3, 0, 512};
      const std::int64_t longest =
          longest_that_fits(config, plan, DType::kBFloat16, workload, host(gib * kGiB));
      const auto fits_with = [&](std::int64_t length) {
        workload.length = length;
        return fits(needed(ranks, DType::kBFloat16, workload), host(gib * kGiB));
      };
      if (longest > 0) {
        EXPECT_TRUE(fits_with(longest)) << gib;
      }
      EXPECT_FALSE(fits_with(longest + kKvBlockSize)) << gib;
      EXPECT_EQ(longest % kKvBlockSize, 0);
    }
  }
  EXPECT_EQ(longest_that_fits(config, infer_sharding(config, 1), DType::kBFloat16, {1, 0, 512},
                              host(100 * kGiB)),
            32768);
  EXPECT_EQ(longest_that_fits(config, infer_sharding(config, 1), DType::kBFloat16, {1, 0, 512},
                              host(kGiB)),
            0);
}

TEST(MemoryTest, AbsurdDemandsDoNotWrapAround) {
  Config config = mistral_7b();
  config.max_position_embeddings = std::int64_t{1} << 40;
  const ShardPlan plan = infer_sharding(config, 32);
  const Workload workload{4096, std::int64_t{1} << 40, 65536};
  const auto needed = memory_needed(config, plan, DType::kFloat32, DeviceType::kCpu, workload);
  EXPECT_FALSE(fits(needed, host(std::uint64_t{1} << 60)));
  EXPECT_GT(longest_that_fits(config, plan, DType::kBFloat16, {1, 0, 512}, host(256 * kGiB)),
            400'000);
}

TEST(MemoryTest, WhatFitsIsAccepted) {
  EXPECT_NO_THROW(check_fits(mistral_7b(), 1, DType::kBFloat16, {1, 8192, 512}, host(16 * kGiB)));
  EXPECT_NO_THROW(
      check_fits(mistral_7b(), 2, DType::kBFloat16, {1, 8192, 512}, gpus({9 * kGiB, 9 * kGiB})));
}

TEST(MemoryTest, ARefusalGivesTheNumbersAndWhatWouldFit) {
  const Workload one{1, 32768, 512};
  EXPECT_THAT(
      refusal(1, DType::kBFloat16, one, host(16 * kGiB)),
      ThrowsMessage<Error>(AllOf(HasSubstr("14.48 GB of weights in bfloat16"),
                                 HasSubstr("4.29 GB of KV cache for 1 sequence of 32768 tokens"),
                                 HasSubstr("this host has 17.18 GB free"),
                                 HasSubstr("--max-length 1"), Not(HasSubstr("--tp")),
                                 Not(HasSubstr("--dtype")), HasSubstr("--no-memory-check"))));
  EXPECT_THAT(refusal(1, DType::kFloat32, one, host(20 * kGiB)),
              ThrowsMessage<Error>(AllOf(HasSubstr("28.97 GB of weights in float32"),
                                         HasSubstr("What would fit: --dtype bfloat16;"))));
  EXPECT_THAT(
      refusal(2, DType::kBFloat16, {8, 8192, 512}, host(20 * kGiB)),
      ThrowsMessage<Error>(AllOf(HasSubstr("2 ranks take"), HasSubstr("8 sequences of 8192"),
                                 HasSubstr(", or a batch of 4;"))));
  EXPECT_THAT(refusal(1, DType::kBFloat16, one, host(kGiB)),
              ThrowsMessage<Error>(HasSubstr("Nothing less would fit")));
}

TEST(MemoryTest, OnGpusMoreRanksAreAnotherWay) {
  const std::uint64_t small = 10 * kGiB;
  EXPECT_THAT(
      refusal(1, DType::kBFloat16, {}, gpus({small, small, small})),
      ThrowsMessage<Error>(AllOf(HasSubstr("rank 0 of 1 takes"), HasSubstr("cuda:0 has 10.74 GB"),
                                 HasSubstr("What would fit: --tp 2;"))));
  EXPECT_THAT(refusal(2, DType::kBFloat16, {}, gpus({small, kGiB, small})),
              ThrowsMessage<Error>(AllOf(HasSubstr("rank 1 of 2"), HasSubstr("cuda:1 has 1.07 GB"),
                                         HasSubstr("Nothing less would fit"))));
}

// Models and generators that are too large for any machine; nothing of them is allocated.
class RefusalTest : public testing::Test {
 protected:
  // A config.json of llama's golden checkpoint with other sizes.
  void write_config(std::int64_t layers, std::int64_t positions) {
    tiny_.write("config.json",
                R"({"model_type": "llama", "vocab_size": 104, "hidden_size": 4096,
                    "intermediate_size": 16384, "num_attention_heads": 32,
                    "num_key_value_heads": 32, "rms_norm_eps": 1e-5, "num_hidden_layers": )" +
                    std::to_string(layers) + R"(, "max_position_embeddings": )" +
                    std::to_string(positions) + "}");
  }
  Model load(LoadOptions options = {}) {
    options.dummy_weights = true;
    return load_model(tiny_.path(), cpu_mesh(2), options);
  }

  TinyModel tiny_;
};

TEST_F(RefusalTest, AModelThatIsTooLargeIsNotLoaded) {
  if (available_host_memory() > (std::uint64_t{1} << 40)) GTEST_SKIP() << "it fits here";
  write_config(1024, 128);  // 275e9 parameters
  EXPECT_THAT([&] { load(); }, ThrowsMessage<Error>(AllOf(HasSubstr("does not fit into memory"),
                                                          HasSubstr("2 ranks"))));
}

TEST_F(RefusalTest, APlannedGeneratorIsTakenIntoAccount) {
  if (available_host_memory() > (std::uint64_t{1} << 40)) GTEST_SKIP() << "it fits here";
  write_config(1, 1 << 24);
  LoadOptions options;
  options.planned_batch_size = 64;
  options.planned_length = 1 << 24;
  EXPECT_THAT([&] { load(options); }, ThrowsMessage<Error>(HasSubstr("64 sequences of 16777216")));
}

TEST(GeneratorMemoryTest, AGeneratorThatIsTooLargeIsRefused) {
  TinyModel tiny;
  std::string config = R"({"model_type": "llama", "vocab_size": 104, "hidden_size": 1024,
      "intermediate_size": 64, "num_attention_heads": 8, "num_key_value_heads": 8,
      "rms_norm_eps": 1e-5, "num_hidden_layers": 8, "max_position_embeddings": 16777216})";
  tiny.write("config.json", config);
  LoadOptions options;
  options.dummy_weights = true;
  const Model model = load_model(tiny.path(), cpu_mesh(1), options);
  // 2 PB.
  EXPECT_THAT(
      [&] {
        Generator(model, {4096, 1 << 24});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("does not fit into memory"),
                                 HasSubstr("4096 sequences of 16777216 tokens"),
                                 Not(HasSubstr("weights")))));
}

TEST(FormatBytesTest, HasThreeSignificantDigitsOrSo) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1250), "1.25 kB");
  EXPECT_EQ(format_bytes(14.5e9), "14.50 GB");
  EXPECT_EQ(format_bytes(3e15), "3000.00 TB");
}

}  // namespace
}  // namespace lockstep::test
