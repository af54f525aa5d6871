#!/usr/bin/env bash
# Builds and runs the GPU tests, on a machine with one GPU or several (tests of several ranks use as
# many as there are). Prints what docs/gpu.md records: date, commit, hardware, result.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v nvidia-smi >/dev/null || {
  echo "test-gpu: there is no NVIDIA driver here" >&2
  exit 1
}
cmake --preset dev -DLOCKSTEP_CUDA=ON
cmake --build --preset dev --target cuda_test
date -u +%Y-%m-%d
git log -1 --format=%h 2>/dev/null || true
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
build-dev/cuda_test --gtest_brief=1
