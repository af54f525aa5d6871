// Runs a checkpoint's transformer on a mesh, without tokenizer, scheduler or sampler: steps go
// in, the logits of all ranks put together come out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/batch.h"
#include "model/kv_cache.h"
#include "model/transformer.h"
#include "sharding/plan.h"
#include "sharding/weights.h"
#include "spmd/team.h"

namespace lockstep::test {

// Every checkpoint of tests/golden/model, by name; `llama_odd` is the one in which nothing divides.
std::vector<std::string> golden_names();
std::vector<std::string> even_golden_names();
std::filesystem::path golden_path(const std::string& name);
// The demo model. Throws Error that says how to get it when it is absent.
std::filesystem::path smollm2_path();

// A tensor of a safetensors file in which T is the elements' type.
template <typename T>
std::vector<T> read_tensor(const std::filesystem::path& file, const std::string& name);

// A checkpoint's weights on `ranks` CPU ranks, or on any mesh.
struct LoadedModel {
  LoadedModel(const Checkpoint& checkpoint, int ranks, DType weights_dtype);
  LoadedModel(const Checkpoint& checkpoint, const Mesh& mesh, DType weights_dtype,
              const TeamOptions& options = {});

  Config config;
  ShardPlan plan;
  DType dtype;
  std::shared_ptr<Team> team;
  std::vector<Weights> weights;  // by rank
};

LoadedModel load(const std::filesystem::path& path, int ranks, DType dtype = DType::kFloat32);

// A sequence's way into a slot: `tokens`, all of which are known, in `blocks` of the cache.
Admission admission(std::int32_t slot, std::vector<std::int32_t> tokens,
                    std::vector<std::int32_t> blocks);
// Positions [begin, end) of a slot, appended to a step, all with logits.
void add_rows(StepInput& step, std::int32_t slot, std::int64_t begin, std::int64_t end);
// The first `count` block numbers from `first` on.
std::vector<std::int32_t> blocks_from(std::int32_t first, std::int64_t count);

// A cache and a batch of a LoadedModel, on all of its ranks. Everything in the cache is NaN until
// the model writes it, so that reading what was not written is seen.
class Session {
 public:
  // The cache is kept as the weights are, unless told otherwise.
  Session(const LoadedModel& model, const BatchLimits& limits, std::int64_t num_blocks);
  Session(const LoadedModel& model, const BatchLimits& limits, std::int64_t num_blocks,
          DType cache_dtype);
  ~Session();

  // Runs a step on all ranks: [logit rows, vocab_size].
  std::vector<float> forward(const StepInput& step);

  struct RankState {
    RankState(Rank& its_rank, const LoadedModel& model, const BatchLimits& limits,
              std::int64_t num_blocks, DType cache_dtype);

    Rank& rank;
    KvCache cache;
    Batch batch;
    Transformer transformer;
  };
  // Runs `function` on every rank's thread.
  void run(const std::function<void(RankState&)>& function);

 private:
  const LoadedModel& model_;
  std::vector<std::unique_ptr<RankState>> states_;
};

// All logits of one sequence alone, in one step: [tokens, vocab_size].
std::vector<float> logits_of(const LoadedModel& model, const std::vector<std::int32_t>& tokens);
std::vector<float> logits_of(const LoadedModel& model, const std::vector<std::int32_t>& tokens,
                             DType cache_dtype);

// The largest difference, relative to the largest number of `expected`; infinite for different
// sizes or a NaN.
double relative_error(const std::vector<float>& actual, const std::vector<float>& expected);

// The root mean square of the difference, relative to that of `expected`; infinite likewise.
double rms_error(const std::vector<float>& actual, const std::vector<float>& expected);
// rms_error() of transformers in bfloat16 on a golden checkpoint.
double transformers_bfloat16_error(const std::string& name);

// Bits, not values; a NaN is always a difference. Says how many numbers differ and where the first
// one is.
struct BitDifference {
  std::size_t count = 0;
  std::string first;
  explicit operator bool() const { return count > 0; }
};
BitDifference bit_difference(const std::vector<float>& actual, const std::vector<float>& expected);
std::ostream& operator<<(std::ostream& out, const BitDifference& difference);

}  // namespace lockstep::test

// The bits of two vectors of float32 are the same, and none is a NaN.
#define EXPECT_SAME_BITS(actual, expected)                                          \
  do {                                                                              \
    const auto difference = ::lockstep::test::bit_difference((actual), (expected)); \
    EXPECT_FALSE(static_cast<bool>(difference)) << difference;                      \
  } while (false)
