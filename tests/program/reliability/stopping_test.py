# SPDX-License-Identifier: MIT
"""Signals and time limits stop a job in good order: exit code 75 from all ranks, and the same command goes on."""
import signal
import subprocess
import time
import unittest

import numpy as np

import checkpoint
import reference
from jobs import MPIEXEC, SLOW, STOPPED, USAGE, JobTest, wait_for

SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)


class Stopping(JobTest):
    def codes(self, ranks):
        return [int((self.directory / f"code.{rank}").read_text()) for rank in range(ranks)]

    def stop(self, number, to_all, ranks, output="out", codes=False):
        """Signals one or all ranks of a job in the middle; checks that all end with 75 and that it can go on."""
        job = self.start(output=output, ranks=ranks, fault=SLOW, codes=codes)
        pids = job.all_ranks()
        self.wait_for_lines(job, 2, output)
        job.signal(number, pids if to_all else pids[-1:])
        start = time.monotonic()
        said = self.assert_ended(job, 0 if codes else STOPPED)
        self.assertLess(time.monotonic() - start, 10)
        self.assertIn("stopped early; the same command goes on from here", said)
        if codes:
            self.assertEqual(self.codes(ranks), [STOPPED] * ranks)
        self.assert_unfinished(output)
        done = len(self.journal(output))
        self.assertGreaterEqual(done, 2)
        self.assertIn(f"{done} of {self.items} items are finished", self.resume(output=output, ranks=3).err)

    def test_each_signal_to_one_of_three_ranks(self):
        for number in SIGNALS:
            with self.subTest(signal=number):
                self.stop(number, to_all=False, ranks=3, output=f"out{number}", codes=True)

    def test_each_signal_to_all_of_three_ranks(self):
        for number in SIGNALS:
            with self.subTest(signal=number):
                self.stop(number, to_all=True, ranks=3, output=f"out{number}", codes=True)

    def test_each_signal_without_mpirun(self):
        for number in SIGNALS:
            with self.subTest(signal=number):
                self.stop(number, to_all=True, ranks=0, output=f"out{number}")

    def test_hdf5(self):
        self.stop(signal.SIGUSR1, to_all=False, ranks=2, output="out.h5")

    def test_signal_to_mpirun(self):
        """SIGUSR1 and SIGUSR2 are passed on by Open MPI's mpirun. MPICH's passes SIGTERM on, and dies of SIGUSR2."""
        told = subprocess.run([MPIEXEC, "--version"], check=True, capture_output=True, text=True).stdout
        for number in (signal.SIGUSR1, signal.SIGTERM if told.startswith("HYDRA") else signal.SIGUSR2):
            with self.subTest(signal=number):
                output = f"out{number}"
                job = self.start(output=output, ranks=2, fault=SLOW)
                job.all_ranks()
                self.wait_for_lines(job, 2, output)
                job.signal(number, [job.pid])
                self.assert_ended(job, STOPPED)
                self.assert_unfinished(output)
                self.resume(output=output, ranks=2)

    def test_on_the_grid(self):
        job = self.start("--grid", "always", ranks=2, fault="grid:*:*:250")
        pids = job.all_ranks()
        self.wait_for_lines(job, 2)
        job.signal(signal.SIGUSR1, pids[:1])
        self.assert_ended(job, STOPPED)
        self.assert_unfinished()
        self.lox(*self.arguments("out", "--grid", "always"), ranks=2)
        self.assertEqual(self.leftovers(), [])

    def test_stopped_again_and_again(self):
        """However often it is stopped, it comes to its end, and the report is whole."""
        stops = 0
        while True:
            job = self.start(ranks=stops % 3, fault=SLOW)
            self.wait_for_lines(job, len(self.journal()) + 3)
            job.signal(signal.SIGTERM, job.ranks()[:1])
            if job.wait() == 0:
                break
            stops += 1
            self.assertLess(stops, 20)
        self.assert_whole()
        self.assertGreater(stops, 1)


