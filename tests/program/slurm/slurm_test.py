# SPDX-License-Identifier: MIT
"""slurm/ on a real cluster of two nodes: whatever ends a job early, the result is that of an unbroken run."""
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

from checkpoint import Tensor, tree, write_directory
from cluster import Cluster, kill, missing
from program import LOX, journal_lines, run, wait_for

SCRIPTS = Path(__file__).resolve().parents[3] / "slurm"
PROGRAM = shutil.which(LOX) or LOX
TENSORS = 12
OPTIONS = "k = 4\ncoef = 1.25\nsvd = exact\n"  # the exact method: much to do for small files
SPREAD = ("--nodes=2", "--ntasks-per-node=1")

cluster = None
models = None


def setUpModule():
    absent = missing()
    if absent and os.environ.get("CI") != "1":
        raise unittest.SkipTest(f"no Slurm here: {', '.join(absent)} not found (Debian: slurm-wlm munge)")
    assert not absent, f"{absent} not found"
    global cluster, models
    models = Path(tempfile.mkdtemp(prefix="lox-test-"))
    unittest.addModuleCleanup(shutil.rmtree, models, ignore_errors=True)
    make_models()
    (models / "slow").mkdir()
    (models / "slow" / "lox").symlink_to(os.environ["LOX_WITH_FAULTS"])
    reference = run("harden", "--base", models / "base", "--aligned", models / "aligned", "--output", models / "whole",
                    "--k", 4, "--svd", "exact", ranks=3)
    assert reference.code == 0, reference.err
    cluster = Cluster()
    cluster.__enter__()
    unittest.addModuleCleanup(cluster.__exit__)


