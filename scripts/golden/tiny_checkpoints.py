"""Tiny seeded checkpoints of every model family, with transformers' float32 logits.

Each is small enough for the tree, but has everything that a real one of its family has, and every
weight and every feature shows in its logits: `check_sensitivity` proves it.
"""

import copy
import dataclasses
import json
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors.torch import load_file, save_file

from model_reference import architecture_of, float64_logits, write_json

# A change that a test must notice changes some logit by at least this, relative to the largest
# logit: a hundred times the tolerance (1e-4) that tests compare with.
VISIBLE = 1e-2


@dataclasses.dataclass
class Case:
    name: str
    covers: str
    family: str
    config: dict
    tokens: int = 48
    dtype: torch.dtype = torch.float32
    shard_size: str = "1GB"
    v4: dict | None = None  # keys that differ in the transformers-4 config.json; None: none is kept
    drop_v4: tuple = ()


def sizes(hidden, heads, kv_heads, intermediate, layers=2, vocab=104, **rest):
    return dict(
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        vocab_size=vocab,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
        **rest,
    )


def rope(theta, kind="default", **rest):
    return {"rope_theta": theta, "rope_type": kind, **rest}


LLAMA3_ROPE = dict(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32
)
WINDOWED = dict(use_sliding_window=True, sliding_window=10)
QWEN2_UNUSED_WINDOW = dict(use_sliding_window=False, sliding_window=8, max_window_layers=0)

CASES = [
    Case("llama", "untied; one query head per KV head; a large eps; v4 without "
         "num_key_value_heads and head_dim", "llama",
         sizes(32, 8, 8, 48, rms_norm_eps=0.02, rope_parameters=rope(10000.0)),
         v4={}, drop_v4=("num_key_value_heads", "head_dim")),
    Case("llama_tied", "tied embeddings; 2 query heads per KV head; 3 layers; several eos ids",
         "llama",
         sizes(32, 8, 4, 40, layers=3, tie_word_embeddings=True, rms_norm_eps=1e-5,
               rope_parameters=rope(100000.0)) | dict(eos_token_id=[2, 3])),
    Case("llama_rope_linear", "rope scaling linear (v4 with the old key `type`); 4 query heads per "
         "KV head", "llama",
         sizes(32, 8, 2, 48, head_dim=8, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0, "linear", factor=4.0)),
         v4=dict(rope_scaling={"type": "linear", "factor": 4.0})),
    Case("llama_rope_llama3", "rope scaling llama3 beyond the original length: frequencies kept, "
         "blended and divided", "llama",
         sizes(32, 8, 2, 40, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5,
               rope_parameters=rope(1000.0, "llama3", **LLAMA3_ROPE)), tokens=72,
         v4=dict(rope_scaling=LLAMA3_ROPE | {"rope_type": "llama3"})),
    Case("llama_bias", "attention_bias and mlp_bias", "llama",
         sizes(32, 8, 4, 48, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-6,
               rope_parameters=rope(10000.0)), v4={}),
    Case("llama_head_dim", "explicit head_dim, not hidden_size / num_attention_heads, no power of "
         "two", "llama",
         sizes(40, 8, 4, 40, head_dim=12, tie_word_embeddings=True, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0))),
    Case("llama_mqa", "one KV head", "llama",
         sizes(32, 8, 1, 56, head_dim=8, rms_norm_eps=1e-5, rope_parameters=rope(10000.0))),
    Case("llama_gqa3", "24 query and 8 KV heads: 3 per KV head, even on 8 ranks; leaves of 3",
         "llama",
         sizes(24, 24, 8, 48, head_dim=4, rms_norm_eps=1e-5, rope_parameters=rope(10000.0))),
    Case("llama_odd", "nothing divides: 9 query and 3 KV heads, hidden 27, intermediate 101, "
         "vocabulary 131", "llama",
         sizes(27, 9, 3, 101, vocab=131, head_dim=6, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0)), tokens=41),
    Case("llama_sharded", "several safetensors files with an index", "llama",
         sizes(32, 8, 4, 48, rms_norm_eps=1e-5, rope_parameters=rope(10000.0)),
         shard_size="30KB", tokens=40),
    Case("llama_bf16", "weights stored as bfloat16 (logits in float32 from the same weights)",
         "llama",
         sizes(64, 8, 4, 56, rms_norm_eps=1e-5, rope_parameters=rope(500000.0)),
         dtype=torch.bfloat16, v4={}),
    Case("mistral", "no sliding window", "mistral",
         sizes(32, 8, 4, 48, head_dim=8, sliding_window=None, rms_norm_eps=1e-5,
               rope_parameters=rope(1000000.0)), v4={}),
    Case("mistral_window", "sliding window of 12, crossed five times", "mistral",
         sizes(32, 8, 2, 48, head_dim=8, sliding_window=12, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0)), tokens=66, v4={}),
    Case("mistral_f16", "weights stored as float16 (logits in float32 from the same weights)",
         "mistral",
         sizes(64, 8, 8, 48, head_dim=8, sliding_window=None, rms_norm_eps=1e-5,
               rope_parameters=rope(10000.0)), dtype=torch.float16),
    Case("qwen2", "qkv biases, tied; v4 with a window that use_sliding_window turns off", "qwen2",
         sizes(32, 8, 2, 64, layers=3, tie_word_embeddings=True, rms_norm_eps=1e-6,
               rope_parameters=rope(1000000.0)), v4=QWEN2_UNUSED_WINDOW),
    Case("qwen2_window", "untied; the first layer full, a window of 10 in the others (v4 with "
         "use_sliding_window and max_window_layers alone)", "qwen2",
         sizes(32, 8, 4, 40, layers=3, rms_norm_eps=1e-6, max_window_layers=1,
               rope_parameters=rope(10000.0), **WINDOWED), tokens=50, v4=WINDOWED),
    Case("qwen3", "q/k norm, explicit head_dim, untied", "qwen3",
         sizes(32, 8, 4, 48, head_dim=8, rms_norm_eps=1e-6, rope_parameters=rope(1000000.0)),
         v4={}),
    Case("qwen3_layer_types", "q/k norm, attention_bias, tied; layer_types alternate, a window of "
         "10", "qwen3",
         sizes(32, 8, 2, 40, layers=3, head_dim=8, tie_word_embeddings=True, attention_bias=True,
               layer_types=["sliding_attention", "full_attention", "sliding_attention"],
               max_window_layers=0, rms_norm_eps=1e-6, rope_parameters=rope(10000.0), **WINDOWED),
         tokens=50),
]


