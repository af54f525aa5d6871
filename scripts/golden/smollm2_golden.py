"""SmolLM2-135M-Instruct from its GGUF file: logits on real text, and greedy generations.

The weights come from the gguf package's dequantisation, the forward pass from transformers in
float32; both are cross-checked here (transformers' own GGUF import, a float64 forward).
"""

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import decoders, pre_tokenizers
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from model_reference import architecture_of, float64_logits, sha256, write_json
from smollm2_prompts import PROMPTS, TEXT

NEW_TOKENS = 64
FULL_POSITIONS = 4  # positions whose logits are kept whole
PROBES = 64  # vocabulary entries whose logits are kept at every position
CONTROL_TOKEN = 3  # gguf's tokenizer.ggml.token_type

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def hugging_face_name(name):
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight"""
    *front, kind = name.split(".")
    if front[0] == "blk":
        return f"model.layers.{front[1]}.{LAYER_NAMES[front[2]]}.{kind}"
    return f"{NAMES[front[0]]}.{kind}"


def metadata_of(reader):
    return {key: field.contents() for key, field in reader.fields.items()}


def config_of(metadata):
    heads = metadata["llama.attention.head_count"]
    return transformers.LlamaConfig(
        vocab_size=metadata["llama.vocab_size"],
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=heads,
        num_key_value_heads=metadata["llama.attention.head_count_kv"],
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={
            "rope_type": "default",
            "rope_theta": metadata["llama.rope.freq_base"],
        },
        tie_word_embeddings=True,
    )


def weights_of(reader, config):
    """float32 weights by Hugging Face name; the rotary pairs of q and k back in their halves."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    weights = {}
    for tensor in reader.tensors:
        name = hugging_face_name(tensor.name)
        value = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        module = name.split(".")[-2]
        if module in heads:
            # Row 2i+j of a head (j: which of the pair) is row j*head_dim/2 + i of Hugging Face's.
            pairs = value.reshape(heads[module], config.head_dim // 2, 2, -1)
            value = pairs.swapaxes(1, 2).reshape(value.shape)
        weights[name] = torch.from_numpy(np.ascontiguousarray(value))
    return weights


def model_of(path, config, weights):
    """The reference model. Fails unless transformers' own GGUF import gives the same weights."""
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    if missing != ["lm_head.weight"] or unexpected:
        raise SystemExit(f"{path}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    imported = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    for name, value in weights.items():
        if not torch.equal(value, torch.as_tensor(imported[name])):
            raise SystemExit(f"{path}: transformers imports another {name}")
    return model


def tokenizer_of(path, metadata):
    """Byte-level BPE over the file's vocabulary, digits one by one (`smollm` in GGUF's words)."""
    tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [token for token, kind in zip(tokens, types) if kind == CONTROL_TOKEN]
    tokenizer.add_special_tokens(control)
    return tokenizer


def keep_logits(model, exact_weights, ids, path):
    """Writes the logits of one text; returns their rounding error against float64."""
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]  # [tokens, vocab]
    exact = float64_logits(architecture_of(model.config), exact_weights, ids)
    error = (logits.double() - exact).abs().max() / exact.abs().max()
    rng = np.random.default_rng(2)
    probes = np.sort(rng.choice(logits.shape[1], PROBES, replace=False)).astype(np.int32)
    full = np.linspace(0, len(ids) - 1, FULL_POSITIONS).round().astype(np.int32)
    kept = {
        "input_ids": torch.tensor(ids, dtype=torch.int32),
        "full_positions": torch.from_numpy(full),
        "full_logits": logits[full].contiguous(),
        "argmax": logits.argmax(-1).to(torch.int32),
        "max": logits.max(-1).values,
        "logsumexp": logits.double().logsumexp(-1).float(),
        "probe_ids": torch.from_numpy(probes),
        "probe_logits": logits[:, probes].contiguous(),
    }
    save_file(kept, path)
    return error.item()


def greedy(model, prompt_ids):
    """Logits [NEW_TOKENS, vocab] that the greedy tokens were chosen from; never stops early."""
    cache, feed, rows = transformers.DynamicCache(config=model.config), prompt_ids, []
    for _ in range(NEW_TOKENS):
        output = model(
            torch.tensor([feed]), past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        rows.append(output.logits[0, -1])
        feed = [int(rows[-1].argmax())]
    return torch.stack(rows)


def shortened(values):
    return [float(f"{value:.6g}") for value in values.tolist()]


def generation(model, exact_weights, tokenizer, name, text):
    """One prompt's record; README.md explains the fields."""
    prompt_ids = tokenizer.encode(text, add_special_tokens=False).ids
    logits = greedy(model, prompt_ids)
    ids = logits.argmax(-1)
    top = logits.topk(2).values
    gaps = top[:, 0] - top[:, 1]
    exact = float64_logits(
        architecture_of(model.config),
        exact_weights,
        prompt_ids + ids.tolist()[:-1],
        slice(len(prompt_ids) - 1, None),
    )
    errors = (logits.double() - exact).abs().amax(-1)
    for step in (exact.argmax(-1) != ids).nonzero().flatten().tolist():
        print(f"  {name}: float64 chooses another token at step {step}, gap {gaps[step]:.1e}")
        if gaps[step] > 2 * errors[step]:
            raise SystemExit(f"{name}: float32 and float64 disagree beyond rounding")
    return {
        "name": name,
        "text": text,
        "prompt_ids": prompt_ids,
        "ids": ids.tolist(),
        "completion": tokenizer.decode(ids.tolist(), skip_special_tokens=False),
        "gaps": shortened(gaps),
        "logprobs": shortened(logits.double().log_softmax(-1).gather(1, ids[:, None])[:, 0]),
        "errors": [float(f"{error:.1e}") for error in errors.tolist()],
    }


def make_smollm2(path, out, versions):
    """Writes logits.safetensors and generation.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    reader = gguf.GGUFReader(path)
    metadata = metadata_of(reader)
    config = config_of(metadata)
    weights = weights_of(reader, config)
    model = model_of(path, config, weights)
    tokenizer = tokenizer_of(path, metadata)
    imported = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    for text in [TEXT] + [text for _, text in PROMPTS]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        if imported.encode(text, add_special_tokens=False) != ids:
            raise SystemExit(f"{path}: transformers' own tokenizer differs on {text[:40]!r}")

    exact_weights = {name: value.double() for name, value in weights.items()}
    ids = tokenizer.encode(TEXT, add_special_tokens=False).ids
    rounding = keep_logits(model, exact_weights, ids, out / "logits.safetensors")
    print(f"  logits of {len(ids)} tokens: float32 rounding {rounding:.0e}", flush=True)
    prompts = []
    for name, text in PROMPTS:
        prompts.append(generation(model, exact_weights, tokenizer, name, text))
        tokens, gap = len(prompts[-1]["prompt_ids"]), min(prompts[-1]["gaps"])
        error = max(prompts[-1]["errors"])
        print(f"  {name}: {tokens} tokens, smallest gap {gap:.0e}, largest error {error:.0e}")
    golden = {
        "versions": versions,
        "model": {"file": path.name, "sha256": sha256(path)},
        "logits": {"text": TEXT, "float32_rounding": float(f"{rounding:.1e}")},
        "new_tokens": NEW_TOKENS,
        "prompts": prompts,
    }
    write_json(out / "generation.json", golden)
