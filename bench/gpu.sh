#!/usr/bin/env bash
# Measures what docs/gpu.md records, on a machine with GPUs: decode and prefill against the floor, single
# layers, loading. Results go to the folder OUT (gpu-results), one file each. BUILD: the build folder
# (build-dev); XLA_DECODE: a program that decodes with JAX, for comparison in the same run.
#
#   bench/gpu.sh [decode] [prefill] [layers] [load] [xla]      without: all
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

build=${BUILD:-build-dev} out=${OUT:-gpu-results} runs=${RUNS:-5}
gpus=$(nvidia-smi --list-gpus | wc -l)
degrees=1
for tp in 2 4 8; do ((tp <= gpus)) && degrees+=,$tp; done
mkdir -p "$out"
parts=" ${*:-decode prefill layers load xla} "

wanted() { [[ $parts == *" $1 "* ]]; }
bench() {
  local model=$1 name=$2
  shift 2
  timeout 500 "$build/lockstep" bench --device cuda -m "bench/models/$model" --load-format dummy \
    --runs "$runs" --json "$@" >"$out/$name.json" || echo "$name failed"
}

timeout 120 "$build/lockstep" doctor --json >"$out/doctor.json"
if wanted decode; then
  bench mistral-7b mistral-7b --tp "$degrees" --batch 1,8,32 --prompt 128 -n 256
  bench tinyllama-1.1b tinyllama-1.1b --tp "$degrees" --prompt 128 -n 256
  bench qwen3-4b qwen3-4b --tp "$degrees" --prompt 128 -n 256
fi
if wanted prefill; then
  bench mistral-7b prefill --tp "$degrees" --prompt 2048 --prefill-chunk 2048 -n 8
  bench mistral-7b prefill-deterministic --tp "$degrees" --prompt 2048 --prefill-chunk 2048 -n 8 --deterministic
fi
if wanted layers; then
  for example in all_reduce tp_ffn tp_attention tp_transformer_block; do
    for tp in ${degrees//,/ }; do
      echo "$example --tp $tp"
      timeout 100 "$build/examples/$example" --device cuda --tp "$tp" --runs "$runs"
    done
  done >"$out/layers.txt" 2>&1
fi
if wanted load; then
  model=$(mktemp -d)/mistral-7b
  python3 bench/make_checkpoint.py bench/models/mistral-7b/config.json "$model"
  cat "$model"/*.safetensors >/dev/null # into the page cache
  for tp in ${degrees//,/ }; do
    for ((run = 0; run < 3; ++run)); do
      start=$EPOCHREALTIME
      timeout 100 "$build/lockstep" generate --device cuda --tp "$tp" -m "$model" --prompt-ids 1,2,3 -n 1 \
        --max-length 512 2>&1 >/dev/null | tail -1
      awk -v a="$start" -v b="$EPOCHREALTIME" -v tp="$tp" \
        'BEGIN { printf "tp %d: %.2f s from the start of the process to its end\n", tp, b - a }'
    done
  done >"$out/load.txt" 2>&1
  rm -r "$(dirname "$model")"
fi
if wanted xla && [[ -n ${XLA_DECODE:-} ]]; then
  for tp in 1 $gpus; do timeout 250 python3 "$XLA_DECODE" "$tp" 256; done >"$out/xla.txt" 2>&1
fi
