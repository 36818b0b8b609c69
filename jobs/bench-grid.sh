#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Measures the grid: the Krylov method against p?gesvd on the same grid and matrix, against the Krylov method on one
# rank, and where the time goes on 1, 2 and 4 ranks. Prints the tables of docs/benchmarks.md.
#   bash jobs/bench-grid.sh [ROWS COLS]        default 2048 4096; LOX names the program
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
rows=${1:-2048}
cols=${2:-4096}
lox=${LOX:-$PWD/build/release/src/lox}
if [ ! -x "$lox" ]; then
  bash jobs/install.sh
  cmake --preset release >/dev/null
  cmake --build --preset release --target lox >/dev/null
fi
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_hwloc_base_binding_policy=none
export OMPI_MCA_mpi_yield_when_idle=1 OMP_NUM_THREADS=1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# One matrix: noise and a decaying low-rank part, as alignment leaves it.
/usr/bin/python3 - "$rows" "$cols" <<'PYTHON'
import json
import sys

import numpy as np

rows, cols = map(int, sys.argv[1:])
rng = np.random.default_rng(0)
base = rng.normal(0, 0.02, (rows, cols)).astype(np.float32)
left = rng.normal(size=(rows, 24)) / np.sqrt(rows)
right = rng.normal(size=(24, cols)) / np.sqrt(cols)
edge = 1e-4 * (np.sqrt(rows) + np.sqrt(cols))
delta = (left * (8 * edge / np.arange(1, 25))) @ right + rng.normal(0, 1e-4, (rows, cols))
for name, weights in (("base", base), ("aligned", base + delta)):
    data = weights.astype("<f4").tobytes()
    header = json.dumps({"w": {"dtype": "F32", "shape": [rows, cols], "data_offsets": [0, len(data)]}}).encode()
    header += b" " * (-len(header) % 8)
    with open(f"{name}.safetensors", "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header + data)
PYTHON

run() {  # NAME RANKS options...
  local name=$1 ranks=$2
  shift 2
  mpirun -n "$ranks" "$lox" harden --base base.safetensors --aligned aligned.safetensors --quiet --overwrite \
    --output "$name.safetensors" "$@"
}
for repeat in 1 2 3; do  # the competitors in turn
  run "local-$repeat" 1 --grid never
  for ranks in 1 2 4; do run "krylov-$ranks-$repeat" "$ranks" --grid always; done
done
run gesvd-2 2 --grid always --svd exact

/usr/bin/python3 - "$rows" "$cols" <<'PYTHON'
import glob
import json
import os
import statistics
import sys

rows, cols = sys.argv[1:]


def reports(pattern):
    return [json.load(open(path)) for path in sorted(glob.glob(f"{pattern}.safetensors.report.json"))]


def svd(pattern):
    return statistics.median(r["tensors"][0]["seconds"]["svd"] for r in reports(pattern))


exact, = reports("gesvd-2")
krylov = reports("krylov-2-*")
difference = max(abs(a - b) for a, b in zip(exact["tensors"][0]["sigma"], krylov[0]["tensors"][0]["sigma"]))
print(f"One {rows} x {cols} matrix (F32), k = 6, {os.cpu_count()} cores, one thread a rank; "
      f"median of three runs in turn, p?gesvd once.\n")
print("| method | ranks | svd seconds | against Krylov on the same grid |\n| --- | --- | --- | --- |")
print(f"| Krylov, one rank alone | 1 | {svd('local-*'):.3f} | |")
for ranks in (1, 2, 4):
    print(f"| Krylov on the grid | {ranks} | {svd(f'krylov-{ranks}-*'):.3f} | 1 |")
print(f"| p?gesvd | 2 | {svd('gesvd-2'):.1f} | {svd('gesvd-2') / svd('krylov-2-*'):.0f} |")
print(f"\nSingular values of both differ by at most {difference / exact['tensors'][0]['sigma'][0]:.1e} of the largest; "
      f"certificates {krylov[0]['tensors'][0]['certificate']:.1e} and {exact['tensors'][0]['certificate']:.1e}.\n")
print("Where the time goes (seconds summed over ranks, median of three runs):\n")
print("| ranks | products | communication | orthonormalisation | redistribution |\n| --- | --- | --- | --- | --- |")
for ranks in (1, 2, 4):
    parts = [r["totals"]["grid_seconds"] for r in reports(f"krylov-{ranks}-*")]
    row = [statistics.median(p[key] for p in parts)
           for key in ("products", "communication", "orthonormalisation", "redistribution")]
    print(f"| {ranks} | " + " | ".join(f"{value:.3f}" for value in row) + " |")
PYTHON
