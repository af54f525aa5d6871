// Tensor names: GGUF's and Hugging Face's. Pure functions.
#pragma once

#include <string>
#include <string_view>

namespace lockstep {

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; empty when it is not the name
// of a tensor that a model here has.
std::string huggingface_name(std::string_view gguf_name);

// The other way round; empty likewise.
std::string gguf_name(std::string_view huggingface_name);

}  // namespace lockstep
