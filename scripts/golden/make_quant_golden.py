#!/usr/bin/env python3
"""Golden data for the checkpoint readers: tests/golden/checkpoint/.

Writes
  quantized_types.gguf.bin   for each supported type a tensor "<type>.packed" of random blocks and a
                             float32 tensor "<type>.values" with what they mean
  <architecture>/            a tiny model in both formats: model.gguf.bin with tensors of all types,
                             config.json and model.safetensors with the same values in float32
  configs/                   config.json as transformers writes it, for every family

The values come from the reference libraries and not from this project: gguf (the ggml project's
Python package) names and dequantizes the tensors, transformers puts the rows of the `llama`
architecture's query and key projections back into its order and writes the configs.

Made with gguf 0.19.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.3.5 and Python 3.11:
  pip install gguf==0.19.0 transformers==5.23.0 torch==2.11.0 safetensors==0.8.0 numpy==2.3.5
  python scripts/golden/make_quant_golden.py
The output depends on the seed below alone.
"""

import pathlib

import gguf
import numpy as np
import safetensors.numpy
import transformers
from gguf import GGMLQuantizationType as Type
from transformers.modeling_gguf_pytorch_utils import LlamaTensorProcessor

SEED = 20
OUTPUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "checkpoint"

# Where each type keeps its float16 scales: byte offsets within a block.
SCALE_OFFSETS = {
    Type.Q4_0: [0],
    Type.Q4_1: [0, 2],
    Type.Q5_0: [0],
    Type.Q5_1: [0, 2],
    Type.Q8_0: [0],
    Type.Q4_K: [0, 2],
    Type.Q5_K: [0, 2],
    Type.Q6_K: [208],
}
PLAIN_TYPES = [Type.F32, Type.F16, Type.BF16]


def random_tensor(rng, kind, rows, columns):
    """(what the file holds, what it means in float32)."""
    if kind in PLAIN_TYPES:
        values = rng.standard_normal((rows, columns)).astype(np.float32)
        packed = gguf.quants.quantize(values, kind)
        return packed, gguf.quants.dequantize(packed, kind).astype(np.float32)
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // block_size, block_bytes), dtype=np.uint8)
    for offset in SCALE_OFFSETS[kind]:
        scales = rng.standard_normal(len(blocks)).astype(np.float16)
        scales[::7] *= np.float16(1e-6)  # subnormal
        blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    packed = blocks.reshape(rows, -1)
    return packed, gguf.quants.dequantize(packed, kind).astype(np.float32)


def add_tensor(writer, name, packed, kind):
    # The writer takes the type of float32 and float16 arrays from numpy, all others as bytes.
    raw = None if kind in (Type.F32, Type.F16) else kind
    writer.add_tensor(name, packed, raw_dtype=raw)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_types(rng):
    writer = gguf.GGUFWriter(OUTPUT / "quantized_types.gguf.bin", "none")
    for kind in PLAIN_TYPES + list(SCALE_OFFSETS):
        packed, values = random_tensor(rng, kind, 3, 768)
        add_tensor(writer, f"{kind.name}.packed", packed, kind)
        add_tensor(writer, f"{kind.name}.values", values, Type.F32)
    finish(writer)


def model_config(architecture):
    sizes = dict(
        vocab_size=24,
        hidden_size=256,
        intermediate_size=32,
        num_hidden_layers=2 if architecture == "llama" else 1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        rms_norm_eps=1e-5,
        rope_theta=50000.0,
        bos_token_id=1,
        eos_token_id=2,
        dtype="float32",
    )
    if architecture == "llama":
        return transformers.LlamaConfig(attention_bias=True, mlp_bias=True, **sizes)
    if architecture == "qwen2":
        return transformers.Qwen2Config(tie_word_embeddings=True, **sizes)
    return transformers.Qwen3Config(**sizes)


