# SPDX-License-Identifier: MIT
"""`analyze` and `landscape` killed and stopped: what is finished stays, and what resumes ends with the same numbers."""
import json
import shutil
import signal
import unittest

import numpy as np

import checkpoint
import reference
from jobs import SLOW, STOPPED, Job
from program import LoxTest, journal_lines, wait_for

WORDS = ["analyze", "--base", "base", "--aligned", "aligned", "--tuned", "tuned", "--k", "1,3", "--output", "r.json"]
SLOWER = "item:*:*:2000"  # of four matrices: time to start another job, or to signal this one


def make_models(directory):
    rng = np.random.default_rng(1)
    models = {"base": {}, "aligned": {}, "tuned": {}}
    for number, shape in enumerate([(60, 50), (40, 70), (2, 30, 40)]):
        name = f"m{number}"
        models["base"][name], models["aligned"][name] = reference.random_pair(rng, shape)
        models["tuned"][name] = reference.random_pair(rng, shape)[1]
    for name, tensors in models.items():
        checkpoint.write_directory(directory / name, {"model.safetensors": tensors}, index=False)


class AnalyzeKillTest(LoxTest):
    """A small pair and a model tuned from it, and their analysis."""

    def setUp(self):
        super().setUp()
        make_models(self.directory)
        self.lox(*WORDS)
        self.expected = self.numbers()
        (self.directory / "r.json").unlink()

    def numbers(self):
        """What does not depend on the moment; nothing else may be left."""
        left = sorted(path.name for path in self.directory.iterdir())
        self.assertEqual(left, ["aligned", "base", "r.json", "tuned"])
        analysis = json.loads((self.directory / "r.json").read_text())
        for key in ("bytes_read", "seconds", "peak_rss_bytes", "ranks", "rank_seconds"):
            analysis["totals"].pop(key)
        return analysis

    def end(self, ranks=0):
        """The same command again ends with the right numbers."""
        result = self.lox(*WORDS, ranks=ranks)
        self.assertEqual(self.numbers(), self.expected)
        self.assertIn("r.json: finished", self.lox("status", "r.json").out)
        (self.directory / "r.json").unlink()
        return result

    def every(self, place):
        kills = 0
        while True:
            job = Job(self.directory, *WORDS, fault=f"{SLOW},{place}:0:{kills + 1}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(place=place, kill=kills):
                self.end(ranks=kills % 3)
        self.assertEqual(self.numbers(), self.expected)
        (self.directory / "r.json").unlink()
        self.assertGreater(kills, 2)
        print(f"{kills} kills", end=" ... ", flush=True)

    def test_syncs(self):
        self.every("sync")

    def test_writes(self):
        self.every("write")

    def test_removals(self):
        self.every("remove")

    def test_goes_on_where_it_was(self):
        job = Job(self.directory, *WORDS, fault=f"{SLOW},item:0:4:kill")
        self.assertNotEqual(job.wait(), 0)
        self.assertIn("unfinished", self.lox("status", "r.json", code=STOPPED).out)
        other = [*WORDS[:-3], "2", "--output", "r.json"]
        self.assertIn("belongs to another job", self.lox(*other, code=3).err)
        self.assertRegex(self.end(ranks=2).err, r"going on with r.json: [23] of 4 items are finished")

    def test_stopped_by_a_signal(self):
        job = Job(self.directory, *WORDS, fault=SLOWER)  # of two ranks each would have its last matrix in hand
        wait_for(lambda: journal_lines(self.directory / "r.json"), "a finished item")
        job.signal(signal.SIGTERM, [job.pid])
        self.assertEqual(job.wait(), STOPPED)
        self.end(ranks=2)

    def test_two_jobs(self):
        job = Job(self.directory, *WORDS, fault=SLOWER)
        wait_for(lambda: journal_lines(self.directory / "r.json"), "a finished item")
        self.assertIn("another job", self.lox(*WORDS, code=3).err)
        self.assertEqual(job.wait(), 0)
        self.assertEqual(self.numbers(), self.expected)


POINTS = ["landscape", "--base", "base", "--aligned", "aligned", "--tuned", "tuned", "--k", 3, "--at", "0.02,0.05",
          "--at", "0,0.1", "--output", "p_{a}_{b}"]


class LandscapeKillTest(LoxTest):
    """The same pair, and two points beside it: the store, the plane and the points are made by one command."""

    def setUp(self):
        super().setUp()
        make_models(self.directory)
        self.models = {path.name for path in self.directory.iterdir()}
        self.lox(*POINTS)
        self.expected = self.contents()
        self.remove()

    def made(self):
        return [path for path in sorted(self.directory.iterdir()) if path.name not in self.models]

    def contents(self):
        """Points byte by byte, the plane's numbers; the store's own test looks at that."""
        plane = json.loads((self.directory / "p_{a}_{b}.landscape.json").read_text())
        found = {key: plane[key] for key in ("coordinates", "directions", "distances")}
        for path in self.made():
            if path.is_dir() and path.suffix != ".factors":
                found[path.name] = checkpoint.tree(path)
        found["all"] = [path.name for path in self.made()]
        return found

    def remove(self):
        for path in self.made():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def every(self, place, step=1):
        kills = 0
        for count in range(1, 1000, step):
            job = Job(self.directory, *POINTS, fault=f"{place}:0:{count}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(place=place, kill=count):
                self.lox(*POINTS, ranks=kills % 3)
                self.assertEqual(self.contents(), self.expected)
            self.remove()
        self.assertEqual(self.contents(), self.expected)
        self.assertGreater(kills, 5)
        print(f"{kills} kills", end=" ... ", flush=True)

    def test_syncs(self):
        self.every("sync", step=3)

    def test_removals(self):
        self.every("remove", step=2)

    def test_stopped_by_a_signal(self):
        job = Job(self.directory, *POINTS, fault=SLOW, ranks=2)
        job.all_ranks()
        wait_for(lambda: journal_lines(self.directory / "p_{a}_{b}.landscape.json"), "a finished item of the plane")
        job.signal(signal.SIGTERM, job.ranks()[1:])
        self.assertEqual(job.wait(), STOPPED)
        self.lox(*POINTS)
        self.assertEqual(self.contents(), self.expected)


if __name__ == "__main__":
    unittest.main()
