# SPDX-License-Identifier: MIT
"""Full and failing disks, files that change or vanish, two jobs on one output, and crashes around the last rename."""
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from jobs import BAD_INPUT, IO, SLOW, STOPPED, USAGE, Job, JobTest, needs_root, wait_for


class Disk(JobTest):
    def test_injected_failures(self):
        """A write or a sync that fails on one rank ends all with its message and exit code 5; then it goes on."""
        for place in ("write", "sync"):
            for action, reason in (("enospc", "No space left on device"), ("eio", "Input/output error")):
                with self.subTest(place=place, action=action):
                    output = f"out-{place}-{action}"
                    start = time.monotonic()
                    job = self.start(output=output, ranks=3, fault=f"{SLOW},{place}:1:3:{action}")
                    said = self.assert_ended(job, IO)
                    self.assertLess(time.monotonic() - start, 30)
                    self.assertIn("lox: error on rank 1: ", said)
                    self.assertIn(reason, said)
                    self.assert_unfinished(output)
                    self.resume(output=output, ranks=2)

    def test_failure_while_the_skeleton_is_made(self):
        """Before there is anything to go on with nothing is left behind."""
        for fault in ("write:0:2:enospc", "sync:0:3:eio"):
            with self.subTest(fault=fault):
                said = self.assert_ended(self.start(ranks=2, fault=fault), IO)
                self.assertIn("lox: error: ", said)
                self.assertEqual(self.leftovers(), [])

    def test_one_rank_throws_on_the_grid(self):
        """The others wait in a collective call: they must not wait for ever."""
        start = time.monotonic()
        job = self.start("--grid", "always", ranks=3, fault="grid:1:1:throw")
        said = self.assert_ended(job, 1, seconds=30)
        self.assertLess(time.monotonic() - start, 30)
        self.assertIn("lox: error on rank 1: injected fault: grid", said)
        self.lox(*self.arguments("out", "--grid", "always"), ranks=2)

    def test_output_folder_removed(self):
        (self.directory / "folder").mkdir()
        job = self.start(output="folder/out", ranks=2, fault=SLOW)
        self.wait_for_lines(job, 1, "folder/out")
        shutil.rmtree(self.directory / "folder", ignore_errors=True)
        said = self.assert_ended(job, IO)
        self.assertRegex(said, r"lox: error( on rank \d)?: folder/out.*removed|lox: error.*No such file")
        self.assertFalse((self.directory / "folder").exists())

    def test_partial_removed(self):
        job = self.start(ranks=0, fault=SLOW)
        self.wait_for_lines(job, 1)
        shutil.rmtree(self.directory / "out.partial")
        self.assert_ended(job, IO)
        self.assertFalse((self.directory / "out").exists())
        self.resume()


class SmallDisk(JobTest):
    """A file system of a few pages."""

    def mount(self, size):
        place = self.directory / "disk"
        place.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "lox-test", place], check=False,
                                 stderr=subprocess.PIPE, text=True)
        if mounted.returncode != 0:
            self.skipTest(f"no tmpfs can be mounted: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", place], check=False)
        return place

    @needs_root
    def test_too_small(self):
        place = self.mount("200k")
        for output in ("disk/out", "disk/out.h5", "disk/out.safetensors"):
            for ranks in (0, 2):
                with self.subTest(output=output, ranks=ranks):
                    said = self.lox(*self.arguments(output), ranks=ranks, code=IO).err
                    self.assertIn("lox: error: ", said)
                    self.assertRegex(said, r"space|needs")
                    self.assertEqual(list(place.iterdir()), [])

    @needs_root
    def test_filled_by_another(self):
        """The output's space is reserved: what runs out is the journal's. Once there is space it goes on."""
        place = self.mount("24m")
        job = self.start(output="disk/out", ranks=2, fault=SLOW)
        wait_for(lambda: (place / "out.journal" / "rank-00001.jsonl").exists() or job.has_ended(), "the start")
        with open(place / "filler", "wb", buffering=0) as filler:
            try:
                while filler.write(bytes(4096)):
                    pass
            except OSError:
                pass
        said = self.assert_ended(job, IO)
        self.assertIn("No space left on device", said)
        (place / "filler").unlink()
        self.assertFalse((place / "out").exists())
        self.lox(*self.arguments("disk/out"), ranks=2)
        self.assertTrue(self.content(place / "out") == self.expected["out"])


