# SPDX-License-Identifier: MIT
"""The study from end to end: train, harden with lox, attack, tabulate, plot. See `--help` and docs/study.md."""

import argparse
import csv
import os
import subprocess
from collections import namedtuple
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import torch

from . import attack, checkpoint, edit, landscape, maps, model, plots, tables, train

COLUMNS = "seed align start k coef attack step asr not_refused new_task benign over_refusal".split()

# A model to attack. `start` is aligned, lox (k 0: full rank), or a control: random, tail, fp32.
Start = namedtuple("Start", "seed align start k coef")

FULL = model.WIDTH  # the rank of every matrix
RANKS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 32, FULL)  # of the effective-rank curve
GRID_K, GRID_COEF = (1, 2, 6, 0), (0.25, 0.5, 1.0, 1.25)
MAIN = (("aligned", 0, 0.0), ("lox", 6, 0.5), ("lox", 6, 1.0), ("lox", 6, 1.25), ("lox", 0, 0.5), ("random", 6, 0.5), ("tail", 6, 0.5))
REST = (
    *(("lox", k, coef) for k in GRID_K for coef in GRID_COEF if ("lox", k, coef) not in MAIN),
    *((control, 6, 1.0) for control in ("random", "tail")),
    *(("fp32", 6, coef) for coef in (0.25, 0.5, 1.25)),
)
DEPTH = (("aligned", 0, 0.0), ("lox", 6, 0.5))
QUICK = (("aligned", 0, 0.0), ("lox", 6, 0.5), ("lox", 6, 1.25), ("random", 6, 0.5))


def plan(seeds, quick):
    """Every (start, attack) of the study, the most telling first."""
    if quick:
        return [(Start(s, "sft", *c), a) for s in seeds for c in QUICK for a in ("mix", "bad100")]
    todo = [(Start(s, align, *c), a) for a in attack.ATTACKS for s in seeds for align in ("sft", "dpo") for c in MAIN]
    todo += [(Start(s, align, *c), a) for a in ("mix", "bad100") for s in seeds for align in ("shallow", "deep") for c in DEPTH]
    return todo + [(Start(s, align, *c), "mix") for s in seeds for align in ("sft", "dpo") for c in REST]


class Study:
    """One output directory: seed-N/{base,sft,...} models, hardened ones beside them, results, plots."""

    def __init__(self, out, lox, side=landscape.SIDE):
        self.out, self.lox, self.side = Path(out), lox, side

    def place(self, seed, name):
        """Directory of a model."""
        return self.out / f"seed-{seed}" / name

    def train(self, seed, aligns):
        """Train what is missing of one seed."""
        single_thread()
        if not self.place(seed, "base").exists():
            checkpoint.save(self.place(seed, "base"), train.base(seed), model.CONFIG)
        start = checkpoint.load(self.place(seed, "base"))
        for align in aligns:
            if not self.place(seed, align).exists():
                checkpoint.save(self.place(seed, align), train.ALIGN[align](start, seed), model.CONFIG)

    def hardened(self, start):
        """Directory of what lox makes of a start."""
        return self.place(start.seed, f"{start.align}-k{start.k or FULL}-c{start.coef:g}")

    def harden(self, seed, align, starts):
        """Have lox solve a pair once, on two ranks, and write from that what is missing of its hardened models."""
        aligned, factors = self.place(seed, align), self.place(seed, f"{align}-factors")
        missing = [start for start in starts if not self.hardened(start).exists()]
        if missing and not factors.exists():
            self.run_lox("factor", "--base", self.place(seed, "base"), "--aligned", aligned, "--output", factors, "--k", FULL)
        for k in dict.fromkeys(start.k for start in missing):
            coefs = ",".join(f"{start.coef:g}" for start in missing if start.k == k)
            names = self.place(seed, f"{align}-k{{k}}-c{{coef}}")
            self.run_lox("apply", "--aligned", aligned, "--factors", factors, "--output", names, "--k", k or FULL, "--coef", coefs)

    def run_lox(self, *words):
        subprocess.run(["mpirun", "-n", "2", self.lox, *map(str, words), "--quiet"], check=True)

    def weights(self, start):
        """The weights of a start, as an attacker would load them."""
        if start.start == "lox":
            return checkpoint.load(self.hardened(start))
        pair = [checkpoint.load(self.place(start.seed, name)) for name in ("base", start.align)]
        if start.start == "aligned":
            return pair[1]
        if start.start == "fp32":
            return edit.top(*pair, start.k, start.coef)
        if start.start == "tail":
            return edit.tail(*pair, start.k, start.coef)
        if start.start == "rank":
            return edit.truncated(*pair, start.k)
        return edit.random(*pair, start.k, start.coef, train.stream(start.seed, train.CONTROL))

    def attack(self, start, name):
        """The result rows of one attack; kept in a file of its own, so that a second run goes on."""
        single_thread()
        part = self.out / "parts" / ("-".join(map(str, (*start, name))) + ".csv")
        if not part.exists():
            if name == "none":
                found = [(0, attack.Judge(start.seed)(train.tensors(self.weights(start))))]
            else:
                found = attack.run(name, self.weights(start), start.seed)
            rows = [{**start._asdict(), "attack": name, "step": step, **figures} for step, figures in found]
            part.parent.mkdir(exist_ok=True)
            write(part.with_suffix(".partial"), rows)
            part.with_suffix(".partial").rename(part)
        return read(part)


