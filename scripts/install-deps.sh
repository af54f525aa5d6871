#!/usr/bin/env bash
# Installs the Debian packages that a task needs, and only calls apt-get when one is missing.
# Usage: scripts/install-deps.sh build|test|ci   (each includes the ones before it)
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config file
  libhwy-dev nlohmann-json3-dev libcli11-dev libspdlog-dev libfmt-dev
  libsentencepiece-dev libpcre2-dev libutf8proc-dev
  libcurl4-openssl-dev libssl-dev libedit-dev
  ca-certificates python3 python3-pip  # for scripts/demo-model.sh
)
test_packages=(
  libgtest-dev libgmock-dev libbenchmark-dev
  openssl python3-filelock python3-requests python3-tqdm python3-yaml  # for the tests of the hub
)
ci_packages=(clang-format groff-base zsh fish)  # the shells: for the test of completion

case "${1:-}" in
  build) ;;
  test) packages+=("${test_packages[@]}") ;;
  ci) packages+=("${test_packages[@]}" "${ci_packages[@]}") ;;
  *)
    echo "usage: $0 build|test|ci" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query apt-get >/dev/null; then
  echo "install-deps: not a Debian system; if the build misses something, install your system's" \
    "equivalents of: ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [[ $state == installed ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

as_root=()
if ((EUID != 0)); then
  if ! command -v sudo >/dev/null; then
    echo "install-deps: run this as root, then try again:" \
      "apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -q "$@" >&2
}

echo "install-deps: installing ${missing[*]}" >&2
# An unreachable third-party source fails the update, but need not fail the installation.
apt update || echo "install-deps: 'apt-get update' failed; trying with the lists at hand" >&2
apt install -y --no-install-recommends "${missing[@]}"