class Inputs(JobTest):
    """Inputs that are not at the end what they were at the start."""

    SHARD = "model-00001-of-00002.safetensors"

    def stopped(self):
        job = self.start(fault=SLOW)
        self.wait_for_lines(job, 1)
        job.signal(signal.SIGUSR1, job.ranks())
        self.assert_ended(job, STOPPED)

    def changed(self, change, ranks=2):
        """What a job says whose input is changed in its middle."""
        job = self.start(ranks=ranks, fault=SLOW)
        self.wait_for_lines(job, 2)
        change()
        said = self.assert_ended(job, IO)
        self.assertFalse((self.directory / "out").exists())
        return said

    def test_touched_before_resuming(self):
        self.stopped()
        os.utime(self.directory / "aligned" / self.SHARD)
        said = self.lox(*self.arguments(), code=BAD_INPUT).err
        self.assertIn("out.partial: belongs to another job: aligned.files", said)
        self.assertIn("modified", said)
        self.assert_unfinished()
        self.lox(*self.arguments("out", "--overwrite"))
        self.assert_whole()

    def test_other_parameters_before_resuming(self):
        self.stopped()
        for option, value, name in (("--k", "5", "job.k is 5 now, but was its default"), ("--coef", "2", "job.coef is 2.0 now"),
                                    ("--exclude", "experts", "job.exclude"), ("--seed", "9", "job.seed is 9 now, but was its default")):
            self.assertIn(name, self.lox(*self.arguments("out", option, value), code=BAD_INPUT).err)
        shutil.copytree(self.directory / "base", self.directory / "other")
        said = self.lox("harden", "--base", "other", "--aligned", "aligned", "--output", "out", code=BAD_INPUT).err
        self.assertIn("belongs to another job: base.", said)
        self.assert_unfinished()
        self.resume(ranks=3)

    def test_touched_while_running(self):
        said = self.changed(lambda: os.utime(self.directory / "base" / self.SHARD))
        self.assertIn("the base model was changed while lox ran: base.files", said)

    def test_rewritten_while_running(self):
        path = self.directory / "aligned" / self.SHARD

        def rewrite():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
        self.assertIn("the aligned model was changed while lox ran", self.changed(rewrite))

    def test_cut_while_running(self):
        said = self.changed(lambda: os.truncate(self.directory / "aligned" / self.SHARD, 3000))
        self.assertIn("changed while lox ran", said)

    def test_vanished_while_running(self):
        said = self.changed(lambda: shutil.rmtree(self.directory / "base"))
        self.assertIn("base", said)
        self.assertRegex(said, "vanished while lox ran|No such file or directory")

    def test_other_file_changed_while_running(self):
        def change():
            (self.directory / "aligned" / "config.json").write_text('{"a": 1}\n')
        self.assertIn("the aligned model was changed while lox ran", self.changed(change))


class TwoJobs(JobTest):
    def test_second_is_refused(self):
        job = self.start(ranks=2, fault=SLOW, environment={"SLURM_JOB_ID": "4711"})
        pids = job.all_ranks()
        self.wait_for_lines(job, 1)
        job.signal(signal.SIGSTOP, pids)  # however long the others take
        for ranks in (0, 2):
            said = self.lox(*self.arguments(), ranks=ranks, code=BAD_INPUT).err
            self.assertIn(f"another job is writing this output: process {pids[0]} on {socket.gethostname()}", said)
            self.assertIn("Slurm job 4711", said)
        self.lox(*self.arguments("out", "--overwrite"), code=BAD_INPUT)
        self.assertIn(f"process {pids[0]} on", self.lox("status", "out", code=STOPPED).out)
        job.signal(signal.SIGCONT, pids)
        self.assert_ended(job, 0)
        self.assert_whole()

    def test_started_together(self):
        """Of several at one moment at most one goes on, and none spoils its work."""
        jobs = [self.start(fault=SLOW) for _ in range(4)]
        codes = sorted(job.wait() for job in jobs)
        for job in jobs:
            self.assertIn(job.process.returncode, (0, BAD_INPUT), job.output())
        self.assertEqual(codes[0], 0, [job.output() for job in jobs])
        self.assert_whole()

    def test_lock_of_a_killed_job(self):
        job = self.start(ranks=2, fault=SLOW)
        self.wait_for_lines(job, 1)
        job.signal(signal.SIGKILL, job.all_ranks())
        job.wait()
        self.assertTrue((self.directory / "out.journal" / "lock").exists())
        self.assert_unfinished()
        self.resume(ranks=2)

    def test_mpirun_killed_and_started_again_at_once(self):
        """Ranks that outlive their mpirun hold the lock until they are gone."""
        job = self.start(ranks=3, fault=SLOW)
        job.all_ranks()
        self.wait_for_lines(job, 1)
        job.signal(signal.SIGKILL, [job.pid])
        code = None
        for _ in range(100):
            again = Job(self.directory, *self.arguments())
            code = again.wait()
            if code == 0:
                break
            self.assertEqual(code, BAD_INPUT, again.output())
            self.assertIn("another job is writing this output", again.output())
            time.sleep(0.2)
        self.assertEqual(code, 0)
        self.assert_whole()


