# SPDX-License-Identifier: MIT
"""Kills at any moment cost nothing but time: what resumes ends with the bytes of an unbroken run.

LOX_KILLS: kills at random moments (default 36, beside those at every sync and write). LOX_SEED: of the moments.
"""
import json
import os
import random
import shutil
import signal
import time
import unittest

import checkpoint
from jobs import SLOW, JobTest

KILLS = int(os.environ.get("LOX_KILLS", "36"))
SEED = int(os.environ.get("LOX_SEED", "1"))


class RandomKills(JobTest):
    """Chains of kills: each run goes on where the last one was killed, on another number of ranks, until one ends."""

    def kill_somehow(self, output, rng, ranks):
        """Starts the job and kills it somehow. Returns how, or nothing if it ended before."""
        way = rng.choice(["rank", "all", "mpirun", "fault"])
        if way == "fault":  # exactly between two steps
            place, most = rng.choice([("write", 8), ("sync", 8), ("item", 5)])
            victim = rng.randrange(max(ranks, 1))
            count = rng.randint(1, most) + (6 if victim == 0 and place != "item" else 0)
            how = f"{place}:{victim}:{count}:kill"
            job = self.start(output=output, ranks=ranks, fault=f"{SLOW},{how}")
        else:
            how = way
            job = self.start(output=output, ranks=ranks, fault=SLOW)
            if rng.random() < 0.7:
                self.wait_for_lines(job, len(self.journal(output)) + rng.randint(1, 4), output)
            time.sleep(rng.random() * rng.choice([0.02, 0.5]))
            pids = job.ranks()
            if way == "rank" and pids:
                job.signal(signal.SIGKILL, [rng.choice(pids)])
            elif way == "all":
                job.signal(signal.SIGKILL, pids)
            elif not job.has_ended():
                job.signal(signal.SIGKILL, [job.pid])
        code = job.wait()
        if code == 0:
            return None
        self.hung += job.launcher_hung
        self.assertNotIn(code, (1, 2, 3, 4, 5, 75), f"{how}: {job.output()}")
        return how

    def chain(self, output, rng, kills):
        """Kills until a run ends by itself or there were enough, then lets it end. Returns the number of kills."""
        story = []
        before = []
        while len(story) < kills:
            ranks = rng.choice([0, 1, 2, 3, 4])
            how = self.kill_somehow(output, rng, ranks)
            if how is None:
                self.assert_whole(output)
                return len(story)
            after = self.journal(output)
            story.append(f"{how} of {ranks} after {len(after)}")
            self.assertEqual(len(set(after)), len(after), f"an item was done twice: {story}")
            if (self.directory / output).exists():  # it had come past the rename
                journal = self.directory / f"{output}.journal"
                if not (journal / "job.json").exists():
                    shutil.rmtree(journal, ignore_errors=True)
                    self.assert_whole(output)
                    return len(story)
                break
            self.assertLessEqual(set(before), set(after), f"a finished item was lost: {story}")
            before = after
        with self.subTest(story=story):
            self.resume(output=output, ranks=rng.choice([0, 2, 3]))
        return len(story)

    def random_kills(self, output, kills):
        rng = random.Random(f"{SEED} {output}")
        done = 0
        chains = 0
        self.hung = 0
        while done < kills:
            done += self.chain(output, rng, min(kills - done, 7))
            chains += 1
            if (self.directory / output).is_dir():
                shutil.rmtree(self.directory / output)
            else:
                (self.directory / output).unlink()
        hung = f", mpirun left hanging by {self.hung}" if self.hung else ""
        print(f"{done} kills in {chains} jobs{hung}", end=" ... ", flush=True)

    def test_safetensors(self):
        self.random_kills("out", KILLS // 2)

    def test_hdf5(self):
        self.random_kills("out.h5", KILLS - KILLS // 2)


class EveryStep(JobTest):
    """A small job killed at the first, second, third ... time that it syncs or writes, until it lives to its end."""

    MATRICES = 2

    def every(self, place, output):
        kills = 0
        while True:
            job = self.start(output=output, fault=f"{place}:0:{kills + 1}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(place=place, kill=kills):
                self.assertFalse((self.directory / output).exists())
                self.resume(output=output)
            shutil.rmtree(self.directory / output, ignore_errors=True)
            (self.directory / output).unlink(missing_ok=True)
        self.assert_whole(output)
        self.assertGreater(kills, 8)
        print(f"{kills} kills", end=" ... ", flush=True)

    def test_syncs_of_safetensors(self):
        self.every("sync", "out")

    def test_syncs_of_hdf5(self):
        self.every("sync", "out.h5")

    def test_writes_of_safetensors(self):
        self.every("write", "out")


class GridKills(JobTest):
    """Items that all ranks solve together: a kill in the middle of one, resumed on other ranks."""

    def test_grid(self):
        rng = random.Random(SEED)
        for ranks in (2, 3, 3):
            victim = rng.randrange(ranks)
            job = self.start("--grid", "always", ranks=ranks, fault=f"grid:{victim}:{rng.randint(2, 4)}:kill")
            self.assertNotEqual(job.wait(), 0)
            self.assertEqual(len(set(self.journal())), len(self.journal()))
        self.assertGreater(len(self.journal()), 2)
        self.lox(*self.arguments("out", "--grid", "always"), ranks=2)
        self.assertEqual(self.leftovers(), [])
        self.lox("verify", "--base", "base", "--aligned", "aligned", "--hardened", "out", "--sample", "100")
        found = checkpoint.read(self.directory / "out")
        local = checkpoint.read(self.models / "out")
        same = sum((found[n].stored == local[n].stored).sum() for n in local)
        self.assertGreaterEqual(same / sum(t.stored.size for t in local.values()), 0.998)


class RandomSeed(JobTest):
    """The seed that a job drew when it began is the journal's from then on."""

    def test_killed_job_keeps_its_seed(self):
        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                output = f"out{ranks}"
                job = self.start("--seed", "random", output=output, ranks=ranks, fault=f"{SLOW},item:0:4:kill")
                self.assertNotEqual(job.wait(), 0)
                self.assertGreater(len(self.journal(output)), 0)
                self.lox(*self.arguments(output, "--seed", "random"), ranks=2 - ranks)
                seed = json.loads((self.directory / f"{output}.report.json").read_text())["job"]["seed"]
                self.assertEqual(self.leftovers(output), [])
                self.lox(*self.arguments("unbroken", "--seed", seed, "--overwrite"))
                self.assertTrue(self.content(self.directory / output) == self.content(self.directory / "unbroken"))


if __name__ == "__main__":
    unittest.main()
