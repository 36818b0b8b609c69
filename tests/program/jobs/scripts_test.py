# SPDX-License-Identifier: MIT
"""slurm/: what the scripts refuse and would submit, without a cluster."""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[3] / "slurm"
JOB = "base = a b  # the base\naligned=aligned/\n\noutput = out\nk = 4\n# coef = 9\ninclude = q_proj\ninclude = k_proj\n"


class ScriptTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lox-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        (self.folder / "job.ini").write_text(JOB)

    def bash(self, script, *arguments, code=0, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        done = subprocess.run(["bash", SCRIPTS / script, *arguments], cwd=self.folder, env={**environment, **variables},
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout if code == 0 else done.stderr


class Scripts(ScriptTest):
    def test_shellcheck(self):
        checker = shutil.which("shellcheck")
        if checker is None and os.environ.get("CI") != "1":
            self.skipTest("no shellcheck here")
        self.assertIsNotNone(checker, "shellcheck not found")
        done = subprocess.run([checker, "-x", "-P", "SCRIPTDIR/..", *sorted(SCRIPTS.iterdir())], stdout=subprocess.PIPE, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_contract(self):
        """What a job needs to survive its time limit and preemption is in the script itself."""
        text = (SCRIPTS / "harden.sbatch").read_text()
        directives = re.findall(r"^#SBATCH (.*)$", text, re.MULTILINE)
        for wanted in ("--requeue", "--signal=B:USR1@180", "--open-mode=append"):
            self.assertIn(wanted, directives)
        # What depends on the cluster is for the user to choose.
        for name in ("nodes", "ntasks", "mem", "time", "partition"):
            self.assertEqual([line for line in directives if line.startswith(f"--{name}")], [])

    def test_nothing_of_a_test_cluster(self):
        for script in SCRIPTS.iterdir():
            self.assertNotRegex(script.read_text(), r"OMPI_|oversubscribe|RUN_AS_ROOT|btl")


class Refusals(ScriptTest):
    def test_harden(self):
        self.assertIn("which job file", self.bash("harden.sbatch", code=2))
        self.assertIn("cannot read", self.bash("harden.sbatch", "nowhere.ini", code=2))
        self.assertIn("this is a job for sbatch", self.bash("harden.sbatch", "job.ini", code=2))
        self.assertIn("which job file", self.bash("harden.sbatch", "factor", code=2))
        self.assertIn("lox apply --config job.ini", self.bash("harden.sbatch", "apply", "job.ini", code=2))

    def test_run(self):
        self.assertIn("which command", self.bash("run.sbatch", code=2))
        self.assertIn("no such program", self.bash("run.sbatch", "verify", code=2, LOX="/nowhere/lox"))

    def test_pipeline(self):
        self.assertIn("which job file", self.bash("pipeline.sh", code=2))
        self.assertIn("not an option", self.bash("pipeline.sh", "--nodes=2", "job.ini", code=2))
        self.assertIn("--direct is not an option", self.bash("pipeline.sh", "--direct", "job.ini", code=2))
        self.assertIn("cannot read", self.bash("pipeline.sh", "nowhere.ini", code=2))
        self.assertIn("no {coef} in output", self.bash("pipeline.sh", "--coef", "1,2", "job.ini", code=2))
        self.assertIn("one at a time", self.bash("pipeline.sh", "--coef", "1", "--hdf5", "job.ini", code=2))
        (self.folder / "job.ini").write_text("base = b\naligned = a\n")
        self.assertIn("no output", self.bash("pipeline.sh", "--dry-run", "job.ini", code=2))

    def test_stage(self):
        self.assertIn("usage", self.bash("stage.sh", "1", "job.ini", code=2))


class Pipeline(ScriptTest):
    def commands(self, *arguments):
        return [re.sub(r"\S*/slurm/", "", line).split("#")[0].replace("sbatch --parsable --job-name=lox-", "").strip()
                for line in self.bash("pipeline.sh", "--dry-run", *arguments).splitlines()]

    def test_by_way_of_hdf5(self):
        self.assertEqual(self.commands("--hdf5", "job.ini", "--account=me"), [
            r"convert-base --account=me run.sbatch convert --overwrite a\ b out.work/base.h5",
            r"convert-aligned --account=me run.sbatch convert --overwrite aligned out.work/aligned.h5",
            "harden --account=me --dependency=afterok:JOB1:JOB2 --kill-on-invalid-dep=yes harden.sbatch job.ini "
            "--base out.work/base.h5 --aligned out.work/aligned.h5 --output out.work/hardened.h5 --report out.report.json",
            "verify --account=me --dependency=afterok:JOB3 --kill-on-invalid-dep=yes run.sbatch verify "
            r"--base a\ b --aligned aligned --hardened out.work/hardened.h5 --k 4 --include q_proj --include k_proj",
            "convert-back --account=me --dependency=afterok:JOB4 --kill-on-invalid-dep=yes run.sbatch convert "
            "out.work/hardened.h5 out"])
        self.assertEqual(list(self.folder.iterdir()), [self.folder / "job.ini"])

    def test_converts_nothing_unasked(self):
        harden, verify = self.commands("--after", "7", "job.ini")
        self.assertIn(r"--dependency=afterok:7 --kill-on-invalid-dep=yes harden.sbatch job.ini --base a\ b", harden)
        self.assertIn("--output out --report out.report.json", harden)
        self.assertTrue(verify.startswith("verify --dependency=afterok:JOB1 "), verify)
        self.assertIn("--hardened out ", verify)

    def test_hdf5_needs_no_conversion(self):
        (self.folder / "job.ini").write_text("base = b.h5\naligned = a\noutput = o.hdf5\nreport = r.json\n")
        convert, harden, verify = self.commands("--after", "7", "--hdf5", "job.ini")
        self.assertTrue(convert.startswith("convert-aligned --dependency=afterok:7 "))
        self.assertIn("--dependency=afterok:7:JOB1 ", harden)
        self.assertIn("--base b.h5 --aligned o.hdf5.work/aligned.h5 --output o.hdf5 --report r.json", harden)
        self.assertIn("--aligned a --hardened o.hdf5", verify)

    def test_several_coefs(self):
        (self.folder / "job.ini").write_text(JOB.replace("output = out", "output = out-{coef}"))
        self.assertEqual(self.commands("--after", "7", "--coef", "0.50,1", "job.ini", "--account=me"), [
            "factor --account=me --dependency=afterok:7 --kill-on-invalid-dep=yes harden.sbatch factor out-all.work/factor.ini",
            "verify-factors --account=me --dependency=afterok:JOB1 --kill-on-invalid-dep=yes run.sbatch verify "
            r"--base a\ b --aligned aligned --factors out-all.work/factors.h5",
            "apply --account=me --dependency=afterok:JOB2 --kill-on-invalid-dep=yes harden.sbatch apply out-all.work/apply.ini",
            *(f"verify-{coef} --account=me --dependency=afterok:JOB{before} --kill-on-invalid-dep=yes run.sbatch verify "
              f"--aligned aligned --factors out-all.work/factors.h5 --hardened out-{coef} --coef {coef}"
              for before, coef in ((3, "0.5"), (4, "1")))])
        self.assertEqual(list(self.folder.iterdir()), [self.folder / "job.ini"])

    def test_job_files_of_several_coefs(self):
        """What the job file says of solving goes to factor, what it says of running to both."""
        (self.folder / "job.ini").write_text("base = b # c\naligned = a/\noutput = o-{coef}\ncoef = 9\nk = 4\nmemory = 4GiB\n")
        fake = self.folder / "bin/sbatch"
        fake.parent.mkdir()
        fake.write_text("#!/bin/sh\necho 5\n")
        fake.chmod(0o755)
        said = self.bash("pipeline.sh", "--coef", "1,2", "job.ini", PATH=f"{fake.parent}:{os.environ['PATH']}")
        self.assertEqual([line.split()[0] for line in said.splitlines()],
                         ["factor", "verify-factors", "apply", "verify-1", "verify-2"])
        work = self.folder / "o-all.work"
        self.assertEqual((work / "factor.ini").read_text(),
                         "base = b # c\naligned = a/\nk = 4\nmemory = 4GiB\noutput = o-all.work/factors.h5\n")
        self.assertEqual((work / "apply.ini").read_text(), "memory = 4GiB\naligned = a\nfactors = o-all.work/factors.h5\n"
                         "output = o-{coef}\ncoef = 1,2\n")


if __name__ == "__main__":
    unittest.main()
