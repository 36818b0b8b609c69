# SPDX-License-Identifier: MIT
"""Jobs in the background that can be signalled, killed and waited for, and models to run them on."""
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LOX, MPIEXEC, PATIENCE, LoxTest, family_of, journal_lines, process_table, run, wait_for

LOX_WITH_FAULTS = os.environ.get("LOX_WITH_FAULTS", "lox_with_faults")
USAGE, BAD_INPUT, IO, STOPPED = 2, 3, 5, 75
SLOW = "item:*:*:250"  # a pause before each matrix, so long that each one gets its own line in the journal
RANK = (b"OMPI_COMM_WORLD_RANK=", b"PMI_RANK=")  # of Open MPI, of MPICH
LAUNCHER_PATIENCE = 15  # seconds that mpirun may take to end after its last rank


def is_alive(pid):
    return process_table().get(pid, (0, "Z"))[1] not in "ZX"


class Job:
    """A harden job at work. `ranks` 0 starts it without mpirun."""

    def __init__(self, directory, *arguments, ranks=0, fault="", environment=None, codes=False):
        self.directory = Path(directory)
        self.program = str(Path(LOX_WITH_FAULTS if fault else LOX).resolve())
        self.size = max(ranks, 1)
        command = [self.program, *map(str, arguments)]
        self.session = tempfile.mkdtemp(prefix="ompi-")
        os.chmod(self.session, 0o777)
        env = dict(os.environ, OMPI_MCA_orte_tmpdir_base=self.session, LOX_FAULT=fault, **(environment or {}))
        if codes:  # each rank's own exit code goes to a file; mpirun ends the others when one fails
            command = ["/bin/sh", "-c", '"$@"; echo $? > code.${OMPI_COMM_WORLD_RANK:-$PMI_RANK}', "sh", *command]
        if ranks:
            command = [MPIEXEC, "-n", str(ranks), *command]
        else:
            env["OMPI_MCA_ess_singleton_isolated"] = "1"
        # In files: an orphan that holds a pipe open would keep its reader waiting.
        self.said = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, cwd=self.directory, env=env, stdin=subprocess.DEVNULL,
                                        stdout=self.said, stderr=subprocess.STDOUT)
        self.pid = self.process.pid
        self.known = set()
        self.launcher_hung = False

    def ranks(self):
        """Pids of the ranks that run the program now, by rank."""
        table = process_table()
        family = family_of(self.pid, table)
        found = []
        for pid in family:
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe") != self.program:
                    continue
                names = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                rank = next((int(n.split(b"=")[1]) for n in names if n.startswith(RANK)), 0)
                parent = table[pid][0]
                if parent in family and os.readlink(f"/proc/{parent}/exe") == self.program:
                    continue  # a child that reads HDF5
                found.append((rank, pid))
        self.known |= {pid for _, pid in found}
        return [pid for _, pid in sorted(found)]

    def all_ranks(self):
        return wait_for(lambda: (lambda pids: pids if len(pids) == self.size else None)(self.ranks()), "all ranks")

    def signal(self, number, pids):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def has_ended(self):
        return self.process.poll() is not None

    def wait(self, seconds=PATIENCE):
        """The exit code of the whole. No process of the job is left when it returns."""
        try:
            end = time.monotonic() + seconds
            alone_since = None
            while not self.has_ended():
                now = time.monotonic()
                if self.ranks():
                    alone_since = None
                elif alone_since is None:
                    alone_since = now
                elif now - alone_since > LAUNCHER_PATIENCE and "PMIX ERROR: UNREACHABLE" in self.output():
                    # mpirun of Open MPI 4.1 can lock itself out in PMIx_server_finalize when a rank is killed that is
                    # just connecting to it (docs/reliability.md). The ranks are gone: the job is over.
                    self.signal(signal.SIGKILL, [self.pid])
                    self.process.wait()
                    self.launcher_hung = True
                if now > end and not self.has_ended():
                    self.signal(signal.SIGKILL, [*self.ranks(), self.pid])
                    self.process.wait()
                    raise AssertionError(f"the job did not end in {seconds} s:\n{self.output()}")
                time.sleep(0.05)
        finally:
            self.gone()
            self.output()
        return self.process.returncode

    def end(self):
        """Whatever its state, it is over."""
        if not self.has_ended():
            self.ranks()
            self.process.kill()
            self.process.wait()
        self.gone(patience=0)
        self.output()

    def gone(self, patience=10):
        """Waits until the ranks that were seen are gone; those that outlive mpirun for long are killed."""
        end = time.monotonic() + patience
        while any(is_alive(pid) for pid in self.known):
            if time.monotonic() > end:
                self.signal(signal.SIGKILL, [pid for pid in self.known if is_alive(pid)])
            time.sleep(0.01)
        shutil.rmtree(self.session, ignore_errors=True)

    def output(self):
        """What it has said; to its end once it has ended."""
        if not self.said.closed:
            self.said.seek(0)
            self.told = self.said.read().decode(errors="replace")
            if self.has_ended():
                self.said.close()
        return self.told


