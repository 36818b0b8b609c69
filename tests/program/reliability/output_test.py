# SPDX-License-Identifier: MIT
"""The life of an output as a whole: who may write it, what it may replace, and whose it is."""
import json
import os
import shutil
import signal
import subprocess
import time
import unittest
from pathlib import Path

import checkpoint
from jobs import BAD_INPUT, Job, JobTest, wait_for
from program import LOX, MPIEXEC

SUPPORT = Path(__file__).resolve().parents[2] / "support"


class WhoseItIs(JobTest):
    def test_finished_output_of_another_job(self):
        """An output of k = 6 is not taken for the one of k = 3 that was killed and lost its partial."""
        self.lox(*self.arguments())
        job = self.start("--k", "3", "--overwrite", fault="item:0:4:kill")
        job.wait()
        shutil.rmtree(self.directory / "out.partial")
        said = self.lox(*self.arguments("out", "--k", "3"), code=BAD_INPUT).err
        self.assertIn("exists already", said)
        self.assertTrue(self.content(self.directory / "out") == self.expected["out"])
        self.lox(*self.arguments("out", "--k", "3", "--overwrite"))
        self.assertEqual(json.loads((self.directory / "out.report.json").read_text())["job"]["k"], 3)
        self.assertFalse(self.content(self.directory / "out") == self.expected["out"])
        self.assertEqual(self.leftovers(), [])

    def test_status_knows_what_lox_has_made(self):
        self.lox("status", "/etc", code=BAD_INPUT)
        self.lox("status", "aligned", code=BAD_INPUT)
        for name in ("out", "out.safetensors", "out.h5"):
            self.lox(*self.arguments(name))
            self.assertIn("finished, k 6", self.lox("status", name).out)
        shutil.move(self.directory / "out.h5.report.json", self.directory / "kept.json")
        self.lox("status", "out.h5", code=BAD_INPUT)
        self.lox("status", "out.h5", "--report", "kept.json")
        shutil.copytree(self.directory / "aligned", self.directory / "other")
        shutil.copy(self.directory / "kept.json", self.directory / "other.report.json")
        self.assertIn("no job of lox vouches", self.lox("status", "other", code=BAD_INPUT).err)

    def test_something_comes_in_its_place(self):
        for overwrite in ((), ("--overwrite",)):
            for name in ("out", "out.h5"):
                with self.subTest(output=name, overwrite=overwrite):
                    job = self.start(*overwrite, output=name, ranks=2, fault="item:*:1:1500")
                    wait_for(lambda: (self.directory / f"{name}.journal" / "rank-00001.jsonl").exists(), "the start")
                    put_there = self.directory / name
                    if name == "out":
                        put_there.mkdir()
                        (put_there / "notes.txt").write_text("mine")
                    else:
                        put_there.write_text("mine")
                    said = self.assert_ended(job, BAD_INPUT)
                    self.assertIn("was put there while lox ran", said)
                    kept = put_there / "notes.txt" if name == "out" else put_there
                    self.assertEqual(kept.read_text(), "mine")
                    shutil.rmtree(put_there) if name == "out" else put_there.unlink()
                    self.resume(output=name)
                    for path in self.directory.glob("out*"):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_something_comes_in_the_place_of_a_copy(self):
        """The work waits, and the same command gives it its name, for convert and synth, too."""
        for output, words in (("c.h5", ("convert", "aligned")), ("c", ("convert", "aligned")),
                              ("s", ("synth", "--shape", "tiny", "--layers", "1"))):
            self.lox(*words, "expected" + Path(output).suffix)
            expected = self.content(self.directory / ("expected" + Path(output).suffix))
            for ranks in (0, 2):
                with self.subTest(output=output, ranks=ranks):
                    job = Job(self.directory, *words, output, ranks=ranks, fault="rename:0:2:1000")
                    self.addCleanup(job.end)
                    wait_for(lambda: (self.directory / f"{output}.journal" / "job.json").exists(), "the start")
                    (self.directory / output).write_text("mine")
                    said = self.assert_ended(job, BAD_INPUT)
                    self.assertIn("was put there while lox ran", said)
                    self.assertEqual((self.directory / output).read_text(), "mine")
                    (self.directory / output).unlink()
                    self.assertIn("finished already", self.lox(*words, output, ranks=2 - ranks).err)
                    self.assertTrue(self.content(self.directory / output) == expected)
                    self.assertEqual(self.leftovers(output), [])
                    (shutil.rmtree if output != "c.h5" else os.unlink)(self.directory / output)
            (shutil.rmtree if output != "c.h5" else os.unlink)(self.directory / f"expected{Path(output).suffix}")

    def test_late_wrong_data_keep_the_work_of_earlier_runs(self):
        job = self.start(fault="item:0:6:kill")
        job.wait()
        done = self.journal()
        damaged = next((self.directory / "aligned").glob("model-00002*"))
        before = damaged.read_bytes()
        times = damaged.stat()
        content = bytearray(before)
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + length])
        late = next(name for name in header if name.endswith("weight") and (name, 0) not in done)
        begin = 8 + length + header[late]["data_offsets"][0]
        content[begin:begin + 2] = b"\xc0\x7f"
        damaged.write_bytes(content)
        os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
        said = self.lox(*self.arguments(), code=BAD_INPUT).err
        self.assertIn("hold the work of earlier runs", said)
        damaged.write_bytes(before)
        os.utime(damaged, ns=(times.st_atime_ns, times.st_mtime_ns))
        self.assertIn("going on with out", self.resume().err)


