# SPDX-License-Identifier: MIT
"""What slurm/pipeline.sh would submit: names as lox makes them, job files as lox reads them."""
import os
import shlex
import subprocess
import unittest
from pathlib import Path
from unittest import mock

from program import LoxTest

SCRIPT = Path(__file__).parents[2] / "slurm" / "pipeline.sh"
USAGE = 2


class Pipeline(LoxTest):
    def submitted(self, *words, code=0, **lines):
        """The commands of a dry run, as lists of words, or what is refused."""
        lines = {"base": "base", "aligned": "aligned", "output": "out-{coef}", **lines}
        (self.directory / "job.ini").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        done = subprocess.run(["bash", SCRIPT, "--dry-run", *words, "job.ini"], cwd=self.directory, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, code, done.stderr)
        return [shlex.split(line, comments=True) for line in done.stdout.splitlines()] if code == 0 else done.stderr

    def test_coefs_are_written_as_lox_writes_them(self):
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")
        self.lox("factor", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "store", "--k", 2)
        coefs = "0.50,1.0,.25,0.12345678,0010,123456.25,1000000"
        self.lox("apply", "--quiet", "--aligned", "aligned", "--factors", "store", "--output", "out-{coef}",
                 "--coef", coefs.replace(",.25", ",0.25"))
        made = {path.name for path in self.directory.glob("out-*") if path.is_dir()}
        commands = self.submitted("--coef", coefs)
        self.assertEqual({words[words.index("--hardened") + 1] for words in commands if "--hardened" in words}, made)
        self.assertEqual(len(made), 7)

    def test_coefs_that_are_refused(self):
        for coef in ("1e-3", "x", "0.00001", "-1", "1.2.3", "0.1234567890123456"):
            self.assertIn(f"--coef: {coef}", self.submitted("--coef", coef, code=USAGE))

    def test_what_only_a_shell_knows(self):
        with mock.patch.dict(os.environ, {"MODELS": "m"}):
            self.assertIn("m/base", str(self.submitted(base="${MODELS}/base", output="o")))
        for path in ("$(pwd)/base", "${BASE:-x}/base", "~me/base", "${1}/base"):
            self.assertIn(path, self.submitted(base=path, output="o", code=USAGE))


if __name__ == "__main__":
    unittest.main()
