# SPDX-License-Identifier: MIT
"""`factor` and `apply` killed at every sync and write, and at random: what resumes ends with the same bytes.

LOX_KILLS: kills at random moments of each task (default 12). LOX_SEED: of the moments.
"""
import os
import random
import shutil
import unittest

import numpy as np

import checkpoint
import reference
from jobs import SLOW, Job, KilledTasks

KILLS = int(os.environ.get("LOX_KILLS", "12"))
SEED = int(os.environ.get("LOX_SEED", "1"))


class FactorsKillTest(KilledTasks):
    """A small pair, its store, and two models made of it; `tasks` has the words that make them again."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        base, aligned = {}, {}
        for number, shape in enumerate([(60, 50), (40, 70), (2, 30, 40)]):
            base[f"m{number}"], aligned[f"m{number}"] = reference.random_pair(rng, shape)
        base["norm"], aligned["norm"] = reference.random_pair(rng, (50,))
        for name, tensors in (("base", base), ("aligned", aligned)):
            checkpoint.write_directory(self.directory / name, {"model.safetensors": tensors}, index=False,
                                       files={"config.json": b"{}"})
        self.tasks = {
            "factor": (["factor", "--base", "base", "--aligned", "aligned", "--k", 4, "--output", "out"], ["out"]),
            "factor h5": (["factor", "--base", "base", "--aligned", "aligned", "--k", 4, "--output", "out.h5"],
                          ["out.h5"]),
            "apply": (["apply", "--aligned", "aligned", "--factors", "store", "--coef", "0.5,1", "--output",
                       "out-{coef}"], ["out-0.5", "out-1"]),
        }
        self.lox("factor", "--base", "base", "--aligned", "aligned", "--k", 4, "--output", "store")
        self.make_expected()

    def test_syncs(self):
        for task in self.tasks:
            self.every(task, "sync")

    def test_writes(self):
        for task in ("factor", "apply"):
            self.every(task, "write")

    def test_at_random(self):
        rng = random.Random(SEED)
        for task in self.tasks:
            self.at_random(task, rng, KILLS)

    def several(self, *options, output, code=0):
        return self.lox("apply", "--aligned", "aligned", "--factors", "store", *options, "--output", output, code=code)

    def test_another_template(self):
        """What was begun under some names is not gone on with under others."""
        words = ("--k", "1,2", "--coef", "1,2")
        job = Job(self.directory, "apply", "--aligned", "aligned", "--factors", "store", *words, "--output",
                  "o{k}-{coef}", fault=f"{SLOW},item:0:3:kill")
        self.assertNotEqual(job.wait(), 0)
        self.assertIn("belongs to another job", self.several(*words, output="o{coef}-{k}", code=3).err)
        self.several(*words, output="o{k}-{coef}")
        for name in ("o1-2", "o2-1"):
            self.lox("verify", "--aligned", "aligned", "--factors", "store", "--hardened", name, "--k", name[1],
                     "--coef", name[3], "--sample", 0)

    def test_one_of_several_taken_away(self):
        """In each state between the names and the end: what is gone is told, and nothing is called finished."""
        states = 0
        for removal in range(1, 12):
            job = Job(self.directory, *self.tasks["apply"][0], fault=f"remove:0:{removal}:kill")
            if job.wait() == 0:
                break
            if (self.directory / "out-0.5").exists() and (self.directory / "out-1").exists():
                states += 1
                shutil.rmtree(self.directory / "out-1")
                self.assertIn("out-1", self.several("--coef", "0.5,1", output="out-{coef}", code=3).err)
                self.assertFalse((self.directory / "out-1").exists())
            for left in self.directory.glob("out-*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        self.assertGreater(states, 2)


if __name__ == "__main__":
    unittest.main()
