#include "checkpoint/names.h"

#include <gtest/gtest.h>

#include "test_files.h"

namespace lockstep {
namespace {

TEST(Names, TranslateBothWays) {
  const std::vector<std::pair<std::string, std::string>> pairs{
      {"token_embd.weight", "model.embed_tokens.weight"},
      {"output_norm.weight", "model.norm.weight"},
      {"output.weight", "lm_head.weight"},
      {"blk.0.attn_norm.weight", "model.layers.0.input_layernorm.weight"},
      {"blk.31.attn_q.weight", "model.layers.31.self_attn.q_proj.weight"},
      {"blk.31.attn_q.bias", "model.layers.31.self_attn.q_proj.bias"},
      {"blk.7.attn_k.bias", "model.layers.7.self_attn.k_proj.bias"},
      {"blk.7.attn_v.weight", "model.layers.7.self_attn.v_proj.weight"},
      {"blk.7.attn_output.weight", "model.layers.7.self_attn.o_proj.weight"},
      {"blk.7.attn_q_norm.weight", "model.layers.7.self_attn.q_norm.weight"},
      {"blk.7.attn_k_norm.weight", "model.layers.7.self_attn.k_norm.weight"},
      {"blk.12.ffn_norm.weight", "model.layers.12.post_attention_layernorm.weight"},
      {"blk.12.ffn_gate.weight", "model.layers.12.mlp.gate_proj.weight"},
      {"blk.12.ffn_up.weight", "model.layers.12.mlp.up_proj.weight"},
      {"blk.12.ffn_down.bias", "model.layers.12.mlp.down_proj.bias"},
  };
  for (const auto& [gguf, huggingface] : pairs) {
    EXPECT_EQ(huggingface_name(gguf), huggingface);
    EXPECT_EQ(gguf_name(huggingface), gguf);
  }
}

TEST(Names, UnknownOnesAreEmpty) {
  for (const char* name :
       {"", ".", "weight", "output", "output.scale", "blk.", "blk.0", "blk.0.",
        "blk..attn_q.weight", "blk.x.attn_q.weight", "blk.1attn_q.weight", "blk.-1.attn_q.weight",
        "blk.0.attn_q", "blk.0.attn_qkv.weight", "blk.0.ffn_gate_inp.weight",
        "blk.0.token_embd.weight", "attn_q.weight", "xblk.0.attn_q.weight", "rope_freqs.weight"}) {
    EXPECT_EQ(huggingface_name(name), "") << name;
    EXPECT_EQ(gguf_name(name), "") << name;
  }
}

TEST(Names, CoverEveryExpectedTensor) {
  Config config = config_from_json(test::tiny_config_json(), "tiny");
  config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
  const auto tensors = expected_tensors(config);
  EXPECT_EQ(tensors.size(), 1u + 18u + 2u);
  for (const auto& tensor : tensors)
    EXPECT_EQ(huggingface_name(gguf_name(tensor.name)), tensor.name);
}

}  // namespace
}  // namespace lockstep
