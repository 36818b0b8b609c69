# SPDX-License-Identifier: MIT
"""Kills at any moment cost nothing but time: what resumes ends with the bytes of an unbroken run.

LOX_KILLS: kills at random moments (default 36, beside those at every sync and write). LOX_SEED: of the moments.
"""
import collections
import json
import os
import random
import shutil
import signal
import time
import unittest
from pathlib import Path

import numpy as np

import checkpoint
from jobs import SLOW, Job, JobTest
from program import run

KILLS = int(os.environ.get("LOX_KILLS", "36"))
SEED = int(os.environ.get("LOX_SEED", "1"))


class RandomKills(JobTest):
    """Chains of kills: each run goes on where the last one was killed, on another number of ranks, until one ends.

    In every third chain an old output stands in the way, which --overwrite names."""

    PAUSE = {"harden": "item:*:*:60", "grid": "item:*:*:60", "convert": "write:*:*:10", "synth": "write:*:*:10"}
    OUTPUTS = ("out", "out.h5", "out.safetensors")
    # (place, how often it is passed at most), by rank 0 alone or by any
    OF_ROOT = [("rename", 4), ("remove", 12), ("folder", 8)]
    OF_ALL = [("write", 9), ("sync", 9), ("folder", 2)]

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.unbroken = {}
        cls.counts = collections.Counter()

    def words(self, task, output, *more):
        if task == "convert":
            return ("convert", "aligned", output, *more)
        if task == "synth":
            return ("synth", output, "--shape", "tiny", "--layers", "1", "--seed", "5", *more)
        return self.arguments(output, *(("--grid", "always") if task == "grid" else ()), *more)

    def expected_of(self, task, output):
        """(content, report) that an unbroken run on one rank makes."""
        if (task, output) not in self.unbroken:
            path = self.directory / f"unbroken{Path(output).suffix}"
            self.lox(*self.words(task, path.name))
            report = Path(f"{path}.report.json")
            told = json.loads(report.read_text())["tensors"] if report.exists() else None
            self.unbroken[task, output] = (self.content(path), told)
            self.remove(path.name)
        return self.unbroken[task, output]

    def remove(self, output):
        for path in self.directory.glob(f"{output}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def is_right(self, task, content, expected):
        """Items that all ranks solve promise their certificate, not their bits."""
        if task != "grid" or isinstance(content, bytes) != isinstance(expected, bytes):
            return content == expected
        files = [(content, expected)]
        if not isinstance(content, bytes):
            if content.keys() != expected.keys():
                return False
            files = [(content[name], expected[name]) for name in content]
        same = total = 0
        for one, other in files:
            if len(one) != len(other):
                return False
            same += int((np.frombuffer(one, np.uint8) == np.frombuffer(other, np.uint8)).sum())
            total += len(one)
        return same >= 0.998 * total

    def kill_somehow(self, task, words, rng, ranks):
        """Starts the job and kills it somehow. Returns how, and the job."""
        way = rng.choice(["rank", "all", "mpirun", "fault", "fault"])
        if way == "fault":  # exactly between two steps
            place, most = rng.choice(self.OF_ROOT + self.OF_ALL + {"harden": [("item", 5)] * 2,
                                                                  "grid": [("grid", 9)] * 3}.get(task, []))
            victim = rng.randrange(max(ranks, 1)) if (place, most) not in self.OF_ROOT else 0
            way = f"{place}:{victim}:{rng.randint(1, most) + (6 if victim == 0 and place in ('write', 'sync') else 0)}"
            job = Job(self.directory, *words, ranks=ranks, fault=f"{self.PAUSE[task]},{way}:kill")
        else:
            job = Job(self.directory, *words, ranks=ranks, fault=self.PAUSE[task])
            self.addCleanup(job.end)
            output = words[words.index("--output") + 1] if "--output" in words else None
            if output and rng.random() < 0.5:
                self.wait_for_lines(job, len(self.journal(output)) + rng.randint(1, 4), output)
            time.sleep(rng.random() * rng.choice([0.05, 0.4, 1.5]))
            pids = job.ranks()
            if way == "rank" and pids:
                job.signal(signal.SIGKILL, [rng.choice(pids)])
            elif way == "all" and pids:
                job.signal(signal.SIGKILL, pids)
            elif not job.has_ended():
                job.signal(signal.SIGKILL, [job.pid])
        self.addCleanup(job.end)
        job.wait()
        self.counts["mpirun left hanging"] += job.launcher_hung
        return f"{way} of {ranks}", job

    def look_after_a_kill(self, task, output, before, old, story):
        """Nothing is lost, nothing wrong has the output's name. Returns the lines of the journal."""
        new, _ = self.expected_of(task, output)
        path = self.directory / output
        if path.exists():
            there = self.content(path)
            self.assertTrue(there == old or self.is_right(task, there, new), f"wrong bytes under its name: {story}")
        elif old is not None:
            kept = [self.directory / f"{output}.journal" / "replaced", self.directory / f"{output}.partial"]
            self.assertTrue(any(place.exists() and (lambda found: found == old or self.is_right(task, found, new))(
                self.content(place)) for place in kept), f"neither old nor new: {story}")
        after = self.journal(output)
        self.assertEqual(len(set(after)), len(after), f"an item was done twice: {story}")
        if not path.exists() or old is not None:
            closing = not (self.directory / f"{output}.partial").exists()
            self.assertTrue(closing or set(before) <= set(after), f"a finished item was lost: {story}")
        return after

    def chain(self, task, output, rng, kills):
        """Kills until a run ends by itself or there were enough, then lets it end. Returns the number of kills."""
        self.remove(output)
        expected, told = self.expected_of(task, output)
        old = None
        more = ()
        if rng.random() < 1 / 3:
            more = ("--overwrite",)
            self.lox("convert", "base", output)
            old = self.content(self.directory / output)
        story = []
        lines = []
        killed = 0
        ended = False
        while killed < kills and not ended:
            how, job = self.kill_somehow(task, self.words(task, output, *more), rng, rng.choice([0, 1, 2, 3, 4, 5]))
            code = job.process.returncode
            said = job.output()
            self.counts["resumes"] += killed > 0
            ended = code == 0
            if code == 3 and "did not finish" in said:  # convert and synth begin anew when they are told to
                more = ("--overwrite",)
                self.counts["resumes"] -= 1
                continue
            if ended or (code == 3 and "exists already" in said):
                break
            self.assertNotIn(code, (1, 2, 3, 4, 5, 75), f"{task} {output} {story} {how}: {said}")
            killed += 1
            story.append(f"{how} after {len(lines)}")
            lines = self.look_after_a_kill(task, output, lines, old, story)
        with self.subTest(task=task, output=output, story=story):
            if not ended:
                self.end(task, output, more, rng)
                self.counts["resumes"] += killed > 0
            self.assertTrue(self.is_right(task, self.content(self.directory / output), expected), "wrong bytes")
            self.assertEqual(self.leftovers(output), [])
            if task == "harden":
                found = json.loads((self.directory / f"{output}.report.json").read_text())["tensors"]
                self.assertEqual([self.timeless(t) for t in found], [self.timeless(t) for t in told])
        self.counts[f"{task}: finished and compared"] += 1
        self.counts[f"{task}: kills"] += killed
        self.counts["kills"] += killed
        self.remove(output)
        return killed

    def end(self, task, output, more, rng):
        """Runs it to its end: by the same command, or with the remedy that it names."""
        for words in (more, ("--overwrite",)):
            made = run(*self.words(task, output, *words), ranks=rng.choice([0, 1, 2, 3, 5]), directory=self.directory)
            if made.code == 3 and "exists already" in made.err and not words:
                self.assertEqual(self.leftovers(output), [], made.err)  # it had come to its end but for the exit
                return
            if not (made.code == 3 and "did not finish" in made.err and task in ("convert", "synth")):
                break
        self.assertEqual(made.code, 0, made.err)

    def random_kills(self, tasks, kills):
        rng = random.Random(f"{SEED} {tasks}")
        done = chains = 0
        while done < kills:
            done += self.chain(rng.choice(tasks), rng.choice(self.OUTPUTS), rng, min(kills - done, rng.randint(1, 7)))
            chains += 1
        hung = self.counts["mpirun left hanging"]
        print(f"{done} kills in {chains} jobs" + (f", mpirun left hanging by {hung}" if hung else ""), end=" ... ",
              flush=True)

    def test_harden(self):
        self.random_kills(["harden"], KILLS - KILLS // 3)

    def test_other_tasks(self):
        self.random_kills(["grid", "convert", "synth"], KILLS // 3)


class EveryStep(JobTest):
    """A small job killed at the first, second, third ... time that it syncs, writes or changes a name, until it lives
    to its end. Once its output stands, the same command finds it finished."""

    MATRICES = 2

    def every(self, place, output, *more):
        old = self.content(self.directory / "aligned") if more else None
        kills = 0
        while True:
            if more:
                shutil.copytree(self.directory / "aligned", self.directory / output)
            job = self.start(*more, output=output, fault=f"{place}:0:{kills + 1}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(place=place, kill=kills):
                path = self.directory / output
                stands = path.exists() and self.content(path) != old
                has_sign = (self.directory / f"{output}.journal" / "job.json").exists()
                said = self.resume(*more, output=output).err
                self.assertEqual("was finished already" in said, stands and (has_sign or not more))
                self.assertFalse(stands and place in ("sync", "write"))
            shutil.rmtree(self.directory / output, ignore_errors=True)
            (self.directory / output).unlink(missing_ok=True)
        self.assert_whole(output)
        self.assertGreater(kills, 3)
        for path in self.directory.glob(f"{output}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        print(f"{kills} kills", end=" ... ", flush=True)

    def test_syncs_of_safetensors(self):
        self.every("sync", "out")

    def test_syncs_of_hdf5(self):
        self.every("sync", "out.h5")

    def test_writes_of_safetensors(self):
        self.every("write", "out")

    def test_names_that_change(self):
        self.every("rename", "out")
        self.every("rename", "out.h5")

    def test_names_that_go(self):
        self.every("remove", "out")
        self.every("remove", "out.h5")

    def test_the_old_one_makes_way(self):
        self.every("rename", "out", "--overwrite")
        self.every("remove", "out", "--overwrite")

    def test_folders_that_are_synced(self):
        self.every("folder", "out.h5")


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
