#include "generate/memory.h"

#include <algorithm>

#include "core/check.h"
#include "core/format_bytes.h"
#include "core/host_memory.h"
#include "model/kv_cache.h"
#include "sharding/loader.h"
#include "spmd/devices.h"

namespace lockstep {
namespace {

// What a rank takes besides tensors. GPUs: workspaces, staging buffers, NCCL and recorded graphs.
constexpr std::uint64_t kCpuRankBytes = std::uint64_t{24} << 20;
constexpr std::uint64_t kGpuRankBytes = std::uint64_t{768} << 20;

// Sizes stop here, so that sums over all ranks cannot overflow: a config may claim 2^40 positions.
constexpr std::uint64_t kHuge = std::uint64_t{1} << 56;

std::uint64_t cache_bytes(const Config& config, const RankShard& shard, DType dtype,
                          const Workload& workload) {
  const auto blocks = static_cast<std::uint64_t>(workload.batch_size * kv_blocks(workload.length));
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(kv_cache_bytes(config, shard, 1, dtype), blocks, &bytes)) return kHuge;
  return std::min(bytes, kHuge);
}

// Activations of the most tokens of one step, and logits of every sequence: of a rank, and of all
// ranks for the sampler.
std::uint64_t activation_bytes(const Config& config, const RankShard& shard,
                               const Workload& workload) {
  const std::int64_t rows = std::max(workload.prefill_chunk, workload.batch_size);
  const std::int64_t heads = 2 * shard.heads.size() + 2 * shard.kv_heads.size();
  const std::int64_t columns =
      3 * config.hidden_size + std::max(heads * config.head_dim, 3 * shard.intermediate.size());
  const std::int64_t logits = 2 * shard.vocab.size() + 2 * config.vocab_size;
  const std::int64_t values =
      rows * columns + workload.batch_size * (logits + 2 * kMaxLogitBias + workload.length);
  return std::min(static_cast<std::uint64_t>(values) * sizeof(float), kHuge);
}

std::uint64_t total(const std::vector<RankMemory>& needed) {
  std::uint64_t bytes = 0;
  for (const RankMemory& rank : needed) bytes += rank.total();
  return bytes;
}

// The demands that would fit instead, as options.
std::vector<std::string> what_fits(const Config& config, int world_size, DType dtype,
                                   const Workload& workload, const FreeMemory& free) {
  std::vector<std::string> options;
  const ShardPlan plan = infer_sharding(config, world_size);
  const auto would_fit = [&](const ShardPlan& other_plan, DType other_dtype,
                             const Workload& other) {
    return fits(memory_needed(config, other_plan, other_dtype, free.device, other), free);
  };
  const std::int64_t length = longest_that_fits(config, plan, dtype, workload, free);
  if (length > 0) options.push_back(fmt::format("--max-length {}", length));
  for (Workload fewer = workload; fewer.batch_size > 1;) {
    fewer.batch_size /= 2;
    if (!would_fit(plan, dtype, fewer)) continue;
    options.push_back(fmt::format("a batch of {}", fewer.batch_size));
    break;
  }
  if (workload.loaded) return options;
  for (int ranks = world_size + 1;
       free.device == DeviceType::kCuda && ranks <= std::ssize(free.bytes) &&
       ranks <= config.num_attention_heads;
       ++ranks) {
    if (!would_fit(infer_sharding(config, ranks), dtype, workload)) continue;
    options.push_back(fmt::format("--tp {}", ranks));
    break;
  }
  if (dtype == DType::kFloat32 && would_fit(plan, DType::kBFloat16, workload))
    options.push_back("--dtype bfloat16");
  return options;
}

}  // namespace

std::vector<RankMemory> memory_needed(const Config& config, const ShardPlan& plan, DType dtype,
                                      DeviceType device, const Workload& workload) {
  std::vector<RankMemory> ranks;
  for (int rank = 0; rank < plan.world_size(); ++rank) {
    const RankShard& shard = plan.ranks[static_cast<std::size_t>(rank)];
    RankMemory memory;
    if (!workload.loaded) {
      memory.weights = std::min<std::uint64_t>(weight_bytes(config, plan, rank, dtype), kHuge);
      memory.scratch = device == DeviceType::kCuda ? kGpuRankBytes : kCpuRankBytes;
    }
    if (workload.length > 0) {
      memory.cache = cache_bytes(config, shard, dtype, workload);
      memory.scratch += activation_bytes(config, shard, workload);
    }
    ranks.push_back(memory);
  }
  return ranks;
}