class TimeLimit(JobTest):
    def test_option(self):
        start = time.monotonic()
        job = self.start("--time-limit", "12s", ranks=2, fault="item:*:*:600")
        self.assert_ended(job, STOPPED)
        self.assertLess(time.monotonic() - start, 12)
        self.assert_unfinished()
        self.assertGreater(len(self.journal()), 0)
        self.resume("--time-limit", "1h", ranks=2)

    def test_end_of_the_slurm_job(self):
        start = time.time()
        job = self.start(ranks=2, fault="item:*:*:600", environment={"SLURM_JOB_END_TIME": str(int(start) + 13)})
        self.assert_ended(job, STOPPED)
        self.assertLess(time.time() - start, 12)
        self.assert_unfinished()
        self.resume(ranks=2)

    def test_less_than_it_takes_to_begin(self):
        self.assert_ended(self.start("--time-limit", "1s"), STOPPED)
        self.assert_unfinished()
        self.resume()


class Idle(JobTest):
    def test_time_that_is_never_enough(self):
        """Each run says so; the fifth in a row ends with a code that no script requeues. More time finishes the job."""
        for run in range(1, 6):
            job = self.start("--time-limit", "1s", ranks=2)
            self.assert_ended(job, STOPPED if run < 5 else USAGE)
            self.assertIn("before one matrix was finished", job.output())
        self.assertIn("5 runs in a row", job.output())
        self.assert_unfinished()
        self.resume(ranks=2)

    def test_one_matrix_is_enough(self):
        """Runs that finish something begin the count anew."""
        for limit in ("1s", "1s", "1s", "1s", "12s", "1s", "1s"):
            self.assert_ended(self.start("--time-limit", limit, ranks=2, fault="item:*:*:600" if limit == "12s" else ""), STOPPED)
        self.resume(ranks=2)


class Urgency(JobTest):
    """One signal lets the matrix in hand be finished, a second one drops it in its iterations; SIGUSR2 may be repeated."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(5)
        pairs = {name: reference.random_pair(rng, (500, 500), "noise") for name in ("a", "b", "c")}
        for side, model in enumerate(("base", "aligned")):
            checkpoint.write_directory(self.directory / f"noise-{model}",
                                       {"model.safetensors": {name: pair[side] for name, pair in pairs.items()}})

    def arguments(self, output="out", *more):
        return ("harden", "--base", "noise-base", "--aligned", "noise-aligned", "--output", output, *more)

    def stopped(self, output, signals):
        """How many items were finished when signals came just before the iterations of the first."""
        job = self.start(output=output, fault="item:0:1:1500")
        journal = self.directory / f"{output}.journal" / "rank-00000.jsonl"
        wait_for(lambda: journal.exists() or job.has_ended(), "the start")
        time.sleep(0.2)
        for number in signals:
            job.signal(number, job.ranks())
            time.sleep(0.05)  # pending signals of one kind are one
        self.assert_ended(job, STOPPED)
        return len(self.journal(output))

    def test_second_signal_drops_the_matrix(self):
        usr1, usr2, term = SIGNALS
        finished = {"once": ((usr1,), 1), "twice": ((usr1, usr1), 0), "other": ((usr1, term), 0),
                    "repeated": ((usr2, usr2, usr2), 1), "more": ((usr2, usr2, usr1), 0), "after": ((term, usr2), 0)}
        for output, (signals, expected) in finished.items():
            with self.subTest(signals=signals):
                self.assertEqual(self.stopped(output, signals), expected)
        for output in (*finished, "never"):
            self.lox(*self.arguments(output))
            self.assertEqual(self.leftovers(output), [])
        for output in finished:
            self.assertEqual(checkpoint.tree(self.directory / output), checkpoint.tree(self.directory / "never"))


if __name__ == "__main__":
    unittest.main()