def model_tensors(config):
    """Hugging Face names and shapes."""
    hidden, inner = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * config.head_dim
    keys = config.num_key_value_heads * config.head_dim
    qkv_bias = config.model_type in ("llama", "qwen2")
    all_bias = config.model_type == "llama"

    def linear(name, out, into, bias):
        yield f"{name}.weight", (out, into)
        if bias:
            yield f"{name}.bias", (out,)

    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        prefix = f"model.layers.{layer}."
        yield prefix + "input_layernorm.weight", (hidden,)
        yield from linear(prefix + "self_attn.q_proj", queries, hidden, qkv_bias)
        yield from linear(prefix + "self_attn.k_proj", keys, hidden, qkv_bias)
        yield from linear(prefix + "self_attn.v_proj", keys, hidden, qkv_bias)
        if config.model_type == "qwen3":
            yield prefix + "self_attn.q_norm.weight", (config.head_dim,)
            yield prefix + "self_attn.k_norm.weight", (config.head_dim,)
        yield from linear(prefix + "self_attn.o_proj", hidden, queries, all_bias)
        yield prefix + "post_attention_layernorm.weight", (hidden,)
        yield from linear(prefix + "mlp.gate_proj", inner, hidden, all_bias)
        yield from linear(prefix + "mlp.up_proj", inner, hidden, all_bias)
        yield from linear(prefix + "mlp.down_proj", hidden, inner, all_bias)
    yield "model.norm.weight", (hidden,)
    if not config.tie_word_embeddings:
        yield "lm_head.weight", (config.vocab_size, hidden)


def make_model(rng, architecture):
    config = model_config(architecture)
    directory = OUTPUT / architecture
    directory.mkdir(parents=True, exist_ok=True)
    config.to_json_file(directory / "config.json")

    writer = gguf.GGUFWriter(directory / "model.gguf.bin", architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_id)
    if architecture == "llama":
        # Divisors 1, 2, 3, ...: the test knows them.
        writer.add_tensor("rope_freqs.weight", np.arange(1, 5, dtype=np.float32))

    names = gguf.get_tensor_name_map(
        {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}[architecture],
        config.num_hidden_layers,
    )
    processor = LlamaTensorProcessor(config=config.to_dict())
    kinds = list(SCALE_OFFSETS) + PLAIN_TYPES
    expected = {}
    turn = 0
    for name, shape in model_tensors(config):
        stem, suffix = name.rsplit(".", 1)
        gguf_name = f"{names.get_name(stem)}.{suffix}"
        if len(shape) == 1:
            kind = Type.F32
            packed, values = random_tensor(rng, kind, 1, shape[0])
            packed, values = packed.reshape(shape), values.reshape(shape)
        else:
            while gguf.GGML_QUANT_SIZES[kinds[turn % len(kinds)]][0] > shape[1]:
                turn += 1
            kind = kinds[turn % len(kinds)]
            turn += 1
            packed, values = random_tensor(rng, kind, *shape)
        add_tensor(writer, gguf_name, packed, kind)
        if architecture == "llama":
            values = processor.process(values, gguf_name).weights
        expected[name] = np.ascontiguousarray(values)
    finish(writer)
    safetensors.numpy.save_file(expected, directory / "model.safetensors", {"format": "pt"})


def make_configs():
    """What transformers writes for every family, with the fields that change how a model computes."""
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    configs = {
        "llama": transformers.LlamaConfig(),
        "llama3": transformers.LlamaConfig(
            rope_parameters=llama3,
            max_position_embeddings=131072,
            num_key_value_heads=8,
            eos_token_id=[128001, 128008, 128009],
            bos_token_id=128000,
            vocab_size=128256,
            dtype="bfloat16",
        ),
        "llama_linear": transformers.LlamaConfig(
            rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.5},
            attention_bias=True,
            tie_word_embeddings=True,
            dtype="float16",
        ),
        "mistral": transformers.MistralConfig(sliding_window=1024, dtype="float32"),
        "mistral_full": transformers.MistralConfig(sliding_window=None, head_dim=96),
        "qwen2": transformers.Qwen2Config(bos_token_id=151643, eos_token_id=151645),
        "qwen2_sliding": transformers.Qwen2Config(
            use_sliding_window=True, sliding_window=2048, max_window_layers=20
        ),
        "qwen3": transformers.Qwen3Config(tie_word_embeddings=True, attention_bias=True),
    }
    directory = OUTPUT / "configs"
    directory.mkdir(parents=True, exist_ok=True)
    for name, config in configs.items():
        config.to_json_file(directory / f"{name}.json")


def main():
    OUTPUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    make_types(rng)
    for architecture in ("llama", "qwen2", "qwen3"):
        make_model(rng, architecture)
    make_configs()


if __name__ == "__main__":
    main()
