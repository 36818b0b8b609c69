# SPDX-License-Identifier: MIT
"""The start of a job: all ranks run rank 0's, what is wrong on one of them ends all, and no file is in its way."""
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import checkpoint
import reference
from program import LOX, MPIEXEC, LoxTest, Result, family_of, process_table, wait_for

USAGE, BAD_INPUT, STOPPED = 2, 3, 75
SECONDS = 15  # in which a job that cannot start must be over, on a busy machine


def open_files(pid):
    names = []
    with contextlib.suppress(FileNotFoundError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(link))
    return names


def executable(pid):
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/exe")
    return None


class StartTest(LoxTest):
    """A small pair of models: base and aligned."""

    def setUp(self):
        super().setUp()
        self.synth("base")
        self.synth("aligned", "--role", "aligned")

    def synth(self, name, *more):
        self.lox("synth", name, "--quiet", "--shape", "tiny", "--layers", 1, *more)

    def names(self):
        return sorted(path.name for path in self.directory.iterdir())

    def ranks(self, *words_of_ranks):
        """Runs ranks that are given different words; they must end by themselves, soon."""
        command = [MPIEXEC]
        for words in words_of_ranks:
            command += [":"] if len(command) > 1 else []
            command += ["-n", "1", LOX, *map(str, words)]
        with tempfile.TemporaryDirectory(prefix="ompi-", ignore_cleanup_errors=True) as session:
            environment = dict(os.environ, OMPI_MCA_orte_tmpdir_base=session)
            job = subprocess.Popen(command, cwd=self.directory, env=environment, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            try:
                out, err = job.communicate(timeout=SECONDS)
            except subprocess.TimeoutExpired:
                job.terminate()
                job.communicate()
                self.fail("the ranks wait for one another")
        return Result(job.returncode, out, err)

    def assert_refused(self, result, *says, code=USAGE):
        everything = f"exit code {result.code}\n{result.out}{result.err}"
        self.assertEqual(result.code, code, everything)
        self.assertEqual(len(result.lines), 1, everything)
        self.assertTrue(result.lines[0].startswith("lox: error: "), everything)
        for words in says:
            self.assertIn(words, result.lines[0])

    def refuse(self, *words_of_ranks, says=(), code=USAGE):
        """Ranks with these words end with one line; nothing is begun."""
        before = self.names()
        self.assert_refused(self.ranks(*words_of_ranks), *says, code=code)
        self.assertEqual(self.names(), before)

    def words(self, *more, output="out"):
        return ("harden", "--base", "base", "--aligned", "aligned", "--output", output, *more)


class OneJob(StartTest):
    def test_an_option_differs(self):
        self.refuse(self.words("--k", 6), self.words("--k", 3), says=("--k", "3 on rank 1", "6 on rank 0"))

    def test_every_option_of_harden(self):
        other = {"base": "b", "aligned": "a", "output": "o", "k": 3, "coef": 2, "svd": "exact", "tolerance": 1e-3,
                 "proof": 1, "grid": "never", "memory": "1GiB", "include": "x", "exclude": "y", "rename": "x=y",
                 "unpaired": "copy", "extra-rows": "copy", "seed": 1,
                 "report": "r", "time-limit": "1h", "recheck": None, "overwrite": None, "quiet": None}
        told = [line.split()[0][2:] for line in self.lox("harden", "--help").out.splitlines() if line.startswith("  --")]
        self.assertEqual(sorted(told), sorted([*other, "as-adapter", "config"]))

        def with_other(name):
            options = {"base": "base", "aligned": "aligned", "output": "out", name: other[name]}
            words = [f"--{key}" + ("" if value is None else f"={value}") for key, value in options.items()]
            return self.ranks(self.words(), ["harden", *words])

        before = self.names()
        with ThreadPoolExecutor(4) as pool:  # a launcher mostly waits
            results = dict(zip(other, pool.map(with_other, other)))
        for name, result in results.items():
            with self.subTest(option=name):
                self.assert_refused(result, f"--{name}", "on rank 1")
        self.assertEqual(self.names(), before)

    def test_the_last_of_three_ranks_differs(self):
        self.refuse(self.words(), self.words(), self.words("--include", "x"), says=("--include", "rank 2"))

    def test_job_files_of_nodes_differ(self):
        for rank in (0, 1):
            (self.directory / f"{rank}.ini").write_text(f"k = {6 - rank}\n")
        self.refuse(self.words("--config", "0.ini"), self.words("--config", "1.ini"), says=("--k", "5", "6"))

    def test_the_same_said_otherwise(self):
        (self.directory / "job.ini").write_text("k = 6\n")
        result = self.ranks(self.words("--config", "job.ini", "--quiet"), self.words("--coef", "1.25", "--quiet"))
        self.assertEqual((result.code, result.err), (0, ""))

    def test_commands_differ(self):
        self.refuse(self.words(), ("convert", "base", "out"), says=("harden", "convert", "rank 1"))

    def test_help_on_one_rank(self):
        self.refuse(self.words(), ("harden", "--help"), says=("--help", "rank 1"))

    def test_other_tasks(self):
        hardened = ("--base", "base", "--aligned", "aligned", "--hardened", "aligned")
        for words, more in ((("convert", "base", "out"), ("--overwrite",)),
                            (("verify", *hardened), ("--sample", 0)),
                            (("verify", *hardened), ("--exclude", "x")),
                            (("synth", "out"), ("--seed", 1)),
                            (("synth", "out"), ("--role", "aligned")),
                            (("synth", "out"), ("--headers-only",))):
            with self.subTest(words=words, more=more):
                self.refuse(words, (*words, *more), says=(more[0], "rank 1"))
        self.refuse(("convert", "base", "out"), ("convert", "base", "other"), says=("DST", "other", "out"))
        self.refuse(("convert", "base", "out"), ("convert", "aligned", "out"), says=("SRC", "base", "aligned"))


class OneRankIsWrong(StartTest):
    """On either rank, with all that can be wrong before the job begins."""

    def refuse_both(self, wrong, *says, code=USAGE):
        self.refuse(self.words(), wrong, says=("rank 1", *says), code=code)
        self.refuse(wrong, self.words(), says=("rank 0", *says), code=code)

    def test_option(self):
        self.refuse_both(self.words("--bogus"), "--bogus")
        self.refuse_both(self.words("--k", "six"), "six")
        self.refuse_both(self.words("--coef=-1"), "--coef")
        self.refuse_both(self.words("--include", "["), "--include")
        self.refuse_both(self.words("--memory", "lots"), "--memory")

    def test_command(self):
        self.refuse_both(("hardn",), "hardn")

    def test_positional(self):
        self.refuse_both(("convert", "base"), "DST")

    def test_shape(self):
        self.refuse(("synth", "out"), ("synth", "out", "--shape", "bogus"), says=("bogus", "rank 1"))

    def test_job_file_is_missing(self):
        self.refuse_both(self.words("--config", "nowhere.ini"), "nowhere.ini", code=BAD_INPUT)

    def test_line_of_the_job_file(self):
        (self.directory / "job.ini").write_text("k = 6\nnonsense\n")
        self.refuse_both(self.words("--config", "job.ini"), "nonsense")

    def test_both_in_the_same_way(self):
        for words, fact in ((self.words("--bogus"), "--bogus"), (("hardn",), "hardn")):
            result = self.ranks(words, words)
            self.assert_refused(result, fact)
            self.assertNotIn("rank", result.lines[0])

    def test_both_in_different_ways(self):
        self.refuse(self.words("--bogus"), self.words("--absurd"), says=("rank 0", "--bogus"))


class Singletons(StartTest):
    """A launcher started several processes, and each sees a world of one: they would do the same thing many times."""
    ALONE = "OMPI_MCA_ess_singleton_isolated"

    def start(self, words, **environment):
        done = subprocess.run([LOX, *words], env={**os.environ, self.ALONE: "1", **environment}, cwd=self.directory,
                              timeout=SECONDS, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def test_every_task(self):
        before = self.names()
        for words in (self.words(), ("convert", "base", "out"), ("synth", "out"),
                      ("verify", "--base", "base", "--aligned", "aligned", "--hardened", "aligned")):
            for environment in ({"SLURM_STEP_NUM_TASKS": "3"}, {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "3"}):
                with self.subTest(words=words, environment=environment):
                    self.assert_refused(self.start(words, **environment), "srun started 3 tasks", "world of 1")
        self.assertEqual(self.names(), before)

    def test_launcher_of_another_mpi(self):
        """Where several MPIs are installed, their launchers are easily mixed up."""
        mine = os.path.realpath(shutil.which(MPIEXEC))
        others = {path for name in ("mpiexec.openmpi", "mpiexec.mpich") if (path := shutil.which(name))}
        others = [path for path in others if os.path.realpath(path) != mine]
        if not others:
            self.skipTest("no second MPI")
        before = self.names()
        for launcher in others:
            done = subprocess.run([launcher, "-n", "2", LOX, *self.words()], cwd=self.directory, timeout=SECONDS,
                                  text=True, capture_output=True, check=False)
            self.assertEqual(done.returncode, USAGE, done.stdout + done.stderr)
            self.assertIn("the launcher started 2 tasks but MPI sees a world of 1", done.stderr)
        self.assertEqual(self.names(), before)

    def test_one_process_in_a_larger_job(self):
        """A batch script's own process is in no step."""
        for number, environment in enumerate(({"SLURM_NTASKS": "3"}, {"SLURM_STEP_NUM_TASKS": "1", "SLURM_NTASKS": "3"})):
            with self.subTest(environment=environment):
                result = self.start(("convert", "base", f"out-{number}", "--quiet"), **environment)
                self.assertEqual((result.code, result.err), (0, ""))


class Signals(StartTest):
    """SIGTERM to every rank in the middle of a task that cannot be resumed: one line, and nothing is left behind."""

    def stop(self, words, begun, ranks):
        before = self.names()
        command = [MPIEXEC, "-n", str(ranks), LOX, *words] if ranks else [LOX, *words]
        with tempfile.TemporaryDirectory(prefix="ompi-", ignore_cleanup_errors=True) as session:
            environment = dict(os.environ, OMPI_MCA_orte_tmpdir_base=session)
            job = subprocess.Popen(command, cwd=self.directory, env=environment, text=True, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
            pids = wait_for(lambda: self.pids_at_work(job, ranks or 1, begun), "all ranks at work")
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            out, err = job.communicate(timeout=60)
        self.assert_refused(Result(job.returncode, out, err), "stopped by a signal", code=STOPPED)
        self.assertEqual(self.names(), before)

    def pids_at_work(self, job, count, begun):
        """The processes of the ranks, once all have `begun`."""
        self.assertIsNone(job.poll(), "over too soon")
        pids = [pid for pid in family_of(job.pid, process_table()) if executable(pid) == os.path.realpath(LOX)]
        return pids if len(pids) == count and all(begun(pid) for pid in pids) else None

    def test_synth(self):
        def begun(pid):
            return any("out.partial/model" in name for name in open_files(pid))

        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.stop(("synth", "out", "--shape", "llama-2-7b", "--layers", "2", "--role", "aligned"), begun, ranks)

    def test_verify(self):
        rng = np.random.default_rng(1)
        pairs = {f"{i}.weight": reference.random_pair(rng, (768, 768)) for i in range(24)}
        for side, name in enumerate(("base", "aligned")):
            (self.directory / f"{name}.safetensors").write_bytes(
                checkpoint.encode({tensor: pair[side] for tensor, pair in pairs.items()}))

        def begun(pid):
            return any("base.safetensors" in name for name in open_files(pid))

        for ranks in (0, 2):
            with self.subTest(ranks=ranks):
                self.stop(("verify", "--quiet", "--base", "base.safetensors", "--aligned", "aligned.safetensors",
                           "--hardened", "aligned.safetensors", "--sample", "0"), begun, ranks)


class Report(StartTest):
    """A report that would take the place of a file of an input or of the output is refused before anything begins."""

    def listing(self):
        return {path: (path.lstat().st_mode, path.lstat().st_ino, path.read_bytes() if path.is_file() else None)
                for path in sorted(self.directory.rglob("*"))}

    def test_places(self):
        os.symlink("base/config.json", self.directory / "link")
        os.link(self.directory / "aligned/model.safetensors", self.directory / "hard")
        before = self.listing()
        for report, fact in (("base/model.safetensors", "input"), ("link", "config.json"),
                             ("hard", "model.safetensors"), ("base/report.json", "input"), ("out", "output"),
                             ("out.partial", "output"), ("out.partial/model.safetensors", "output"),
                             ("out.journal/lock", "output"), ("aligned", "input"), (".", "folder")):
            for ranks in (0, 2) if report == "link" else (0,):
                with self.subTest(report=report, ranks=ranks):
                    result = self.lox(*self.words("--report", report), ranks=ranks, code=BAD_INPUT)
                    self.assert_refused(result, f"{report}: the report", fact, code=BAD_INPUT)
                    self.assertTrue(self.listing() == before, "something has changed")

    def test_an_unfinished_output_stays(self):
        """Also where --overwrite would throw it away."""
        self.lox(*self.words("--quiet", "--time-limit", "1s"), code=STOPPED)
        before = self.listing()
        for report in ("out.journal/job.json", "out.partial/config.json", "out.partial"):
            with self.subTest(report=report):
                result = self.lox(*self.words("--report", report, "--k", 3, "--overwrite"), code=BAD_INPUT)
                self.assert_refused(result, f"{report}: the report", "output", code=BAD_INPUT)
                self.assertTrue(self.listing() == before, "something has changed")


class Resume(StartTest):
    def test_the_same_inputs_written_otherwise(self):
        """A path may be written in several ways; the job that was begun goes on."""
        self.lox(*self.words("--quiet", "--time-limit", "1s"), code=STOPPED)
        (self.directory / "link").symlink_to("aligned")
        for base, aligned in (("./base", "aligned/"), ("base", self.directory / "aligned"), ("aligned/../base", "link")):
            with self.subTest(base=base, aligned=aligned):
                self.lox("harden", "--base", base, "--aligned", aligned, "--output", "out", "--quiet",
                         "--time-limit", "1s", code=STOPPED)
        self.lox("harden", "--base", "./base", "--aligned", "./aligned", "--output", "./out", "--quiet")


class WithoutMpi(LoxTest):
    """What needs no ranks starts no MPI: it works where MPI cannot start."""

    def test_words(self):
        broken = {**os.environ, "OMPI_MCA_pml": "bogus"}
        for words, code in ((("--help",), 0), (("--version",), 0), (("harden", "--help"), 0), (("help", "harden"), 0),
                            (("hardn",), USAGE), (("harden", "--bogus"), USAGE), (("convert", "x"), USAGE),
                            (("harden", "--config", "nowhere"), BAD_INPUT)):
            with self.subTest(words=words):
                done = subprocess.run([LOX, *words], env=broken, cwd=self.directory, timeout=SECONDS, text=True,
                                      stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertEqual(len(done.stderr.splitlines()), 0 if code == 0 else 1, done.stderr)


if __name__ == "__main__":
    unittest.main()
