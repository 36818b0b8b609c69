#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Loads what lox writes into the programs it is written for: transformers and PEFT, in the versions of
# requirements.txt, from a virtual environment of their own in build/clients; and lets lox read what torch saves there.
# With --vllm, vLLM on the CPU as well, in those of requirements-vllm.txt: 3 GB, and torch's build for CPUs, so not part
# of CI. Takes the program as LOX, else the newest build. Skips with a reason where the packages cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

lox=${LOX:-$(ls -t build/*/src/lox 2>/dev/null | head -n 1)}
[ -n "$lox" ] || { echo "clients: build lox first, or say LOX=..." >&2; exit 2; }
LOX=$(realpath "$lox")
export LOX OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1

# prepare FOLDER REQUIREMENTS: a virtual environment, made once.
prepare() {
  local place=$1 wanted=$2
  if cmp -s "$wanted" "$place/requirements.txt"; then return 0; fi
  rm -rf "$place"
  mkdir -p "$place"
  if ! python3 -m venv "$place/venv" ||
    ! timeout 600 "$place/venv/bin/pip" install -q -r "$wanted" 2>"$place/log"; then
    echo "clients: skipped, the packages of $wanted cannot be had here, not in ten minutes:"
    tail -n 2 "$place/log" || true
    return 1
  fi
  cp "$wanted" "$place/requirements.txt"
}

if prepare build/clients tests/clients/requirements.txt; then
  for test in adapters models sharded; do
    timeout 900 build/clients/venv/bin/python -B "tests/clients/${test}_test.py" -v
  done
fi
if [ "${1:-}" = --vllm ] && prepare build/clients-vllm tests/clients/requirements-vllm.txt; then
  # These are built for another torch, and vLLM needs them for pictures and sound alone.
  build/clients-vllm/venv/bin/pip uninstall -q -y torchvision torchaudio torchcodec
  timeout 900 build/clients-vllm/venv/bin/python -B tests/clients/vllm_test.py -v
fi
