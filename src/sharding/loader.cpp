#include "sharding/loader.h"

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/convert.h"

namespace lockstep {
namespace {

// Host memory for the pieces that are read before Ops puts them in place.
constexpr std::size_t kPieceBytes = std::size_t{2} << 20;

class RankLoader {
 public:
  RankLoader(Rank& rank, const Checkpoint& checkpoint, const ShardPlan& plan,
             const RankLoadOptions& options)
      : rank_(rank),
        ops_(rank.ops()),
        checkpoint_(checkpoint),
        config_(checkpoint.config()),
        options_(options),
        plan_(plan) {
    for (WeightSlice& slice : rank_slices(config_, plan, rank.id()))
      slices_.emplace(slice.name, std::move(slice));
  }

  Weights load() {
    Weights weights;
    weights.embed_tokens = matrix({"model.embed_tokens.weight"}, kLeaves);
    for (std::int64_t i = 0; i < config_.num_hidden_layers; ++i)
      weights.layers.push_back(layer(fmt::format("model.layers.{}.", i)));
    weights.norm = vector({"model.norm.weight"});
    if (config_.tie_word_embeddings) {
      const Range vocab = plan_.ranks[static_cast<std::size_t>(rank_.id())].vocab;
      weights.lm_head = ops_.row_view(weights.embed_tokens, vocab.begin, vocab.end);
    } else {
      weights.lm_head = matrix({"lm_head.weight"}, kLeaves);
    }
    return weights;
  }

 private:
  using Names = std::vector<std::string>;

  LayerWeights layer(const std::string& prefix) {
    const std::string attention = prefix + "self_attn.";
    const std::string mlp = prefix + "mlp.";
    LayerWeights layer;
    layer.input_layernorm = vector({prefix + "input_layernorm.weight"});
    layer.qkv_proj = linear({attention + "q_proj", attention + "k_proj", attention + "v_proj"},
                            kLeaves, config_.qkv_bias);
    if (config_.qk_norm) {
      layer.q_norm = vector({attention + "q_norm.weight"});
      layer.k_norm = vector({attention + "k_norm.weight"});
    }
    layer.o_proj = linear({attention + "o_proj"}, plan_.attention_leaves, config_.o_bias);
    layer.post_attention_layernorm = vector({prefix + "post_attention_layernorm.weight"});
    layer.gate_up_proj = linear({mlp + "gate_proj", mlp + "up_proj"}, kLeaves, config_.mlp_bias);
    layer.down_proj = linear({mlp + "down_proj"}, plan_.mlp_leaves, config_.mlp_bias);
    return layer;
  }

  LinearWeights linear(const Names& modules, int leaves, bool bias) {
    Names weight_names, bias_names;
    for (const std::string& module : modules) {
      weight_names.push_back(module + ".weight");
      bias_names.push_back(module + ".bias");
    }
    LinearWeights weights{matrix(weight_names, leaves), std::nullopt};
    if (bias) weights.bias = vector(bias_names);
    return weights;
  }

  // The slices of `names` below each other in one matrix.
  Matrix matrix(const Names& names, int leaves) {
    std::int64_t rows = 0;
    for (const std::string& name : names) rows += slices_.at(name).rows.size();
    const std::int64_t columns = slices_.at(names.front()).columns.size();
    Matrix result = ops_.make_matrix(rows, columns, leaves, options_.dtype);
    std::int64_t row = 0;
    for (const std::string& name : names) {
      for_each_piece(name, [&](const Tensor& piece) {
        ops_.write_rows(result, row, piece);
        row += piece.num_rows();
        progress(static_cast<std::size_t>(piece.numel()) * size_of(options_.dtype));
      });
    }
    return result;
  }

  // The slices of `names` one after the other in one float32 vector.
  OwnedTensor vector(const Names& names) {
    std::int64_t size = 0;
    for (const std::string& name : names) size += slices_.at(name).rows.size();
    OwnedTensor result = allocate_tensor(ops_, rank_.device(), DType::kFloat32, {size});
    std::int64_t at = 0;
    for (const std::string& name : names) {
      for_each_piece(name, [&](const Tensor& piece) {
        std::vector<float> values = to_float32(piece);
        const std::int64_t count = piece.numel();
        ops_.upload(result.tensor.rows(at, at + count),
                    Tensor{values.data(), DType::kFloat32, {count}, Device{}});
        at += count;
        progress(static_cast<std::size_t>(count) * sizeof(float));
      });
    }
    return result;
  }

  // Reads a slice in pieces of whole rows, [rows, columns] each, at most kPieceBytes where a row is
  // not longer.
  template <typename Function>
  void for_each_piece(const std::string& name, const Function& function) {
    const WeightSlice& slice = slices_.at(name);
    const TensorInfo* info = checkpoint_.find(name);
    check(info != nullptr, "the checkpoint has no tensor {}", name);
    const std::int64_t columns = slice.columns.size();
    const std::size_t row_bytes = static_cast<std::size_t>(columns) * size_of(info->dtype);
    const auto step = static_cast<std::int64_t>(
        std::max<std::size_t>(1, kPieceBytes / std::max<std::size_t>(1, row_bytes)));
    for (std::int64_t begin = slice.rows.begin; begin < slice.rows.end; begin += step) {
      const Range rows{begin, std::min(begin + step, slice.rows.end)};
      const std::size_t bytes = static_cast<std::size_t>(rows.size()) * row_bytes;
      if (piece_.bytes() < bytes) piece_ = allocate_host(std::max(bytes, kPieceBytes));
      if (columns > 0) checkpoint_.read(*info, rows, slice.columns, piece_.data());
      function(Tensor{piece_.data(), info->dtype, {rows.size(), columns}, Device{}});
    }
  }

  void progress(std::size_t bytes) {
    if (options_.progress) options_.progress(bytes);
  }

  Rank& rank_;
  Ops& ops_;
  const Checkpoint& checkpoint_;
  const Config& config_;
  const RankLoadOptions& options_;
  const ShardPlan& plan_;
  std::map<std::string, WeightSlice> slices_;
  Buffer piece_;
};

}  // namespace

Weights load_weights(Rank& rank, const Checkpoint& checkpoint, const ShardPlan& plan,
                     const RankLoadOptions& options) {
  return RankLoader(rank, checkpoint, plan, options).load();
}

std::size_t weight_bytes(const Config& config, const ShardPlan& plan, int rank, DType dtype) {
  std::size_t bytes = 0;
  for (const WeightSlice& slice : rank_slices(config, plan, rank)) {
    const bool matrix = slice.shape.rank() == 2;
    bytes += static_cast<std::size_t>(slice.rows.size() * slice.columns.size()) *
             (matrix ? size_of(dtype) : sizeof(float));
  }
  return bytes;
}

}  // namespace lockstep
