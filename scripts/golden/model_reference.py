"""What the model golden scripts share: a reproducible torch, and a second opinion in float64.

`float64_logits` is a transformer forward written from the formulas alone, independent of
transformers' modeling code. It states the rounding error of the float32 reference, and finds out
whether a feature (a window, a bias, a rope scaling) shows in the logits at all.
"""

import dataclasses
import hashlib
import json
import math
import os
import platform

# One thread and one instruction set: the same bits on every run.
os.environ.setdefault("MKL_CBWR", "AVX2")
os.environ.setdefault("ATEN_CPU_CAPABILITY", "avx2")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import numpy as np  # noqa: E402
import safetensors  # noqa: E402
import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from importlib.metadata import version  # noqa: E402

torch.set_num_threads(1)
torch.set_grad_enabled(False)
torch.use_deterministic_algorithms(True)
torch.backends.mkldnn.enabled = False
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def versions():
    """Versions of everything that has a say in the numbers."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "safetensors": safetensors.__version__,
        "gguf": version("gguf"),
        "numpy": np.__version__,
    }


def write_json(path, value, indent=None):
    separators = (",", ":") if indent is None else (",", ": ")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=indent, separators=separators, ensure_ascii=False)
        file.write("\n")


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclasses.dataclass
class Architecture:
    """The fields of a config that the forward pass depends on."""

    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    eps: float
    rope: dict  # as transformers 5 writes `rope_parameters`
    windows: list  # tokens a query sees in each layer, itself included; 0: all


def architecture_of(config):
    """Reads a transformers config."""
    window = getattr(config, "sliding_window", None) or 0
    if config.model_type == "mistral":
        windows = [window] * config.num_hidden_layers
    elif config.model_type in ("qwen2", "qwen3"):
        windows = [window if kind == "sliding_attention" else 0 for kind in config.layer_types]
    else:
        windows = [0] * config.num_hidden_layers
    head_dim = getattr(config, "head_dim", None)
    return Architecture(
        layers=config.num_hidden_layers,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim or config.hidden_size // config.num_attention_heads,
        eps=config.rms_norm_eps,
        rope=dict(config.rope_parameters),
        windows=windows,
    )


def inverse_frequencies(arch):
    """Radians per position of each of the head_dim/2 rotary pairs."""
    rope, result = arch.rope, []
    for i in range(arch.head_dim // 2):
        frequency = rope["rope_theta"] ** (-2.0 * i / arch.head_dim)
        if rope["rope_type"] == "linear":
            frequency /= rope["factor"]
        elif rope["rope_type"] == "llama3":
            turns = rope["original_max_position_embeddings"] * frequency / (2.0 * math.pi)
            low, high = rope["low_freq_factor"], rope["high_freq_factor"]
            keep = min(1.0, max(0.0, (turns - low) / (high - low)))
            frequency *= keep + (1.0 - keep) / rope["factor"]
        result.append(frequency)
    return torch.tensor(result, dtype=torch.float64)


def float64_logits(arch, weights, ids, positions=slice(None)):
    """Logits [positions, vocab] in float64 of one sequence; `weights` by Hugging Face name."""
    tokens, eps = len(ids), arch.eps

    def norm(x, name):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * weights[name].double()

    def linear(x, name):
        y = x @ weights[name + ".weight"].double().T
        return y + weights[name + ".bias"].double() if name + ".bias" in weights else y

    position = torch.arange(tokens, dtype=torch.float64)
    angle = position[:, None] * inverse_frequencies(arch)  # [tokens, head_dim/2]
    cos, sin = angle.cos()[:, None, :], angle.sin()[:, None, :]

    def rotate(x):  # [tokens, heads, head_dim]; element i turns with element i + head_dim/2
        a, b = x.chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)

    distance = position[:, None] - position[None, :]
    x = weights["model.embed_tokens.weight"].double()[torch.as_tensor(ids)]
    for i in range(arch.layers):
        layer = f"model.layers.{i}."
        h = norm(x, layer + "input_layernorm.weight")
        q = linear(h, layer + "self_attn.q_proj").view(tokens, arch.heads, -1)
        k = linear(h, layer + "self_attn.k_proj").view(tokens, arch.kv_heads, -1)
        v = linear(h, layer + "self_attn.v_proj").view(tokens, arch.kv_heads, -1)
        if layer + "self_attn.q_norm.weight" in weights:
            q = norm(q, layer + "self_attn.q_norm.weight")
            k = norm(k, layer + "self_attn.k_norm.weight")
        q, k = rotate(q), rotate(k)
        seen = distance >= 0
        if arch.windows[i]:
            seen &= distance < arch.windows[i]
        heads = []
        for head in range(arch.heads):
            kv = head * arch.kv_heads // arch.heads
            score = q[:, head] @ k[:, kv].T / math.sqrt(arch.head_dim)
            heads.append(score.masked_fill(~seen, -math.inf).softmax(-1) @ v[:, kv])
        x = x + linear(torch.cat(heads, dim=-1), layer + "self_attn.o_proj")
        h = norm(x, layer + "post_attention_layernorm.weight")
        gate = torch.nn.functional.silu(linear(h, layer + "mlp.gate_proj"))
        x = x + linear(gate * linear(h, layer + "mlp.up_proj"), layer + "mlp.down_proj")
    head = "lm_head" if "lm_head.weight" in weights else "model.embed_tokens"
    return linear(norm(x, "model.norm.weight")[positions], head)