class OneAtATime(JobTest):
    def test_rank_that_outlives_its_job(self):
        job = self.start(ranks=2, fault="item:1:3:9000,item:0:*:50")
        pids = job.all_ranks()
        self.wait_for_lines(job, 3)
        job.signal(signal.SIGSTOP, [job.pid])  # a launcher that takes its time
        job.signal(signal.SIGKILL, pids[:1])
        for more in (("--k", "3", "--overwrite"), ()):
            said = self.lox(*self.arguments("out", *more), code=BAD_INPUT).err
            self.assertIn("rank 1 still runs", said)
        said = self.lox("convert", "aligned", "out", "--overwrite", code=BAD_INPUT).err
        self.assertIn("another job is writing this output", said)
        job.signal(signal.SIGKILL, pids[1:])
        job.signal(signal.SIGCONT, [job.pid])
        job.wait()
        self.resume(ranks=2)

    def test_convert_and_synth_beside_harden(self):
        job = self.start(ranks=2, fault="item:*:1:5000")
        wait_for(lambda: (self.directory / "out.journal" / "rank-00001.jsonl").exists(), "the start")
        for words in (("convert", "aligned", "out"), ("synth", "out", "--shape", "tiny")):
            for ranks in (0, 2):
                said = self.lox(*words, "--overwrite", ranks=ranks, code=BAD_INPUT).err
                self.assertIn("another job is writing this output", said)
        self.assert_ended(job, 0)
        self.assert_whole()

    def round(self, turn, right):
        """Six jobs start on one output, one of them is killed. Each that says it is done has made a whole output."""
        jobs = [Job(self.directory, *self.arguments("t", "--k", k, "--overwrite"), ranks=ranks)
                for k, ranks in (("6", 0), ("3", 2), ("6", 2), ("3", 0))]
        jobs += [Job(self.directory, "convert", "aligned", "t", "--overwrite", ranks=ranks) for ranks in (0, 2)]
        time.sleep(0.02 * turn % 0.4)
        jobs[turn % 6].signal(signal.SIGKILL, jobs[turn % 6].ranks()[:1])
        codes = [job.wait() for job in jobs]
        with self.subTest(turn=turn, codes=codes):
            self.assertTrue(0 in codes or turn > 0, codes)
            found = self.directory / "t"
            if found.exists():
                self.assertTrue(self.content(found) in right.values(), "a mixture")
            self.lox(*self.arguments("t", "--k", "3", "--overwrite"))
            self.assertTrue(self.content(found) == right["3"])
            self.assertEqual(self.leftovers("t"), [])

    def right_ones(self):
        """What these jobs may make."""
        right = {"convert": self.content(self.directory / "aligned")}
        for k in ("6", "3"):
            self.lox(*self.arguments(f"k{k}", "--k", k))
            right[k] = self.content(self.directory / f"k{k}")
        return right

    def test_many_started_together(self):
        right = self.right_ones()
        for turn in range(int(os.environ.get("LOX_ROUNDS", "5"))):
            self.round(turn, right)


