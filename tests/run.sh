#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what is needed, builds and runs the whole test suite. Arguments go to ctest (e.g. -R parity).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash jobs/install.sh --tests
cmake --preset ci
cmake --build --preset ci
ctest --preset ci -j "$(nproc)" "$@"