def single_thread():
    """One thread a worker: the same sums in the same order on any number of cores."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def write(path, rows):
    """Result rows as CSV."""
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read(path):
    """Result rows from CSV, figures as numbers."""
    kinds = dict.fromkeys(COLUMNS, float) | dict.fromkeys(("align", "start", "attack"), str) | dict.fromkeys(("seed", "k", "step"), int)
    with open(path, newline="") as file:
        return [{name: kinds[name](value) for name, value in row.items()} for row in csv.DictReader(file)]


def shown(out, points, ways):
    """The landscape's plots, and its tables printed."""
    maps.draw(out, points, ways)
    print(landscape.table(points, ways))


def main():
    """Command line."""
    parser = argparse.ArgumentParser(prog="jobs/study.sh", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, SFT, attacks mix and bad100")
    parser.add_argument("--seeds", help="comma-separated; default 0,1,2 (--quick: 0)")
    parser.add_argument("--out", default="study", help="directory for models, results and plots; a second run goes on there")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    parser.add_argument("--landscape", action="store_true", help="only the landscape: maps of ASR around two starts")
    parser.add_argument("--redraw", action="store_true", help="only tables and plots, from DIR/results.csv; the spectrum stays")
    options = parser.parse_args()
    if options.redraw:
        results = read(Path(options.out) / "results.csv")
        plots.draw(Path(options.out), results, {})
        print(tables.everything(results))
        if (Path(options.out) / "landscape.csv").exists():
            shown(Path(options.out), *(landscape.read(Path(options.out) / f"{name}.csv") for name in ("landscape", "ways")))
        return
    seeds = [int(s) for s in (options.seeds or ("0" if options.quick else "0,1,2")).split(",")]

    study = Study(options.out, os.environ["LOX"], landscape.QUICK_SIDE if options.quick else landscape.SIDE)
    todo = plan(seeds, options.quick)
    aligns = list(dict.fromkeys(start.align for start, _ in todo))
    curves = [a for a in aligns if a in ("sft", "dpo")]
    if options.landscape:
        todo, aligns = [], curves
    else:
        todo += [(Start(s, a, "rank", k, 1.0), "none") for s in seeds for a in curves for k in RANKS]
    with ProcessPoolExecutor(options.workers) as pool:
        print(f"training base and {', '.join(aligns)} for seeds {seeds}", flush=True)
        for seed, _ in zip(seeds, pool.map(study.train, seeds, [aligns] * len(seeds))):
            print(f"seed {seed}: trained", flush=True)
        for seed, align in product(seeds, aligns):
            study.harden(seed, align, list(dict.fromkeys(s for s, _ in todo if s[:3] == (seed, align, "lox"))))
            study.harden(seed, align, [Start(seed, align, "lox", landscape.K, landscape.COEF)] if align in curves else [])
        found = landscape.measure(study, pool, [landscape.Pair(s, a) for s in seeds for a in curves])
        shown(study.out, *found)
        if options.landscape:
            return
        results = []
        for (start, name), rows in zip(todo, pool.map(study.attack, *zip(*todo))):
            results += rows
            if name != "none":
                end = rows[-1]
                print(f"seed {start.seed} {start.align} {tables.label(rows[0]):16} {name:6} -> ASR {end['asr']:5.1f}", flush=True)
    write(study.out / "results.csv", results)
    pairs = {(s, a): [checkpoint.load(study.place(s, n)) for n in ("base", a)] for s in seeds for a in curves}
    plots.draw(study.out, results, pairs)
    text = tables.everything(results)
    (study.out / "tables.md").write_text(text)
    print(text)
    print(f"results.csv, landscape.csv, ways.csv, tables.md and plots are in {study.out}")


if __name__ == "__main__":
    main()
