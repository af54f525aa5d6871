"""Microseconds of one layer's causal prompt attention in PyTorch, by library: for comparison with
cuda_ops_bench's "attention of a prompt". Arguments: tokens, query heads, KV heads, head size."""

import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

tokens, heads, kv_heads, size = (int(a) for a in (sys.argv[1:] + ["2048", "32", "8", "128"])[:4])


def random(count):
    return torch.randn(1, count, tokens, size, device="cuda", dtype=torch.bfloat16)


q, k, v = random(heads), random(kv_heads), random(kv_heads)
flops = 2 * tokens * (tokens + 1) * heads * size
for name in ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"):
    try:
        with sdpa_kernel(getattr(SDPBackend, name)):
            run = lambda: torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=True, enable_gqa=True)
            for _ in range(5):
                run()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(20):
                    run()
            times = []
            for _ in range(11):
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                graph.replay()
                end.record()
                end.synchronize()
                times.append(begin.elapsed_time(end) * 1e3 / 20)
            us = sorted(times)[5]
            print(f"{name:<28} {us:9.2f} us {flops / us / 1e6:9.0f} TFLOP/s")
    except RuntimeError as error:
        print(f"{name}: {str(error).splitlines()[0]}")