class Mounted(JobTest):
    """Models in a folder that is seen through mounts, each with a page cache of its own; as on NFS, an open file that
    is removed stays beside the others under a hidden name until it is closed."""

    NODES = 1

    def setUp(self):
        super().setUp()
        program = self.directory / "writeback_mount"
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], check=False, capture_output=True, text=True)
        if flags.returncode != 0 or not os.path.exists("/dev/fuse"):
            self.skipTest("FUSE is not to be had (Debian: libfuse3-dev, fuse3)")
        subprocess.run(["cc", "-O1", "-o", program, SUPPORT / "writeback_mount.c", *flags.stdout.split()], check=True)
        self.shared = self.directory / "shared"
        self.shared.mkdir()
        for name in ("base", "aligned"):
            shutil.move(self.directory / name, self.shared / name)
        self.nodes = []
        for node in range(self.NODES):
            mounted = self.directory / f"node{node}"
            mounted.mkdir()
            # One thread: a file that was closed first is closed first.
            daemon = subprocess.Popen([program, self.shared, mounted, "-f", "-s"], stderr=subprocess.PIPE, text=True)
            self.addCleanup(self.unmount, mounted, daemon)
            try:
                wait_for(lambda: (mounted / "base").exists() or daemon.poll() is not None, "the mount")
            finally:
                if daemon.poll() is not None:
                    self.skipTest(f"no FUSE mount: {daemon.stderr.read().strip()}")
            self.nodes.append(mounted)

    @staticmethod
    def unmount(mounted, daemon):
        subprocess.run(["umount", mounted], check=False)
        daemon.wait(timeout=20)
        daemon.stderr.close()


class HiddenNames(Mounted):
    def left(self):
        """All names in the folder but those of the models and reports."""
        return sorted(path.name for path in self.shared.iterdir()
                      if path.name not in ("base", "aligned") and not path.name.endswith(".report.json"))

    def start(self, *words, ranks):
        job = Job(self.nodes[0], *words, ranks=ranks)
        self.addCleanup(job.end)
        return job

    def test_what_is_done_leaves_none(self):
        jobs = {"out": self.arguments("out"), "o.h5": self.arguments("o.h5"), "c.h5": ("convert", "aligned", "c.h5"),
                "s": ("synth", "s", "--shape", "tiny", "--layers", "1")}
        for name, words in jobs.items():
            for more in ((), ("--overwrite",)):
                with self.subTest(words=words, more=more):
                    self.assert_ended(self.start(*words, *more, ranks=3), 0)
                    self.assertEqual(self.left(), [name])
            path = self.shared / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_what_fails_leaves_none(self):
        """A number that is none, found when the ranks are at work."""
        path = next((self.shared / "aligned").glob("model-00002*"))
        content = bytearray(path.read_bytes())
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8:8 + length])
        begin = next(entry["data_offsets"][0] for name, entry in header.items() if name.endswith("weight"))
        content[8 + length + begin:8 + length + begin + 2] = b"\xc0\x7f"
        path.write_bytes(content)
        for output in ("out", "out.h5"):
            self.assertIn("NaN", self.assert_ended(self.start(*self.arguments(output), ranks=3), BAD_INPUT))
            self.assertEqual(self.left(), [])


class TwoNodes(Mounted):
    """Two ranks on two mounts of one folder: neither cache knows anything of the other."""

    NODES = 2

    def setUp(self):
        super().setUp()
        self.place = self.directory / "place"  # where every node sees the folder
        self.place.mkdir()
        if subprocess.run(["unshare", "-m", "true"], check=False).returncode != 0:
            self.skipTest("no mount namespaces")

    def on_two_nodes(self, *words):
        command = [MPIEXEC]
        for node in self.nodes:
            script = f'mount --bind {node} {self.place} && cd {self.place} && exec "$@"'
            command += ["-n", "1", "unshare", "-m", "sh", "-c", script, "sh", LOX, *words, ":"]
        ran = subprocess.run(command[:-1], cwd=self.directory, check=False, capture_output=True, text=True, timeout=100)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertEqual(list(self.shared.glob("*.journal")), [])

    def test_the_bytes_of_one_node(self):
        for output in ("out", "out.h5"):
            self.on_two_nodes(*self.arguments(output))
            self.assertTrue(self.content(self.shared / output) == self.expected[output], output)
        self.on_two_nodes(*self.arguments("grid", "--grid", "always", "--k", "0"))
        self.lox("harden", "--base", "shared/base", "--aligned", "shared/aligned", "--output", "one", "--k", "0")
        self.assertTrue(self.content(self.shared / "grid") == self.content(self.directory / "one"))

    def test_convert_and_synth(self):
        self.on_two_nodes("convert", "aligned", "c.h5")
        self.lox("convert", "shared/aligned", "c.h5")
        self.assertTrue((self.shared / "c.h5").read_bytes() == (self.directory / "c.h5").read_bytes())
        self.on_two_nodes("synth", "s", "--shape", "tiny", "--role", "aligned")
        self.lox("synth", "s", "--shape", "tiny", "--role", "aligned")
        self.assertTrue(checkpoint.tree(self.shared / "s") == checkpoint.tree(self.directory / "s"))


if __name__ == "__main__":
    unittest.main()
