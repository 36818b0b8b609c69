# SPDX-License-Identifier: MIT
"""What stands in a job file: paths as a shell would read them, keys that all tasks take or none, times as Slurm writes them."""
import json
import os
import unittest
from unittest import mock

from program import LoxTest

USAGE, BAD_INPUT, STOPPED = 2, 3, 75


class JobFileTest(LoxTest):
    def setUp(self):
        super().setUp()
        (self.directory / "models").mkdir()
        for role in ("base", "aligned"):
            self.lox("synth", f"models/{role}", "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")
        environment = {"HOME": str(self.directory), "MODELS": "models", "WHICH": "aligned"}
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)

    def job(self, name="job.ini", **lines):
        (self.directory / name).write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        return ("--config", name)


class Paths(JobFileTest):
    def test_home_and_variables(self):
        words = self.job(base="~/models/base", aligned="$MODELS/${WHICH}", output="~/out", report="${MODELS}/r.json")
        self.lox("plan", *words)
        self.lox("harden", "--quiet", *words)
        job = json.loads((self.directory / "models/r.json").read_text())["job"]
        self.assertEqual(job["base"], str(self.directory / "models/base"))
        self.assertEqual(job["aligned"], "models/aligned")
        self.assertTrue((self.directory / "out").is_dir())

    def test_of_factor_and_apply(self):
        self.lox("factor", "--quiet", *self.job(base="~/models/base", aligned="$MODELS/aligned", output="~/store"))
        self.lox("apply", "--quiet", *self.job(aligned="~/models/aligned", factors="~/store", output="~/out-{coef}", coef="0.5"))
        self.assertTrue((self.directory / "out-0.5").is_dir())

    def test_a_variable_that_is_not_set(self):
        for path in ("$NOT_SET/base", "a/${NOT_SET}"):
            said = self.lox("plan", *self.job(base=path, aligned="a", output="o"), code=USAGE)
            self.assertIn("job.ini: ", said.err)
            self.assertIn("$NOT_SET is not set", said.err)

    def test_what_only_a_shell_knows_is_refused(self):
        for path, word in (("$(pwd)/base", "$("), ("${BASE:-x}/base", "${BASE:-x}"), ("a/${1}", "${1}"), ("~me/base", "~me"),
                           ("~me", "~me")):
            for key in ("base", "output"):
                with self.subTest(path=path, key=key):
                    words = self.job(**{"base": "models/base", "aligned": "models/aligned", "output": "o", key: path})
                    said = self.lox("harden", *words, code=USAGE)
                    self.assertEqual(len(said.lines), 1)
                    self.assertIn(f"job.ini: '{path}': '{word}", said.err)

    def test_what_is_no_variable_stays(self):
        """A lone dollar sign, digits, braces that do not close, a tilde elsewhere; and all of them on the command line."""
        for name in ("a$", "$1", "${", "${x", "x~", "a$-b"):
            with self.subTest(name=name):
                words = self.job(base="models/base", aligned="models/aligned", output=name)
                self.lox("harden", "--quiet", *words)
                self.assertTrue((self.directory / name).is_dir())
        self.lox("harden", "--quiet", "--base", "models/base", "--aligned", "models/aligned", "--output", "$MODELS-x")
        self.assertTrue((self.directory / "$MODELS-x").is_dir())

    def test_patterns_are_not_paths(self):
        words = self.job(base="models/base", aligned="models/aligned", output="o", include="q_proj.weight$|$MODELS")
        self.lox("harden", "--quiet", *words)
        self.assertEqual(json.loads((self.directory / "o.report.json").read_text())["job"]["include"], ["q_proj.weight$|$MODELS"])


class Keys(JobFileTest):
    def test_ranks_are_said_elsewhere(self):
        """The same line for the plan and for the job."""
        words = self.job(base="models/base", aligned="models/aligned", output="o", ranks=8)
        said = [self.lox(task, *words, code=USAGE).lines for task in ("plan", "harden")]
        self.assertEqual(*said)
        self.assertIn("--ranks tells a plan", said[0][0])
        for key in ("json", "sbatch", "help"):
            self.lox("plan", *self.job(base="b", aligned="a", output="o", **{key: 1}), code=USAGE)

    def test_a_job_file_without_its_option(self):
        self.job(base="models/base", aligned="models/aligned", output="o")
        for task in (("plan",), ("harden",), ("plan", "factor")):
            said = self.lox(*task, "job.ini", code=USAGE)
            self.assertIn("'job.ini' is an argument too many; did you mean --config job.ini?", said.err)
            self.assertEqual(len(said.lines), 1)
        self.assertIn("'c' is an argument too many; see", self.lox("convert", "a", "b", "c", code=USAGE).err)


class Times(JobFileTest):
    def test_as_slurm_writes_them(self):
        for number, limit in enumerate(("1-00:00:00", "0-1", "1-0:30", "2d", "1:00:00", "30:00", "90m")):
            words = self.job(base="models/base", aligned="models/aligned", output=f"o{number}")
            self.lox("harden", "--quiet", *words, "--time-limit", limit)
        self.lox("harden", "--quiet", *self.job(base="models/base", aligned="models/aligned", output="p"), "--time-limit", "0-00:00:01",
                 code=STOPPED)

    def test_a_bare_number_is_refused(self):
        """Minutes to Slurm, seconds to others."""
        said = self.lox("harden", *self.job(base="b", aligned="a", output="o", **{"time-limit": 90}), code=USAGE)
        self.assertIn("--time-limit '90' has no unit", said.err)


if __name__ == "__main__":
    unittest.main()
