# SPDX-License-Identifier: MIT
"""Matrices solved by all ranks: Krylov against p?gesvd, against one rank, thin products against p?gemm."""
import json
import os
import statistics
from pathlib import Path

import numpy as np

from bench.runs import mpirun, timed

ROWS, COLS = 2048, 4096
RANKS = (1, 2, 4)
REPEATS = 3
PARTS = ("products", "communication", "orthonormalisation", "redistribution")


def write_pair(folder):
    """One matrix: noise and a decaying low-rank part, as alignment leaves it."""
    rng = np.random.default_rng(0)
    base = rng.normal(0, 0.02, (ROWS, COLS)).astype(np.float32)
    left = rng.normal(size=(ROWS, 24)) / np.sqrt(ROWS)
    right = rng.normal(size=(24, COLS)) / np.sqrt(COLS)
    edge = 1e-4 * (np.sqrt(ROWS) + np.sqrt(COLS))
    delta = (left * (8 * edge / np.arange(1, 25))) @ right + rng.normal(0, 1e-4, (ROWS, COLS))
    for name, weights in (("base", base), ("aligned", base + delta)):
        data = weights.astype("<f4").tobytes()
        header = json.dumps({"w": {"dtype": "F32", "shape": [ROWS, COLS], "data_offsets": [0, len(data)]}}).encode()
        header += b" " * (-len(header) % 8)
        (folder / f"{name}.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)


def harden(folder, ranks, *options):
    output = folder / "hardened.safetensors"
    timed(*mpirun(ranks, "harden", "--base", folder / "base.safetensors", "--aligned", folder / "aligned.safetensors",
                  "--output", output, "--overwrite", "--quiet", *options))
    return json.loads(Path(f"{output}.report.json").read_text())


def svd_seconds(reports):
    return statistics.median(report["tensors"][0]["seconds"]["svd"] for report in reports)


def measure(options):
    folder = options.work / "grid"
    folder.mkdir(exist_ok=True)
    write_pair(folder)
    local, krylov = [], {ranks: [] for ranks in RANKS}
    for _ in range(REPEATS):  # in turn
        local.append(harden(folder, 1, "--grid", "never"))
        for ranks in RANKS:
            krylov[ranks].append(harden(folder, ranks, "--grid", "always"))
    exact = harden(folder, 2, "--grid", "always", "--svd", "exact")

    lines = [f"One {ROWS} x {COLS} matrix (F32), k = 6, one thread a rank; median of {REPEATS} runs in turn, p?gesvd once.\n",
             "| method | ranks | svd seconds | times Krylov on the same grid |", "| --- | --- | --- | --- |",
             f"| Krylov, one rank alone | 1 | {svd_seconds(local):.3f} | |"]
    lines += [f"| Krylov on the grid | {ranks} | {svd_seconds(krylov[ranks]):.3f} | 1 |" for ranks in RANKS]
    lines.append(f"| p?gesvd | 2 | {svd_seconds([exact]):.1f} | {svd_seconds([exact]) / svd_seconds(krylov[2]):.0f} |")
    ours, theirs = krylov[2][0]["tensors"][0], exact["tensors"][0]
    difference = max(abs(a - b) for a, b in zip(ours["sigma"], theirs["sigma"])) / theirs["sigma"][0]
    lines.append(f"\nSingular values of both differ by at most {difference:.1e} of the largest; certificates "
                 f"{ours['certificate']:.1e} and {theirs['certificate']:.1e}.\n")

    lines += ["Where the time goes, seconds summed over ranks. With more ranks than cores, communication is mostly waiting for ranks "
              "that are not running.\n", "| ranks | " + " | ".join(PARTS) + " |", "| --- |" + " --- |" * len(PARTS)]
    for ranks in RANKS:
        parts = [report["totals"]["grid_seconds"] for report in krylov[ranks]]
        lines.append(f"| {ranks} | " + " | ".join(f"{statistics.median(p[part] for p in parts):.3f}" for part in PARTS) + " |")

    lines += ["\nA product with 8 columns of a 4096 x 8192 matrix on the grid, milliseconds, median of 9: a local product and a sum along "
              "grid rows or columns, as lox does it, and p?gemm.\n",
              "| ranks | A x | by p?gemm | A^T x | by p?gemm | p?gemm / lox |", "| --- | --- | --- | --- | --- | --- |"]
    program = Path(os.environ["LOX_BENCHMARKS"]) / "grid_benchmark"
    for ranks in RANKS:
        told = json.loads(timed("mpirun", "-n", ranks, program)[1])
        row = [1e3 * seconds for pair in zip(told["own"], told["pgemm"]) for seconds in pair]
        lines.append(f"| {ranks} | " + " | ".join(f"{ms:.1f}" for ms in row) + f" | {sum(told['pgemm']) / sum(told['own']):.1f} |")
    return "\n".join(lines)
