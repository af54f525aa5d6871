#!/usr/bin/env python3
"""Makes tests/golden/model: what a correct forward pass and a correct generation give.

The references are transformers (float32, eager attention, CPU) and, for SmolLM2's quantized
weights, the gguf package's own dequantisation. README.md beside this file says what is in each
file and with which versions the committed ones were made. Every run makes the same bytes.

    python3 scripts/golden/make_model_golden.py --gguf .cache/SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
from pathlib import Path

import model_reference
from smollm2_golden import make_smollm2
from tiny_checkpoints import make_tiny_checkpoints

DEFAULT_OUT = Path(__file__).resolve().parents[2] / "tests" / "golden" / "model"


def print_summary(out):
    total = 0
    print(f"{'KiB':>8}  what")
    for directory in sorted(path for path in out.iterdir() if path.is_dir()):
        size = sum(file.stat().st_size for file in directory.iterdir())
        total += size
        print(f"{size / 1024:8.1f}  {directory.name}: {len(list(directory.iterdir()))} files")
    total += sum(file.stat().st_size for file in out.iterdir() if file.is_file())
    print(f"{total / 1024:8.1f}  in all")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gguf", type=Path, help="SmolLM2-135M-Instruct, Q4_1")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT)
    parser.add_argument("--only", choices=["tiny", "smollm2"], help="make one half alone")
    options = parser.parse_args()
    if options.only != "tiny" and options.gguf is None:
        parser.error("--gguf is needed for SmolLM2's half")
    options.out.mkdir(parents=True, exist_ok=True)
    versions = model_reference.versions()
    print(", ".join(f"{name} {number}" for name, number in versions.items()))

    if options.only != "smollm2":
        lines = make_tiny_checkpoints(options.out)
        manifest = {"versions": versions, "checkpoints": lines}
        model_reference.write_json(options.out / "manifest.json", manifest, indent=1)
    if options.only != "tiny":
        make_smollm2(options.gguf, options.out / "smollm2", versions)
    for file in options.out.glob("*/*.*"):
        file.chmod(0o644)  # safetensors writes files that their owner alone may read
    print_summary(options.out)


if __name__ == "__main__":
    main()