def randomize(model, rng):
    """Fills every parameter: no norm is one, no bias zero, attention is neither flat nor hard."""
    for name, parameter in model.named_parameters():
        values = rng.standard_normal(tuple(parameter.shape))
        if name.endswith("norm.weight"):
            values = 1.0 + 0.25 * values
        elif name.endswith(".bias"):
            values = 0.3 * values
        elif name.endswith("embed_tokens.weight"):
            values = 0.5 * values
        else:
            # Rows of different sizes, as training leaves them.
            gain = 1.6 if "q_proj" in name or "k_proj" in name else 1.0
            rows = np.exp(0.3 * rng.standard_normal((parameter.shape[0], 1)))
            values = values * rows * (gain / np.sqrt(parameter.shape[1]))
        parameter.copy_(torch.from_numpy(values.astype(np.float32)))


def version4_config(case, config):
    """The same model as transformers 4 described it."""
    old = {key: value for key, value in config.items() if key not in ("layer_types", *case.drop_v4)}
    parameters = dict(old.pop("rope_parameters"))
    old["rope_theta"] = parameters.pop("rope_theta")
    if case.family in ("llama", "qwen2", "qwen3"):
        old["rope_scaling"] = None
    if case.family == "llama":
        old["pretraining_tp"] = 1
    old["torch_dtype"] = old.pop("dtype")
    old["transformers_version"] = "4.46.0"
    return dict(sorted((old | case.v4).items()))


