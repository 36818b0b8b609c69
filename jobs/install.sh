#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what jobs/packages.txt lists (Debian, Ubuntu), as root or through sudo; with --tests first, what the tests
# need, too (tests/packages.txt). Further packages may be named as arguments. Does nothing if all are there.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

lists=("$here/packages.txt")
if [ "${1:-}" = --tests ]; then
  lists+=("$here/../tests/packages.txt")
  shift
fi
mapfile -t wanted < <(grep -hvE '^[[:space:]]*(#|$)' "${lists[@]}")
wanted+=("$@")
missing=()
for package in "${wanted[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "install.sh: run me as root, or install: ${missing[*]}" >&2; exit 1; }
  as_root=(sudo)
fi
echo "installing ${#missing[@]} packages: ${missing[*]}"
"${as_root[@]}" apt-get update -q >/dev/null
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null
