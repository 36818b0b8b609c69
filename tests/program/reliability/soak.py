#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tests of this folder for hours: kills and resumes of all tasks that write, many jobs started on one output, power
losses, and fuzzing. Prints what was done and what was found; fails if anything was lost or wrong.

    soak.py --build build/release --state DIR --seconds 3600 [--fuzzers build/asan/tests/fuzz] [kills starts losses fuzz]

Figures are kept in DIR/figures.json: the same command adds to them, with other random numbers. Findings go to
DIR/findings.txt.
"""
import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUPPORT = HERE.parents[1] / "support"
FUZZ = HERE.parents[1] / "fuzz"
MPI = {"OMP_NUM_THREADS": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
       "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_btl_tcp_if_include": "lo",
       "OMPI_MCA_oob_tcp_if_include": "lo", "OMPI_MCA_hwloc_base_binding_policy": "none",
       "OMPI_MCA_mpi_yield_when_idle": "1", "OMPI_MCA_pml": "ob1"}  # as in tests/CMakeLists.txt


class Figures:
    """What was done so far, by kind and name."""

    def __init__(self, place):
        place.mkdir(parents=True, exist_ok=True)
        self.file = place / "figures.json"
        self.findings = place / "findings.txt"
        self.all = json.loads(self.file.read_text()) if self.file.exists() else {}

    def turns(self, kind):
        return self.all.get(kind, {}).get("turns", 0)

    def add(self, kind, counts):
        known = collections.Counter(self.all.get(kind, {}))
        known.update({"turns": 1, **counts})
        self.all[kind] = dict(known)
        half = self.file.with_suffix(".tmp")
        half.write_text(json.dumps(self.all, indent=1, sort_keys=True) + "\n")
        half.replace(self.file)

    def found(self, kind, what):
        with open(self.findings, "a") as file:
            file.write(f"{kind}, turn {self.turns(kind)}: {what}\n\n")
        print(f"{kind}: {what}", flush=True)


class NoTest(unittest.TestCase):
    """For kinds that are none of unittest's."""


class Kind:
    """Turns of one kind of test, for ever; each gives counts and a list of findings."""

    def __init__(self, test=NoTest):
        self.test = test
        test.setUpClass()
        self.one = test()

    def run(self, number):
        """One turn, in a fresh folder."""
        self.one.setUp()
        try:
            return self.turn(number)
        finally:
            self.one.doCleanups()

    def close(self):
        self.test.doClassCleanups()


class Kills(Kind):
    TASKS = ("harden", "harden", "grid", "convert", "synth")

    def __init__(self, _):
        import kill_test
        super().__init__(kill_test.RandomKills)

    def turn(self, number):
        rng = random.Random()  # the moment of a kill cannot be repeated; a finding tells its story
        self.test.counts.clear()
        self.one.chain(self.TASKS[number % 5], rng.choice(self.one.OUTPUTS), rng, rng.randint(2, 9))
        return +self.test.counts, []


class Starts(Kind):
    def __init__(self, _):
        import output_test
        super().__init__(output_test.OneAtATime)
        self.one.setUp()
        self.right = self.one.right_ones()
        self.one.doCleanups()

    def turn(self, number):
        self.one.round(number + 1, self.right)
        return {"rounds": 1, "jobs": 6}, []


class Losses(Kind):
    def __init__(self, _):
        import power_loss_test
        self.cases = power_loss_test.CASES
        super().__init__(power_loss_test.PowerLoss)

    def turn(self, number):
        outcomes, findings = self.one.lose_many(self.cases[number % len(self.cases)], 12, f"soak {number}")
        return {"states": sum(outcomes.values()), **{what.split(":")[0]: n for what, n in outcomes.items()}}, findings


class Fuzz(Kind):
    TARGETS = ("header", "index", "journal", "job", "hdf5", "hdf5_sandboxed")
    SECONDS = "60"

    def __init__(self, arguments):
        super().__init__()
        self.arguments = arguments

    def turn(self, number):
        target = self.TARGETS[number % len(self.TARGETS)]
        program = self.arguments.fuzzers / f"{target}_fuzz"
        corpus = self.arguments.state / "corpus" / target
        made = subprocess.run([sys.executable, FUZZ / "run.py", program, "--seeds", target.split("_")[0], "--seconds",
                               self.SECONDS, "--corpus", corpus], check=False, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        told = re.findall(r"(\d+) executions", made.stdout)
        return {target: int(told[-1]) if told else 0}, [made.stdout[-3000:]] if made.returncode != 0 else []


KINDS = {"kills": Kills, "starts": Starts, "losses": Losses, "fuzz": Fuzz}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--fuzzers", type=Path)
    parser.add_argument("kinds", nargs="*", choices=[[], *KINDS], default=[])
    arguments = parser.parse_args()
    arguments.state = arguments.state.resolve()
    end = time.monotonic() + arguments.seconds
    os.environ.update(MPI, LOX_PATIENCE="1200", LOX=str(arguments.build.resolve() / "src" / "lox"),
                      LOX_WITH_FAULTS=str(arguments.build.resolve() / "tests" / "lox_with_faults"))
    memory = Path("/dev/shm")
    segments = Path(tempfile.mkdtemp(prefix="lox-soak-", dir=memory if memory.is_dir() else None))
    os.environ["OMPI_MCA_btl_vader_backing_directory"] = str(segments)  # killed ranks leave theirs
    sys.path[:0] = [str(HERE), str(SUPPORT), str(FUZZ)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # in good order
    figures = Figures(arguments.state)
    kinds = {name: KINDS[name](arguments) for name in arguments.kinds or KINDS if name != "fuzz" or arguments.fuzzers}
    findings = 0
    try:
        while True:
            for name, kind in kinds.items():
                try:
                    counts, found = kind.run(figures.turns(name))
                except Exception:  # a check that did not hold
                    counts, found = {}, [traceback.format_exc()]
                    kind.close()
                    kinds[name] = KINDS[name](arguments)
                for what in found:
                    figures.found(name, what)
                findings += len(found)
                figures.add(name, {**counts, "lost or wrong": len(found)})
                for left in segments.iterdir():
                    left.unlink()
            if time.monotonic() > end:
                break
    finally:
        for kind in kinds.values():
            kind.close()
        shutil.rmtree(segments, ignore_errors=True)
        print(json.dumps(figures.all, indent=1, sort_keys=True))
    return findings > 0


if __name__ == "__main__":
    sys.exit(main())
