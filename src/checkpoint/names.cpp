#include "checkpoint/names.h"

#include <array>

namespace lockstep {
namespace {

struct Pair {
  std::string_view gguf;
  std::string_view huggingface;
};

constexpr std::array<Pair, 3> kModel{{
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
}};

constexpr std::array<Pair, 11> kLayer{{
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
}};

constexpr Pair kLayerPrefix{"blk.", "model.layers."};

// One spelling of a pair: which one is read and which one is written.
using Spelling = std::string_view Pair::*;

template <std::size_t size>
std::string_view find(const std::array<Pair, size>& pairs, std::string_view name, Spelling from,
                      Spelling to) {
  for (const Pair& pair : pairs)
    if (pair.*from == name) return pair.*to;
  return {};
}

std::string translate(std::string_view name, Spelling from, Spelling to) {
  const auto dot = name.rfind('.');
  if (dot == std::string_view::npos) return {};
  const std::string_view suffix = name.substr(dot);  // ".weight"
  if (suffix != ".weight" && suffix != ".bias") return {};
  std::string_view stem = name.substr(0, dot);

  std::string prefix;
  std::string_view translated;
  if (stem.starts_with(kLayerPrefix.*from)) {
    stem.remove_prefix((kLayerPrefix.*from).size());
    const auto digits = stem.find_first_not_of("0123456789");
    if (digits == 0 || digits == std::string_view::npos || stem[digits] != '.') return {};
    prefix = std::string(kLayerPrefix.*to) + std::string(stem.substr(0, digits + 1));
    translated = find(kLayer, stem.substr(digits + 1), from, to);
  } else {
    translated = find(kModel, stem, from, to);
  }
  if (translated.empty()) return {};
  return prefix + std::string(translated) + std::string(suffix);
}

}  // namespace

std::string huggingface_name(std::string_view gguf_name) {
  return translate(gguf_name, &Pair::gguf, &Pair::huggingface);
}

std::string gguf_name(std::string_view huggingface_name) {
  return translate(huggingface_name, &Pair::huggingface, &Pair::gguf);
}

}  // namespace lockstep