class JobTest(LoxTest):
    """A pair of small models and what an unbroken run makes of them."""

    MATRICES = 12

    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        rng = np.random.default_rng(3)
        shapes = {f"layers.{i}.weight": (96 + 8 * (i % 3), 112) for i in range(cls.MATRICES)}
        shapes |= {f"layers.{i}.norm": (64,) for i in range(4)} | {"experts": (2, 48, 64)}
        pairs = {name: reference.random_pair(rng, shape) for name, shape in shapes.items()}
        pairs["ids"] = (Tensor("I64", np.arange(12).reshape(3, 4)),) * 2
        names = sorted(pairs)
        shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for side, model in enumerate(("base", "aligned")):
            checkpoint.write_directory(cls.models / model,
                                       {shard: {n: pairs[n][side] for n in held} for shard, held in shards.items()},
                                       files={"config.json": b"{}\n"})
        cls.items = cls.MATRICES + 4 + 2 + 1
        cls.expected = {}
        cls.report = {}
        for output in ("out", "out.h5"):
            made = run("harden", "--base", "base", "--aligned", "aligned", "--output", output, directory=cls.models)
            assert made.code == 0, made.err
            cls.expected[output] = cls.content(cls.models / output)
            cls.report[output] = json.loads((cls.models / f"{output}.report.json").read_text())

    def setUp(self):
        super().setUp()
        for name in ("base", "aligned"):
            shutil.copytree(self.models / name, self.directory / name)  # copies times as well

    @staticmethod
    def content(path):
        return checkpoint.tree(path) if path.is_dir() else path.read_bytes()

    def arguments(self, output="out", *more):
        return ("harden", "--base", "base", "--aligned", "aligned", "--output", output, *more)

    def start(self, *more, output="out", **options):
        job = Job(self.directory, *self.arguments(output, *more), **options)
        self.addCleanup(job.end)
        return job

    def journal(self, output="out"):
        """(name, matrix) of each whole line in the journal."""
        records = map(json.loads, journal_lines(self.directory / output))
        return [(record["name"], record["matrix"]) for record in records]

    def wait_for_lines(self, job, count, output="out"):
        """Until the journal holds that many lines, or the job has ended."""
        wait_for(lambda: len(self.journal(output)) >= count or job.has_ended(), f"{count} lines in the journal")

    def assert_ended(self, job, code, seconds=PATIENCE):
        self.assertEqual(job.wait(seconds), code, job.output())
        return job.output()

    def assert_unfinished(self, output="out", items=None):
        """Nothing bears the output's name, and `lox status` tells how far it is."""
        self.assertFalse((self.directory / output).exists())
        status = json.loads(self.lox("status", output, "--json", code=STOPPED).out)
        self.assertEqual(status["state"], "unfinished")
        self.assertEqual(status["items"], self.items)
        self.assertEqual(status["items_finished"], len(self.journal(output)) if items is None else items)
        self.assertEqual(status["holder"], "")

    def assert_whole(self, output="out"):
        """The output and its report are those of an unbroken run, and nothing else is left."""
        like = "out.h5" if output.endswith(".h5") else "out"
        self.assertTrue(self.content(self.directory / output) == self.expected[like], "the output has other bytes")
        found = json.loads((self.directory / f"{output}.report.json").read_text())
        self.assertEqual([self.timeless(t) for t in found["tensors"]],
                         [self.timeless(t) for t in self.report[like]["tensors"]])
        for total in ("tensors", "edited", "copied", "bytes_read", "bytes_written"):
            self.assertEqual(found["totals"][total], self.report[like]["totals"][total])
        self.assertEqual(self.leftovers(output), [])
        self.lox("status", output)

    @staticmethod
    def timeless(entry):
        return {key: value for key, value in entry.items() if key != "seconds"}

    def leftovers(self, output="out"):
        """Names beside the output that are neither it nor its report."""
        return sorted(path.name for path in self.directory.iterdir()
                      if path.name.startswith(f"{output}.") and path.name not in (output, f"{output}.report.json"))

    def resume(self, *more, output="out", ranks=0, **options):
        """Runs the job to its end and checks the result."""
        result = self.lox(*self.arguments(output, *more), ranks=ranks, **options)
        self.assert_whole(output)
        return result


