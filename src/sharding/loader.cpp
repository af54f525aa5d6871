#include "sharding/loader.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/convert.h"
#include "spmd/fault.h"

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

  // First sets all memory aside, so that too little of it shows before anything is read.
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
    carry_out();
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
    const Matrix result = ops_.make_matrix(rows, columns, leaves, options_.dtype);
    std::int64_t row = 0;
    for (const std::string& name : names) {
      const WeightSlice& slice = slices_.at(name);
      const std::int64_t count = slice.rows.size();
      const std::size_t row_bytes = static_cast<std::size_t>(columns) * size_of(options_.dtype);
      const auto dummy = checkpoint_.dummy_source(info_of(name));
      if (dummy && ops_.write_dummy_rows(result, row, count, *dummy, slice.rows.begin,
                                         slice.columns.begin)) {
        progress(static_cast<std::size_t>(count) * row_bytes);
      } else {
        add_pieces(name, [=, this](const Tensor& values, std::int64_t at) {
          ops_.write_rows(result, row + at, values);
          progress(static_cast<std::size_t>(values.num_rows()) * row_bytes);
        });
      }
      row += count;
    }
    return result;
  }

  // The slices of `names` one after the other in one float32 vector.
  OwnedTensor vector(const Names& names) {
    std::int64_t size = 0;
    for (const std::string& name : names) size += slices_.at(name).rows.size();
    OwnedTensor result = allocate_tensor(ops_, rank_.device(), DType::kFloat32, {size});
    std::int64_t begin = 0;
    for (const std::string& name : names) {
      add_pieces(name, [=, this, target = result.tensor](const Tensor& values, std::int64_t at) {
        std::vector<float> floats = to_float32(values);
        const std::int64_t count = values.numel();
        ops_.upload(target.rows(begin + at, begin + at + count),
                    Tensor{floats.data(), DType::kFloat32, {count}, Device{}});
        progress(static_cast<std::size_t>(count) * sizeof(float));
      });
      begin += slices_.at(name).rows.size();
    }
    return result;
  }

  const TensorInfo& info_of(const std::string& name) const {
    const TensorInfo* info = checkpoint_.find(name);
    check(info != nullptr, "the checkpoint has no tensor {}", name);
    return *info;
  }

  // Puts some rows of a slice in place; `at` is the first one's number within the slice.
  using Place = std::function<void(const Tensor& values, std::int64_t at)>;

  // Cuts a slice into pieces of whole rows, at most kPieceBytes each where a row is not longer.
  void add_pieces(const std::string& name, const Place& place) {
    const TensorInfo& info = info_of(name);
    const WeightSlice& slice = slices_.at(name);
    const std::size_t row_bytes =
        static_cast<std::size_t>(slice.columns.size()) * size_of(info.dtype);
    const auto step = static_cast<std::int64_t>(
        std::max<std::size_t>(1, kPieceBytes / std::max<std::size_t>(1, row_bytes)));
    for (std::int64_t begin = slice.rows.begin; begin < slice.rows.end; begin += step) {
      const Range rows{begin, std::min(begin + step, slice.rows.end)};
      pieces_.push_back({&info, rows, slice.columns, begin - slice.rows.begin, place});
    }
  }

  // A rectangle of a tensor that has to be put in place.
  struct Piece {
    const TensorInfo* info;
    Range rows, columns;
    std::int64_t at;
    Place place;
  };

  // Reads the pieces, several at the same time where the device copies from several stages, and
  // puts them in place in their order.
  void carry_out() {
    struct Reading {
      const Piece* piece;
      Tensor values;  // in a stage
      std::future<void> done;
    };
    std::deque<Reading> readings;
    const auto place_first = [&] {
      Reading& first = readings.front();
      first.done.get();
      first.piece->place(first.values, first.piece->at);
      readings.pop_front();
    };
    // While the last stage's copy goes on, the others are read into.
    const auto most = static_cast<std::size_t>(std::max(1, ops_.stages() - 1));
    const auto policy = most > 1 ? std::launch::async : std::launch::deferred;
    for (const Piece& piece : pieces_) {
      if (readings.size() == most) place_first();
      const Shape shape{piece.rows.size(), piece.columns.size()};
      Tensor values{nullptr, piece.info->dtype, shape, Device{}};
      values.data = ops_.stage(std::max(values.bytes(), kPieceBytes));
      readings.push_back({&piece, values, std::async(policy, [this, &piece, values] {
                            if (values.numel() > 0)
                              checkpoint_.read(*piece.info, piece.rows, piece.columns, values.data);
                          })});
    }
    while (!readings.empty()) place_first();
  }

  // After each piece: the other ranks need not go on where one has failed.
  void progress(std::size_t bytes) {
    inject_fault("load", rank_.id());
    rank_.comm().throw_if_aborted();
    if (options_.progress) options_.progress(bytes);
  }

  Rank& rank_;
  Ops& ops_;
  const Checkpoint& checkpoint_;
  const Config& config_;
  const RankLoadOptions& options_;
  const ShardPlan& plan_;
  std::map<std::string, WeightSlice> slices_;
  std::vector<Piece> pieces_;
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
