#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Loads what lox writes into the programs it is written for: transformers and PEFT, in the versions of
# requirements.txt, from a virtual environment of their own in build/clients. Takes the program as LOX, else the newest
# build. Skips with a reason where the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

lox=${LOX:-$(ls -t build/*/src/lox 2>/dev/null | head -n 1)}
[ -n "$lox" ] || { echo "clients: build lox first, or say LOX=..." >&2; exit 2; }
LOX=$(realpath "$lox")
place=build/clients
if ! cmp -s tests/clients/requirements.txt "$place/requirements.txt"; then
  rm -rf "$place"
  mkdir -p "$place"
  if ! python3 -m venv "$place/venv" ||
    ! timeout 600 "$place/venv/bin/pip" install -q -r tests/clients/requirements.txt 2>"$place/log"; then
    echo "clients: skipped, the packages of tests/clients/requirements.txt cannot be had here, not in ten minutes:"
    tail -n 2 "$place/log" || true
    exit 0
  fi
  cp tests/clients/requirements.txt "$place/requirements.txt"
fi
export LOX OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1
timeout 900 "$place/venv/bin/python" -B tests/clients/adapters_test.py -v