def make_models():
    """A pair in two shards. Each matrix takes a good part of a second, so that a job can be met at work."""
    rng = np.random.default_rng(5)
    base, aligned = ({"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}} for _ in range(2))
    for layer in range(TENSORS):
        shard = sorted(base)[layer * 2 // TENSORS]
        weights = 0.02 * rng.standard_normal((896, 1024), dtype=np.float32)
        base[shard][f"layers.{layer}.weight"] = Tensor.of("BF16", weights)
        weights += 5e-4 * rng.standard_normal(weights.shape, dtype=np.float32)
        aligned[shard][f"layers.{layer}.weight"] = Tensor.of("BF16", weights)
    files = {"config.json": b'{"model_type": "llama"}\n', "tokenizer.model": bytes(range(256))}
    write_directory(models / "base", base, files=files)
    write_directory(models / "aligned", aligned, files=files)


class SlurmTest(unittest.TestCase):
    """A test with a folder, a job file in it, and jobs that are submitted from there."""

    def setUp(self):
        self.folder = models / self.id().rsplit(".", maxsplit=1)[-1]
        self.folder.mkdir()
        self.output = self.folder / "hardened"
        self.write_job(models / "aligned")

    def write_job(self, aligned):
        (self.folder / "job.ini").write_text(
            f"# a comment\nbase = {models / 'base'}\naligned = {aligned}\noutput = {self.output}\n{OPTIONS}")

    def variables(self, **more):
        return {"LOX": PROGRAM, "SLURM_WAIT": "2", "OMPI_MCA_mpi_yield_when_idle": "1", **more}

    def harden(self, *options, **variables):
        return cluster.submit(*SPREAD, *options, SCRIPTS / "harden.sbatch", "job.ini", cwd=self.folder,
                              variables=self.variables(**variables))

    def finished(self):
        """Matrices that the journal of the output knows."""
        return len(journal_lines(self.output))

    def freeze(self, job):
        """Stops the clock of a job in the middle of its work, so that what comes next cannot come too late."""
        def at_work():
            tasks = job.tasks("lox")
            if len(tasks) != 2:
                return None
            self.addCleanup(self.thaw, tasks)
            while all(kill(pid, 0) for pid in tasks):  # a restart may be in between
                if self.finished() >= 2:
                    return [pid for pid in tasks if kill(pid, signal.SIGSTOP)]
                time.sleep(0.01)
            return None
        tasks = wait_for(at_work, "some progress", 90)
        self.assertLess(self.finished(), TENSORS)
        return tasks

    def thaw(self, tasks):
        for pid in tasks:
            kill(pid, signal.SIGCONT)

    def assert_unfinished(self):
        self.assertFalse(self.output.exists())
        self.assertTrue(Path(f"{self.output}.partial").exists())

    def assert_whole(self, job=None):
        """The output is that of an unbroken run, and so is the report."""
        said = job.log() if job else ""
        self.assertEqual(tree(self.output), tree(models / "whole"), said)
        report = json.loads(Path(f"{self.output}.report.json").read_text())
        self.assertEqual(report["totals"]["edited"], TENSORS)
        self.assertFalse(Path(f"{self.output}.partial").exists())
        self.assertFalse(Path(f"{self.output}.journal").exists())

    def assert_went_on(self, job):
        self.assertIn("going on with", job.log())
        self.assert_whole(job)

    def wait_for_all(self, lines):
        """Waits for the jobs that a script has printed as "NAME JOBID"; returns them by name."""
        jobs = {}
        for line in lines.splitlines():
            name, number = line.split()
            jobs[name] = cluster.job(int(number))
        for job in jobs.values():
            job.wait_for("COMPLETED")
        return jobs


class Chains(SlurmTest):
    def test_pipeline(self):
        """convert -> harden -> verify -> convert back on two ranks a node, as plain mpirun on three."""
        printed = cluster.run(SCRIPTS / "pipeline.sh", "--hdf5", "job.ini", "--nodes=2", "--ntasks-per-node=2", cwd=self.folder,
                              env={**cluster.environment, **self.variables()})
        jobs = self.wait_for_all(printed)
        self.assertEqual(list(jobs), ["convert-base", "convert-aligned", "harden", "verify", "convert-back"])
        self.assertIn("on 2 nodes (n[1-2]), 4 ranks", jobs["harden"].log())
        self.assert_whole(jobs["harden"])
        self.assertTrue((self.folder / "hardened.work/hardened.h5").exists())

    def test_several_coefs(self):
        """factor -> verify -> apply -> verify: each model has the bytes that harden gives it."""
        job = self.folder / "job.ini"
        job.write_text(job.read_text().replace(str(self.output), f"{self.output}-{{coef}}"))
        printed = cluster.run(SCRIPTS / "pipeline.sh", "--coef", "0.5,1.25", "job.ini", *SPREAD, cwd=self.folder,
                              env={**cluster.environment, **self.variables()})
        jobs = self.wait_for_all(printed)
        self.assertEqual(list(jobs), ["factor", "verify-factors", "apply", "verify-0.5", "verify-1.25"])
        self.output = self.folder / "hardened-1.25"
        self.assert_whole(jobs["apply"])
        self.assertNotEqual(tree(self.folder / "hardened-0.5"), tree(models / "whole"))

    def test_an_adapter(self):
        """docs/adapters.md: harden -> verify of what a LoRA training left, the base being read by two nodes."""
        rng = np.random.default_rng(6)
        tensors = {}
        for layer in range(TENSORS):
            module = f"base_model.model.layers.{layer}"
            tensors[f"{module}.lora_A.weight"] = Tensor.of("F32", 0.02 * rng.standard_normal((8, 1024)))
            tensors[f"{module}.lora_B.weight"] = Tensor.of("F32", 0.02 * rng.standard_normal((896, 8)))
        config = json.dumps({"peft_type": "LORA", "r": 8, "lora_alpha": 16}).encode()
        write_directory(self.folder / "adapter", {"adapter_model.safetensors": tensors}, index=False,
                        files={"adapter_config.json": config})
        self.write_job(self.folder / "adapter")
        plain = run("harden", "--config", "job.ini", "--output", "plain", directory=self.folder)
        self.assertEqual(plain.code, 0, plain.err)
        printed = cluster.run(SCRIPTS / "pipeline.sh", "job.ini", "--nodes=2", "--ntasks-per-node=2", cwd=self.folder,
                              env={**cluster.environment, **self.variables()})
        jobs = self.wait_for_all(printed)
        self.assertEqual(list(jobs), ["harden", "verify"])
        self.assertEqual(tree(self.output), tree(self.folder / "plain"))

    def test_stage(self):
        """A checkpoint arrives from a job, is hardened, and the next job gets it."""
        self.write_job(self.folder / "arrived")
        (self.folder / "next.sh").write_text("#!/bin/sh\nls \"$1\" > handed\n")
        align = cluster.submit("--wrap", f"cp -r {models / 'aligned'} arrived", cwd=self.folder)
        printed = cluster.run(SCRIPTS / "stage.sh", align.number, "job.ini", "next.sh", *SPREAD, cwd=self.folder,
                              env={**cluster.environment, **self.variables()})
        jobs = self.wait_for_all(printed)
        self.assertEqual(list(jobs), ["harden", "verify", "next"])
        self.assertEqual(sorted((self.folder / "handed").read_text().split()),
                         sorted([*tree(models / "whole"), "lox_report.json"]))
        self.assert_whole(jobs["harden"])

    def test_failure_ends_the_chain(self):
        """A stage whose input never came takes those after it along."""
        self.write_job(self.folder / "never")
        printed = cluster.run(SCRIPTS / "pipeline.sh", "job.ini", cwd=self.folder,
                              env={**cluster.environment, **self.variables()})
        harden, verify = (cluster.job(int(line.split()[1])) for line in printed.splitlines())
        harden.wait_for("FAILED")
        self.assertEqual((harden.exit_code, harden.restarts), (3, 0), harden.log())
        verify.wait_for("CANCELLED")


class Interrupted(SlurmTest):
    def variables(self, **more):
        """A pause before each matrix: the job can be met at work on any machine, and each gets its line in time."""
        return super().variables(**{"LOX": models / "slow" / "lox", "LOX_FAULT": "item:*:*:400", **more})

    def test_time_limit(self):
        """The script is warned, stops the ranks, goes back to the queue and finishes; who waits for it goes on waiting."""
        job = self.harden("--time=1", "--signal=B:USR1@30")
        after = cluster.submit(f"--dependency=afterok:{job.number}", "--wrap", "true", cwd=self.folder)
        tasks = self.freeze(job)
        # Slurm looks every half minute: the warning may have come before the ranks were up (this is a later start then),
        # or just before they were frozen. Each start gets one.
        restarts = job.restarts
        wait_for(lambda: job.log().count("asked to stop") > restarts, "the warning before the time limit", 75)
        time.sleep(2)  # if the launcher lost it while the ranks started, the script has said it again
        self.thaw(tasks)
        wait_for(lambda: job.restarts > restarts, "the requeue", 60)
        self.assert_unfinished()
        self.assertEqual(after.state, "PENDING")
        job.wait_for("COMPLETED")
        self.assert_went_on(job)
        after.wait_for("COMPLETED")

    def test_preemption(self):
        """A job of a partition with more priority takes the nodes, and gives them back."""
        job = self.harden()
        self.freeze(job)  # preemption continues the tasks by itself
        urgent = cluster.submit("--partition=urgent", "--nodes=2", "--exclusive", "--wrap", "true", cwd=self.folder)
        urgent.wait_for("COMPLETED")
        self.assert_unfinished()
        job.wait_for("COMPLETED")
        self.assertEqual(job.restarts, 1, job.log())
        self.assert_went_on(job)

    def test_signal(self):
        """scancel --signal=USR1 ends the job with 75 where it may not be requeued; any number of ranks goes on."""
        job = self.harden("--no-requeue", LOX_RANK_LOGS="logs")
        tasks = self.freeze(job)
        cluster.run("scancel", "--signal=USR1", job.number)
        time.sleep(0.5)
        self.thaw(tasks)
        job.wait_for("FAILED")
        self.assertEqual((job.exit_code, job.restarts), (75, 0), job.log())
        self.assert_unfinished()
        self.assertEqual(sorted(log.name for log in (self.folder / "logs").iterdir()),
                         [f"lox-harden-{job.number}-{rank}.log" for rank in range(2)])
        resumed = run("harden", "--config", "job.ini", ranks=3, directory=self.folder)
        self.assertEqual(resumed.code, 0, resumed.err)
        self.assertIn("going on with", resumed.err)
        self.assert_whole()

    def test_lost_signal(self):
        """The warning comes while the launcher is starting the ranks, and is lost: the script says it again."""
        programs = self.folder / "bin"
        programs.mkdir()
        deaf = programs / "srun"
        deaf.write_text("#!/bin/sh\ntrap ': > lost' USR1 USR2\n: > ready\nuntil [ -e lost ]; do sleep 0.1; done\n"
                        f'exec {shutil.which("srun", path=cluster.environment["PATH"])} "$@"\n')
        deaf.chmod(0o755)
        job = self.harden(PATH=f"{programs}:{cluster.environment['PATH']}", LOX_FAULT="item:*:*:2000")
        wait_for((self.folder / "ready").exists, "the start", 60)
        cluster.run("scancel", "--batch", "--signal=USR1", job.number)
        wait_for(lambda: job.restarts == 1, "the requeue", 60)
        self.assertEqual(job.log().count("asked to stop"), 1)
        job.wait_for("COMPLETED")
        self.assert_whole(job)

    def test_mpirun(self):
        """The other launcher, to which TERM would be the end of all ranks: it comes as USR2."""
        job = self.harden(LOX_LAUNCHER="mpirun")
        tasks = self.freeze(job)
        cluster.run("scancel", "--batch", "--signal=TERM", job.number)
        wait_for(lambda: "asked to stop" in job.log(), "the signal", 20)
        self.thaw(tasks)
        wait_for(lambda: job.restarts == 1, "the requeue", 60)
        self.assertIn("lox harden ended with 75", job.log())
        job.wait_for("COMPLETED")
        self.assert_went_on(job)

    def test_cancel(self):
        """What the user cancels stays cancelled, and can be taken up again."""
        job = self.harden()
        tasks = self.freeze(job)
        cluster.run("scancel", job.number)
        self.thaw(tasks)
        job.wait_for("CANCELLED")
        self.assertEqual(job.restarts, 0, job.log())
        self.assert_unfinished()
        job = self.harden()
        job.wait_for("COMPLETED")
        self.assert_went_on(job)

    def test_lost_node(self):
        """A node is gone with all its processes: Slurm takes the job back and it goes on."""
        job = self.harden()
        tasks = self.freeze(job)
        cluster.fail_node("n2")
        self.addCleanup(cluster.wait_for_nodes)
        self.thaw(tasks)
        wait_for(lambda: job.restarts == 1, "the requeue", 60)
        self.assert_unfinished()
        cluster.start_node("n2")  # and comes back by itself
        job.wait_for("COMPLETED")
        self.assert_went_on(job)

    def test_killed_rank(self):
        """A rank is killed, for want of memory say: the script tries again."""
        job = self.harden()
        tasks = self.freeze(job)
        kill(tasks[-1], signal.SIGKILL)
        self.thaw(tasks)
        wait_for(lambda: job.restarts == 1, "the requeue", 60)
        self.assert_unfinished()
        job.wait_for("COMPLETED")
        self.assert_went_on(job)


class Refused(SlurmTest):
    def refuse(self, code, *options, **variables):
        job = self.harden(*options, **variables)
        job.wait_for("FAILED")
        if code:
            self.assertEqual(job.exit_code, code, job.log())
        self.assertEqual(job.restarts, 0)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()),
                         ["job.ini", f"lox-harden-{job.number}.log"], job.log())
        return job.log()

    def test_launcher_without_pmi(self):
        """srun starts ranks that find no process manager: MPI itself gives up."""
        self.refuse(None, LOX_MPI="none")

    def test_singletons(self):
        """srun starts ranks that all think they are alone, as some MPIs do: lox gives up, or each would write the output."""
        alone = models / "alone"
        alone.write_text(f'#!/bin/sh\nexec env -u SLURM_STEP_ID -u SLURM_JOBID -u SLURM_NODELIST {PROGRAM} "$@"\n')
        alone.chmod(0o755)
        said = self.refuse(2, LOX=str(alone), LOX_MPI="none")
        self.assertIn("launcher and MPI do not match", said)

    def test_unknown_program(self):
        self.assertIn("no such program", self.refuse(2, LOX="/nowhere/lox"))

    def test_unknown_launcher(self):
        self.assertIn("neither srun nor mpirun", self.refuse(2, LOX_LAUNCHER="ssh"))


class Clean(unittest.TestCase):
    def test_nothing_is_left(self):
        """The cluster ends with its owner, also when that is killed."""
        script = Path(__file__).with_name("cluster.py")
        owner = subprocess.Popen(["/usr/bin/env", "python3", "-B", script, "sh", "-c", "echo $SLURM_CONF; sleep 60"],
                                 stdout=subprocess.PIPE, text=True, start_new_session=True)
        folder = Path(owner.stdout.readline().strip()).parent
        self.assertTrue((folder / "slurmctld.pid").exists())
        os.killpg(owner.pid, signal.SIGKILL)
        owner.communicate()
        wait_for(lambda: not folder.exists(), "the end of the cluster", 30)


if __name__ == "__main__":
    unittest.main()