FreeMemory free_memory(DeviceType device, int ranks) {
  if (device == DeviceType::kCuda)
    return {device, cuda_free_memory(std::min(ranks, max_cuda_ranks()))};
  return {device, {available_host_memory()}};
}

bool fits(const std::vector<RankMemory>& needed, const FreeMemory& free) {
  if (free.device == DeviceType::kCpu) return total(needed) <= free.bytes.front();
  for (std::size_t rank = 0; rank < needed.size(); ++rank)
    if (rank >= free.bytes.size() || needed[rank].total() > free.bytes[rank]) return false;
  return true;
}

std::int64_t longest_that_fits(const Config& config, const ShardPlan& plan, DType dtype,
                               Workload workload, const FreeMemory& free) {
  // In blocks of the cache; a longer sequence never takes less.
  std::int64_t fitting = 0, failing = kv_blocks(config.max_position_embeddings) + 1;
  while (failing - fitting > 1) {
    const std::int64_t middle = fitting + (failing - fitting) / 2;
    workload.length = middle * kKvBlockSize;
    const bool fit = fits(memory_needed(config, plan, dtype, free.device, workload), free);
    (fit ? fitting : failing) = middle;
  }
  return std::min(fitting * kKvBlockSize, config.max_position_embeddings);
}

void check_fits(const Config& config, int world_size, DType dtype, const Workload& workload,
                const FreeMemory& free) {
  const ShardPlan plan = infer_sharding(config, world_size);
  const std::vector<RankMemory> needed = memory_needed(config, plan, dtype, free.device, workload);
  if (fits(needed, free)) return;

  // Of all ranks where they share the host's memory, else of the first that does not fit.
  RankMemory sum;
  std::string who = fmt::format("{} rank{} take{}", world_size, world_size == 1 ? "" : "s",
                                world_size == 1 ? "s" : "");
  std::string where = "this host";
  std::uint64_t available = free.bytes.front();
  const auto add = [&](const RankMemory& rank) {
    sum.weights += rank.weights;
    sum.cache += rank.cache;
    sum.scratch += rank.scratch;
  };
  if (free.device == DeviceType::kCpu) {
    std::for_each(needed.begin(), needed.end(), add);
  } else {
    std::size_t rank = 0;
    while (rank < free.bytes.size() && needed[rank].total() <= free.bytes[rank]) ++rank;
    check(rank < free.bytes.size(), "{} ranks need as many GPUs, but this host has {}", world_size,
          free.bytes.size());
    add(needed[rank]);
    who = fmt::format("rank {} of {} takes", rank, world_size);
    where = fmt::format("cuda:{}", rank);
    available = free.bytes[rank];
  }
  const auto size = [](std::uint64_t bytes) { return format_bytes(static_cast<double>(bytes)); };
  std::string weights, cache;
  if (!workload.loaded)
    weights = fmt::format("{} of weights in {}, ", size(sum.weights), name_of(dtype));
  if (workload.length > 0)
    cache = fmt::format("{} of KV cache for {} sequence{} of {} tokens, ", size(sum.cache),
                        workload.batch_size, workload.batch_size == 1 ? "" : "s", workload.length);
  const std::vector<std::string> options = what_fits(config, world_size, dtype, workload, free);
  fail(
      "the model does not fit into memory: {} {} ({}{}{} to work with), and {} has {} free. {}; "
      "--no-memory-check tries all the same",
      who, size(sum.total()), weights, cache, size(sum.scratch), where, size(available),
      options.empty() ? "Nothing less would fit: take a smaller model or a larger machine"
                      : fmt::format("What would fit: {}", fmt::join(options, ", or ")));
}

}  // namespace lockstep