class LastSteps(JobTest):
    """Crashes between the last tensor and the end."""

    MATRICES = 2

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The last sync of a whole run is of the sign that says so, just before the rename.
        cls.last = 0
        code = -signal.SIGKILL
        while code != 0:
            cls.last += 1
            with tempfile.TemporaryDirectory(prefix="lox-test-") as folder:
                for name in ("base", "aligned"):
                    shutil.copytree(cls.models / name, Path(folder) / name)
                code = Job(folder, "harden", "--base", "base", "--aligned", "aligned", "--output", "out",
                           fault=f"sync:0:{cls.last}:kill").wait()
        cls.last -= 1

    def crash(self):
        job = self.start(fault=f"sync:0:{self.last}:kill")
        self.assert_ended(job, -signal.SIGKILL)
        self.assertEqual(len(self.journal()), self.items)
        self.assert_unfinished()

    def test_before_the_rename(self):
        self.crash()
        before = {path.name: path.stat().st_mtime_ns for path in (self.directory / "out.partial").iterdir()}
        self.resume(ranks=2)
        after = {path.name: path.stat().st_mtime_ns for path in (self.directory / "out").iterdir()}
        del before["lox_report.json"], after["lox_report.json"]  # each run that ends writes its own
        self.assertEqual(before, after, "finished tensors were written again")

    def crash_after_the_rename(self):
        for count in itertools.count(1):
            self.assert_ended(self.start(fault=f"remove:0:{count}:kill"), -signal.SIGKILL)
            if (self.directory / "out").exists():
                return
            for path in self.directory.glob("out.*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_after_the_rename(self):
        for ranks in (0, 2):
            self.crash_after_the_rename()
            self.assertIn("finished already", self.lox(*self.arguments(), ranks=ranks).err)
            self.assert_whole()
            shutil.rmtree(self.directory / "out")
            (self.directory / "out.report.json").unlink()

    def test_after_the_rename_another_job(self):
        self.crash_after_the_rename()
        self.assertIn("exists already", self.lox(*self.arguments("out", "--k", "5"), code=BAD_INPUT).err)
        self.assertTrue(self.content(self.directory / "out") == self.expected["out"])

    def test_named_by_hand(self):
        """Rows that wait in the journal may be missing."""
        self.crash()
        (self.directory / "out.partial").rename(self.directory / "out")
        self.assertIn("before it was finished", self.lox(*self.arguments(), code=BAD_INPUT).err)
        (self.directory / "out").rename(self.directory / "out.partial")
        self.resume()


class Recheck(JobTest):
    def test_damaged_tensor_is_done_again(self):
        job = self.start(fault=f"{SLOW},item:0:7:kill")
        job.wait()
        done = [name for name, _ in self.journal()]
        self.assertGreater(len(done), 1)
        for path in (self.directory / "out.partial").glob("*.safetensors"):
            content = bytearray(path.read_bytes())
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8:8 + length])
            if done[0] in header:
                begin, end = header[done[0]]["data_offsets"]
                content[8 + length + (begin + end) // 2] ^= 0x10  # not an edge: those wait in the journal
                path.write_bytes(content)
        said = self.resume("--recheck", ranks=2).err
        self.assertIn(f"tensor '{done[0]}' matrix 0 is not what was written; it will be done again", said)
        self.assertIn(f"rechecked {len(done)} finished items, 1 to do again", said)


class Launcher(JobTest):
    def test_srun_without_pmix(self):
        """N tasks that each see a world of one would write one output."""
        job = self.start(environment={"SLURM_STEP_NUM_TASKS": "4"})
        said = self.assert_ended(job, USAGE)
        self.assertIn("srun started 4 tasks but MPI sees a world of 1", said)
        self.assertEqual(self.leftovers(), [])


if __name__ == "__main__":
    unittest.main()