class KilledTasks(LoxTest):
    """Tasks that are killed: what resumes ends with the bytes of an unbroken run. `tasks` has of each its words and
    its outputs."""

    def make_expected(self):
        """To be called when `tasks` and their inputs are there."""
        self.expected = {}
        for task, (words, outputs) in self.tasks.items():
            self.lox(*words)
            self.expected[task] = self.contents(outputs)
            self.remove(outputs)

    def contents(self, outputs):
        return {name: checkpoint.tree(self.directory / name) if (self.directory / name).is_dir()
                else (self.directory / name).read_bytes() for name in outputs}

    def remove(self, outputs):
        for name in outputs:
            path = self.directory / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def end(self, task, ranks=0):
        """The same command again ends with the right bytes, and leaves nothing else."""
        words, outputs = self.tasks[task]
        self.lox(*words, ranks=ranks)
        found = self.contents(outputs)
        for name in outputs:
            self.assertEqual(found[name] == self.expected[task][name], True, name)
        left = [path.name for path in self.directory.iterdir() if path.name.endswith((".journal", ".partial"))]
        self.assertEqual(left, [])
        self.remove(outputs)

    def every(self, task, place):
        words, outputs = self.tasks[task]
        kills = 0
        while True:
            job = Job(self.directory, *words, fault=f"{place}:0:{kills + 1}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(task=task, place=place, kill=kills):
                self.end(task)
        self.assertEqual(self.contents(outputs), self.expected[task])
        self.remove(outputs)
        self.assertGreater(kills, 8)
        print(f"{kills} kills", end=" ... ", flush=True)

    def at_random(self, task, rng, kills):
        """Some or all ranks killed at any moment, and what is left goes on with on another number of ranks."""
        words, outputs = self.tasks[task]
        for number in range(kills):
            job = Job(self.directory, *words, ranks=rng.choice([0, 1, 2, 3]), fault=SLOW)
            time.sleep(rng.random() * 1.5)
            victims = job.ranks() or [job.pid]
            job.signal(signal.SIGKILL, rng.choice([victims, [rng.choice(victims)]]))
            with self.subTest(task=task, number=number):
                if job.wait() == 0:  # it had ended
                    self.assertEqual(self.contents(outputs), self.expected[task])
                    self.remove(outputs)
                else:
                    self.end(task, ranks=rng.choice([0, 2]))


def needs_root(test):
    return unittest.skipUnless(os.geteuid() == 0, "only root may mount a file system")(test)
