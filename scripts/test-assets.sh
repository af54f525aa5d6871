#!/usr/bin/env bash
# Fetches what the tests need and the tree does not carry, unless it is there: the demo model,
# Mistral's real SentencePiece models, and Python's huggingface_hub. Prints the folder that they are in.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/demo-model.sh >/dev/null
readonly v1=mistral-v1/tokenizer.model v3=mistral-v3/tokenizer.model
[[ -f .cache/$v1 && -f .cache/$v3 ]] || scripts/fetch.sh mistral-common==1.13.1 \
  98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af \
  mistral_common/data/tokenizer.model.v1 \
  dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055 "$v1" \
  mistral_common/data/mistral_instruct_tokenizer_240323.model.v3 \
  9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33 "$v3"
readonly hub=huggingface_hub-0.36.0-py3-none-any.whl
readonly hub_sha256=7bcc9ad17d5b3f07b57c78e79d527102d08313caa278a641993acddcb894548d
[[ -f .cache/$hub ]] ||
  scripts/fetch.sh huggingface_hub==0.36.0 "$hub_sha256" . "$hub_sha256" "$hub"
echo "$PWD/.cache"
