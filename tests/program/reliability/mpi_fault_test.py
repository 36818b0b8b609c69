# SPDX-License-Identifier: MIT
"""Every MPI call is checked: each fails in turn, and no run goes on with what it did not receive."""
import os
import random
import re
import shutil
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import checkpoint
from jobs import LOX_WITH_FAULTS
from program import PATIENCE, run

RANKS = 3
RUNS = int(os.environ.get("LOX_MPI_FAULTS", "80"))  # how many of the cases are tried
SPREAD = 4  # calls of a function on a rank that may fail, beside the first three and each place's first and last
# How often they are called depends on time: ranks that wait poll for messages, and tell of progress now and then.
VARIES = {"MPI_Iprobe", "MPI_Send", "MPI_Recv"}
# What may fail unnoticed, after so many calls that may not: nothing depends on it.
UNNOTICED = {
    "MPI_Comm_free": 2,  # ~ProcessGrid gives back its communicators, which nobody uses any more; node_spread checks
    "MPI_Finalized": 0,  # destructors ask it only to know whether there is something to give back
    "MPI_Finalize": 0,  # the last call of all
}
# The last so many calls on a rank may fail while rank 0 publishes, or after it has: by then it has received all that
# the output depends on. The run must still end with an error.
LATE = {
    ("MPI_Allreduce", 0): 1,  # whether all ranks know that rank 0 has published
    ("MPI_Allreduce", 1): 1,
    ("MPI_Gatherv", 1): 1,  # rank 0 has what this rank did
}
OTHERS = {"MPI_Get_library_version": ("--version",)}


class MpiFaults(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        for role in ("base", "aligned"):
            made = run("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet",
                       directory=cls.directory)
            assert made.code == 0, made.err
        cls.expected, cls.counts, cls.places = {}, {}, {}
        for grid in ("always", "never"):
            made = cls.harden(grid, f"whole-{grid}", f"LOX_MPI_COUNT=counts-{grid}")
            assert made.code == 0, made.err
            cls.expected[grid] = checkpoint.tree(cls.directory / f"whole-{grid}")
            for rank in range(RANKS):
                counts, places = {}, {}
                for line in (cls.directory / f"counts-{grid}.{rank}").read_text().splitlines():
                    function, place, first, last = line.split()
                    counts[function] = max(counts.get(function, 0), int(last))
                    places[function, place] = int(first), int(last)
                cls.counts[grid, rank], cls.places[grid, rank] = counts, places

    @classmethod
    def harden(cls, grid, output, setting):
        return run(setting, LOX_WITH_FAULTS, "harden", "--base", "base", "--aligned", "aligned", "--output", output,
                   "--grid", grid, program="/usr/bin/env", ranks=RANKS, directory=cls.directory, timeout=PATIENCE)

    def cases(self):
        """(grid, function, rank, n). Each place in the code that calls MPI fails at its first call on one rank and at
        its last on the other; then come others, drawn from its first and last calls elsewhere and from a few spread
        over all calls of the function."""
        always, others = {}, {}
        for (grid, rank), places in self.places.items():
            if rank == 2:
                continue  # like rank 1
            for (function, place), ends in places.items():
                calls = self.counts[grid, rank][function]
                last = min(calls, 3) if function in VARIES else calls
                first, end = min(ends[0], last), min(ends[1], last)
                if grid == "always" or (function, place) not in self.places["always", rank]:
                    always[grid, function, rank, first if rank == 1 else end] = place
                spread = {last - last * i // SPREAD for i in range(SPREAD)}
                for n in sorted({1, 2, 3, first, end} | spread):
                    if n <= calls:
                        others[grid, function, rank, n] = place
        others = [case for case in others if case not in always]
        wanted = max(0, min(RUNS - len(always), len(others)))
        return [*always, *random.Random(1).sample(others, wanted)]

    def check(self, case):
        """What is wrong with the run in which this call fails, or an empty text."""
        grid, function, rank, n = case
        output = "-".join(map(str, case)) + "-out"  # no name begins with another
        try:
            ended = self.harden(grid, output, f"LOX_MPI_FAULT={function}:{rank}:{n}")
        except subprocess.TimeoutExpired:
            return f"{case}: it did not end"
        said = ended.out + ended.err
        path = self.directory / output
        unnoticed = function in UNNOTICED and n > UNNOTICED[function]
        late = self.counts[grid, rank][function] - n < LATE.get((function, rank), 0)
        wrong = []
        if path.exists() and checkpoint.tree(path) != self.expected[grid]:
            wrong.append("it published other bytes")
        if f"injected: {function} fails" not in said:
            if function not in VARIES or ended.code != 0:
                wrong.append("the call was not made")
        elif not unnoticed:
            if ended.code == 0:
                wrong.append("it ended well")
            if not re.search(rf"^lox: error( on rank {rank})?: {function}: ", said, re.MULTILINE):
                wrong.append("it did not say what failed")
            if not late and (path.exists() or f"wrote {output}" in said):
                wrong.append("it published its output")
        for left_over in self.directory.glob(f"{output}*"):
            if left_over.is_dir():
                shutil.rmtree(left_over)
            else:
                left_over.unlink()
        return f"{case}: {', '.join(wrong)} (exit code {ended.code})\n{said}" if wrong else ""

    def test_each_call_fails(self):
        cases = list(self.cases())
        with ThreadPoolExecutor(2) as pool:
            wrong = [text for text in pool.map(self.check, cases) if text]
        functions = {function for _, function, _, _ in cases}
        places = {place for known in self.places.values() for place in known}
        calls = sum(sum(self.counts[key].values()) for key in self.counts if key[1] != 2)
        print(f"{len(functions)} functions, {len(places)} places, {calls} calls, {len(cases)} runs")
        self.assertFalse(wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong))

    def test_outside_of_jobs(self):
        """What only other commands call."""
        for function, arguments in OTHERS.items():
            with self.subTest(function=function):
                ended = run(f"LOX_MPI_FAULT={function}:0:1", LOX_WITH_FAULTS, *arguments, program="/usr/bin/env",
                            directory=self.directory, timeout=PATIENCE)
                self.assertIn(f"injected: {function} fails", ended.err)
                self.assertNotEqual(ended.code, 0)
                self.assertEqual(ended.out, "")

    def test_all_that_the_sources_call_fails(self):
        sources = Path(__file__).resolve().parents[3] / "src"
        called = set()
        for path in sources.rglob("*.cpp"):
            called |= set(re.findall(r"\b(MPI_[A-Z][a-z_]+)\(", path.read_text()))
        tried = {case[1] for case in self.cases()} | set(OTHERS)
        # MPI_Abort ends the program, and MPI_Error_string only words a failure.
        self.assertEqual(called - {"MPI_Abort", "MPI_Error_string"}, tried)

    def test_no_call_fails(self):
        for grid in ("always", "never"):
            with self.subTest(grid=grid):
                beyond = self.counts[grid, 1]["MPI_Allreduce"] + 1
                ended = self.harden(grid, f"beyond-{grid}", f"LOX_MPI_FAULT=MPI_Allreduce:1:{beyond}")
                self.assertEqual(ended.code, 0, ended.err)
                self.assertEqual(checkpoint.tree(self.directory / f"beyond-{grid}"), self.expected[grid])


if __name__ == "__main__":
    unittest.main()
