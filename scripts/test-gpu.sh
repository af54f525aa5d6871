#!/usr/bin/env bash
# Builds and runs the GPU tests, on a machine with one GPU or several: tests of several ranks use as
# many as there are, and are repeated with 4 and 8 ranks that share them. Prints what docs/gpu.md
# records: date, commit, hardware, results. BUILD names a build folder that is there already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v nvidia-smi >/dev/null || {
  echo "test-gpu: there is no NVIDIA driver here" >&2
  exit 1
}
build=${BUILD:-build-dev}
if [[ -z ${BUILD:-} ]]; then
  cmake --preset dev -DLOCKSTEP_CUDA=ON
  cmake --build --preset dev --target cuda_test lockstep
fi
gpus=$(nvidia-smi --list-gpus | wc -l)
tp=$((gpus >= 4 ? 4 : gpus >= 2 ? 2 : 1))
failed=0

# check NAME COMMAND...: runs it and says whether it succeeded.
check() {
  local name=$1 start=$EPOCHREALTIME
  shift
  if "$@"; then echo "ok: $name"; else
    echo "FAILED: $name"
    failed=1
  fi
  awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "    %.2f s\n", b - a }'
}

generate() {
  timeout 240 "$build/lockstep" generate --device cuda --tp "$tp" -m "$@" --ignore-eos \
    --prompt-ids 1,2,3,4,5,6,7,8 >/dev/null
}

# A rank that fails at $1: one error that names it, and an end.
fault() {
  local place=$1 rank=$((tp - 1)) error status=0
  error=$(LOCKSTEP_FAULT=$place:$rank generate bench/models/tinyllama-1.1b --load-format dummy -n 64 2>&1) || status=$?
  [[ $status == 1 && $error == *"rank $rank (cuda:$((rank % gpus))) failed in"*"LOCKSTEP_FAULT asks"* ]] || {
    echo "status $status: $error"
    return 1
  }
}

date -u +%Y-%m-%d
git log -1 --format=%h 2>/dev/null || true
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
check "cuda_test" timeout 400 "$build/cuda_test" --gtest_brief=1
check "no fault" generate bench/models/tinyllama-1.1b --load-format dummy -n 64
for place in load prefill decode; do check "a fault in $place" fault "$place"; done
check "10000 steps on $tp GPUs" generate bench/models/mistral-7b --load-format dummy -n 10000 --max-length 10016
for tp in 4 8; do
  ((gpus < tp)) || continue
  # A kernel that waits for one that finds no room on its GPU ends after the time-out.
  export LOCKSTEP_RANKS_PER_GPU=$(((tp + gpus - 1) / gpus)) LOCKSTEP_TIMEOUT_SECONDS=60
  check "$tp ranks on $gpus GPUs" timeout 600 "$build/cuda_test" --gtest_brief=1 \
    --gtest_filter='*Forward*:Wide*:GenerationOnGpus*:*FailureOnGpus*'
  check "$tp ranks: no fault" generate bench/models/tinyllama-1.1b --load-format dummy -n 64
  for place in load prefill decode; do check "$tp ranks: a fault in $place" fault "$place"; done
done
unset LOCKSTEP_RANKS_PER_GPU LOCKSTEP_TIMEOUT_SECONDS
if command -v compute-sanitizer >/dev/null; then
  for model in llama llama_bf16; do
    for tool in memcheck racecheck; do
      check "$tool of $model" timeout 300 compute-sanitizer --tool "$tool" --error-exitcode 1 \
        --print-limit 5 "$build/lockstep" generate --device cuda --tp 1 -m "tests/golden/model/$model" \
        --ignore-eos --prompt-ids 1,2,3,4,5,6,7,8 -n 12
    done
  done
fi
exit "$failed"
