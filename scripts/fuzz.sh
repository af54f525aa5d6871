#!/bin/sh
# Fuzzes the parsers of checkpoint files with libFuzzer, AddressSanitizer and
# UndefinedBehaviorSanitizer: scripts/fuzz.sh [SECONDS for each target]. Needs clang++.
# Inputs that are worth keeping stay in build-fuzz/corpus; an input that fails is written to
# build-fuzz and named on stderr.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}

cmake -S . -B build-fuzz -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
  -DCMAKE_CXX_COMPILER=clang++ -DLOCKSTEP_CUDA=OFF -DLOCKSTEP_FUZZ=ON \
  -DLOCKSTEP_SANITIZE=fuzzer-no-link,address,undefined
cmake --build build-fuzz --target fuzz_safetensors fuzz_gguf fuzz_config

for target in safetensors gguf config; do
  corpus=build-fuzz/corpus/$target
  mkdir -p "$corpus"
  case $target in
    safetensors) seeds=$(find tests/golden/checkpoint -name '*.safetensors') ;;
    gguf) seeds=$(find tests/golden/checkpoint -name '*.gguf.bin') ;;
    config) seeds=$(find tests/golden/checkpoint/configs -name '*.json') ;;
  esac
  for seed in $seeds; do
    cp "$seed" "$corpus/$(echo "$seed" | tr / -)"
  done
  echo "fuzz_$target: $seconds seconds" >&2
  build-fuzz/fuzz_$target -max_total_time="$seconds" -max_len=300000 -malloc_limit_mb=64 \
    -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 -artifact_prefix=build-fuzz/ "$corpus"
done