def logits_of(directory, ids, dtype=torch.float32):
    """transformers' logits [tokens, vocab], in this dtype, of the checkpoint as it lies on disk."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager"
    ).eval()
    return model, model(torch.tensor([ids]), use_cache=False).logits[0]


def change(a, b):
    """Largest difference, relative to the largest logit."""
    return ((a - b).abs().max() / b.abs().max()).item()


def rms_error(a, b):
    """Root mean square of the difference, relative to that of the logits."""
    return ((a - b).square().mean() / b.square().mean()).sqrt().item()


def check_sensitivity(case, arch, weights, ids, logits):
    """Fails unless every weight, and every feature that the case is there for, shows."""

    def expect_visible(what, other_arch, other_weights):
        seen = change(float64_logits(other_arch, other_weights, ids), logits)
        if not seen >= VISIBLE:
            raise SystemExit(f"{case.name}: {what} changes the logits by {seen:.1e} only")

    for name, weight in weights.items():
        plain = torch.ones_like(weight) if name.endswith("norm.weight") else 0 * weight
        expect_visible(f"making {name} trivial", arch, weights | {name: plain})
    variants = {}
    for i, window in enumerate(arch.windows):
        for other in (0, window - 1, window + 1) if window else (12,):
            windows = [other if j == i else w for j, w in enumerate(arch.windows)]
            variants[f"window {other} in layer {i}"] = dict(windows=windows)
    if arch.rope["rope_type"] != "default":
        variants["no rope scaling"] = dict(rope=arch.rope | {"rope_type": "default"})
    variants["another rope_theta"] = dict(rope=arch.rope | {"rope_theta": 30000.0})
    if arch.eps > 1e-3:
        variants["eps 1e-5"] = dict(eps=1e-5)
    for what, fields in variants.items():
        expect_visible(what, dataclasses.replace(copy.deepcopy(arch), **fields), weights)


def load_weights(directory):
    weights = {}
    for file in sorted(directory.glob("model*.safetensors")):
        weights |= load_file(file)
    return weights


def make_case(case, directory):
    """Writes one checkpoint directory; returns its line of the manifest."""
    rng = np.random.default_rng(zlib.crc32(case.name.encode()))
    config = transformers.AutoConfig.for_model(case.family, **case.config)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    )
    randomize(model, rng)
    model.to(case.dtype).save_pretrained(directory, max_shard_size=case.shard_size)

    ids = rng.integers(0, config.vocab_size, case.tokens).tolist()
    model, logits = logits_of(directory, ids)
    arch, weights = architecture_of(model.config), load_weights(directory)
    exact = float64_logits(arch, weights, ids)
    error = change(logits.double(), exact)
    if error > 1e-5:
        raise SystemExit(f"{case.name}: transformers and the float64 reference differ by {error}")
    check_sensitivity(case, arch, weights, ids, exact)
    _, rounded = logits_of(directory, ids, torch.bfloat16)

    if case.v4 is not None:
        old = version4_config(case, json.loads((directory / "config.json").read_text()))
        write_json(directory / "config_v4.json", old, indent=2)
        check_version4(directory, ids, logits)
    save_file(
        {"input_ids": torch.tensor(ids, dtype=torch.int32), "logits": logits.contiguous()},
        directory / "expected.safetensors",
    )
    return {
        "name": case.name,
        "covers": case.covers,
        "tokens": case.tokens,
        "config_v4": case.v4 is not None,
        "max_abs_logit": float(f"{logits.abs().max().item():.4g}"),
        "float32_rounding": float(f"{error:.1e}"),
        "bfloat16_error": float(f"{rms_error(rounded.double(), exact):.3g}"),
    }


def check_version4(directory, ids, logits):
    """transformers 5 must understand config_v4.json as the same model, bit for bit."""
    with tempfile.TemporaryDirectory() as name:
        copied = shutil.copytree(directory, Path(name) / "model")
        shutil.move(copied / "config_v4.json", copied / "config.json")
        _, again = logits_of(copied, ids)
        if not torch.equal(again, logits):
            raise SystemExit(f"{directory}: config_v4.json describes another model")


def make_tiny_checkpoints(out):
    """Writes all checkpoint directories; returns the manifest's lines."""
    lines = []
    for case in CASES:
        directory = out / case.name
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
        lines.append(make_case(case, directory))
        print(f"  {case.name}: float32 rounding {lines[-1]['float32_rounding']:.0e}", flush=True)
    return lines
