#!/usr/bin/env python3
"""Writes a checkpoint of the right size for a config.json of Llama's or Mistral's kind, in bfloat16, whose
weights mean nothing: for measuring how fast a checkpoint is loaded.

    make_checkpoint.py CONFIG.json FOLDER
"""

import json
import os
import shutil
import struct
import sys
from pathlib import Path

FILE_BYTES = 5 << 30  # of one safetensors file, as on the hub
BLOCK = os.urandom(64 << 20)  # repeated; cleared of the exponents of infinity and of large numbers
BLOCK = bytes(byte & 0xBF if i % 2 else byte for i, byte in enumerate(BLOCK[: 1 << 20])) * 64


def tensors(config):
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or hidden // heads
    kv = config.get("num_key_value_heads", heads) * head_dim
    inner = config["intermediate_size"]
    yield "model.embed_tokens.weight", [config["vocab_size"], hidden]
    for i in range(layers):
        name = f"model.layers.{i}."
        yield name + "input_layernorm.weight", [hidden]
        yield name + "self_attn.q_proj.weight", [heads * head_dim, hidden]
        yield name + "self_attn.k_proj.weight", [kv, hidden]
        yield name + "self_attn.v_proj.weight", [kv, hidden]
        yield name + "self_attn.o_proj.weight", [hidden, heads * head_dim]
        yield name + "post_attention_layernorm.weight", [hidden]
        yield name + "mlp.gate_proj.weight", [inner, hidden]
        yield name + "mlp.up_proj.weight", [inner, hidden]
        yield name + "mlp.down_proj.weight", [hidden, inner]
    yield "model.norm.weight", [hidden]
    if not config.get("tie_word_embeddings", False):
        yield "lm_head.weight", [config["vocab_size"], hidden]


def size_of(shape):
    size = 2
    for dimension in shape:
        size *= dimension
    return size


def write(path, part):
    header, at = {}, 0
    for name, shape in part:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size_of(shape)]}
        at += size_of(shape)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        while at > 0:
            at -= file.write(BLOCK[: min(at, len(BLOCK))])


def main():
    config_path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True)
    shutil.copy(config_path, folder / "config.json")
    parts, filled = [[]], 0
    for name, shape in tensors(json.loads(config_path.read_text())):
        if filled + size_of(shape) > FILE_BYTES:
            parts.append([])
            filled = 0
        parts[-1].append((name, shape))
        filled += size_of(shape)
    weight_map = {}
    for i, part in enumerate(parts, 1):
        file = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        write(folder / file, part)
        weight_map |= {name: file for name, _ in part}
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
