#!/usr/bin/env bash
# Formats every C++ file of the tree in place; with --check it changes nothing and fails if it would.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
options=(-i)
[[ ${1:-} != --check ]] || options=(--dry-run --Werror)

# Run in parallel: parsing is the cost.
find . \( -name 'build*' -o -name '.?*' \) -prune -o -type f \
  \( -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu' \) -print0 |
  xargs -0 -r -n 8 -P "$(nproc)" clang-format --style=file "${options[@]}"
