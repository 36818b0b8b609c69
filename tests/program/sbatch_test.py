# SPDX-License-Identifier: MIT
"""`lox plan --sbatch` prints shell commands that submit the same job: no option is lost, none is read otherwise."""
import json
import os
import re
import subprocess
import unittest
from pathlib import Path

from program import LoxTest, run

SCRIPT = Path(__file__).resolve().parents[2] / "slurm/harden.sbatch"
# Of every option of harden, values that a shell or an INI file might take for something else.
VALUES = {
    "base": ["base", "b a s e", "#base", "-base", "ba'se", 'b"a$(e)`s`e\\', "ba\nse", " base ", "ba%se", "a=b", "[base]", "ba\tse",
             "END", "b;ase&", "bäse", "~", "*"],
    "aligned": ["ali # gned"],
    "output": ["out", "o u t", "out#", "--out", "o'ut"],
    "k": ["0", "4"],
    "coef": ["0.5", "1e0"],
    "svd": ["exact"],
    "tolerance": ["1e-5"],
    "proof": ["0.1"],
    "grid": ["always", "never"],
    "memory": ["3GiB", "987654321"],
    "include": ["q_proj", "(q|k)_proj\\.weight$", "[#q]_proj", "-?q_proj", "q_proj|^ $", "q_proj| x "],
    "exclude": ["q_proj", "(q|k)_proj\\.weight$", "[#q]_proj", "-?q_proj"],
    "rename": ["(q)_proj=\\1_proj", "-?q_proj=q_proj"],
    "unpaired": ["copy"],
    "extra-rows": ["copy"],
    "seed": ["7", "random"],
    "report": ["r e.json", "-r", "a#b"],
    "time-limit": ["2h", "1:30:00"],
    "recheck": [None],
    "overwrite": [None],
    "quiet": [None],
}
# Records its arguments, and does what harden.sbatch would do with them: but plan, not harden.
SBATCH = """#!/usr/bin/env bash
printf '%s\\0' "$@" > recorded
while [[ $1 == --*=* ]]; do shift; done
shift
task=
case $1 in factor | apply) task=$1; shift ;; esac
job_file=$1
shift
"$LOX" plan $task --config "$job_file" "$@" --json --ranks 6 > planned
"""


def words_of(name, *values):
    return [f"--{name}" if value is None else f"--{name}={value}" for value in values]


class Sbatch(LoxTest):
    def setUp(self):
        super().setUp()
        for role in ("base", "aligned"):
            self.lox("synth", role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")
        (self.directory / "bin").mkdir()
        fake = self.directory / "bin/sbatch"
        fake.write_text(SBATCH)
        fake.chmod(0o755)

    def submit(self, text, code=0):
        """Runs what was printed; returns the options for Slurm, the script, the job file and the options for harden."""
        environment = {**os.environ, "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-u"], input=text, cwd=self.directory, env=environment, text=True, capture_output=True,
                              check=False)
        self.assertEqual(done.returncode, code, text + done.stderr)
        if code:
            return done.stderr
        recorded = (self.directory / "recorded").read_text().split("\0")[:-1]
        count = next(i for i, word in enumerate(recorded) if not re.match(r"--\w[\w-]*=", word))
        return recorded[:count], recorded[count], recorded[count + 1], recorded[count + 2:]

    def settings(self, job_file, words):
        """All values of each option, as the job would see them: the command line wins."""
        found = {}
        for line in (self.directory / job_file).read_text().splitlines():
            line = line.split("#")[0].strip()
            if line:
                name, value = map(str.strip, line.split("=", 1))
                found.setdefault(name, []).append(None if value == "true" else value)
        given = {}
        for word in words:
            name, _, value = word.removeprefix("--").partition("=")
            given.setdefault(name, []).append(value if "=" in word else None)
        return {**found, **given}

    def check(self, *words, config=()):
        """The plan of what was submitted is the plan of the command, and the settings are those of the command."""
        (self.directory / "harden.ini").unlink(missing_ok=True)
        (self.directory / "planned").unlink(missing_ok=True)
        printed = self.lox("plan", "--sbatch", "--ranks", 6, *config, *words).out
        _, script, job_file, rest = self.submit(printed)
        self.assertEqual(script, str(SCRIPT))
        own = self.lox("plan", "--json", "--ranks", 6, *config, *words).out
        submitted = json.loads((self.directory / "planned").read_text())
        own = json.loads(own)
        for plan in (submitted, own):
            self.assertGreater(plan["totals"].pop("disk_free"), 0)  # changes
        self.assertEqual(submitted, own, printed)
        expected = self.settings("job.ini" if config else os.devnull, words)
        self.assertEqual(self.settings(job_file, rest), expected, printed)
        return printed

    def test_values_are_known(self):
        options = set(re.findall(r"(?m)^  --([a-z-]+)", run("harden", "--help").out))
        self.assertEqual(set(VALUES), options - {"config", "as-adapter"})

    def model(self, role, name):
        if not (self.directory / name).exists():
            (self.directory / name).symlink_to(self.directory / role)

    def arguments(self, name, values):
        if name in ("base", "aligned"):
            self.model(name, values[0])
        paths = {"base": "base", "aligned": "aligned", "output": "out"}
        paths.pop(name, None)
        words = [word for key, value in paths.items() for word in words_of(key, value)]
        return words, words_of(name, *values)

    def test_no_job_file(self):
        for name, values in VALUES.items():
            for value in values:
                with self.subTest(option=name, value=value):
                    common, words = self.arguments(name, [value])
                    self.check(*common, *words)

    def test_with_a_job_file(self):
        (self.directory / "job.ini").write_text("base = base\naligned = aligned\noutput = out\nk = 5\nexclude = k_proj\n")
        for name, values in VALUES.items():
            for value in values:
                with self.subTest(option=name, value=value):
                    _, words = self.arguments(name, [value])
                    printed = self.check(*words, config=("--config", "job.ini"))
                    self.assertNotIn("harden.ini", printed)
        printed = self.check(config=("--config", "job.ini"))
        self.assertRegex(printed, r"^sbatch .* job\.ini\n$")

    def test_repeated(self):
        """All values of an option in the file or all on the command line, which wins over the file."""
        common, _ = self.arguments("k", ["6"])
        plain = self.check(*common, *words_of("exclude", "q_proj", "k_proj"), "--overwrite", "--recheck")
        self.assertRegex(plain, r"^[^\n]*<<'END' &&\n(.*\n)*exclude = q_proj\nexclude = k_proj\n(.*\n)*END\nsbatch .* harden\.ini\n$")
        mixed = self.check(*common, *words_of("exclude", "q_proj", "k_proj[#]?"))
        self.assertNotIn("exclude =", mixed)

    def test_job_file_is_not_overwritten(self):
        common, _ = self.arguments("k", ["6"])
        printed = self.lox("plan", "--sbatch", *common).out
        (self.directory / "harden.ini").write_text("k = 1\n")
        self.assertIn("harden.ini", self.submit(printed, code=1))
        self.assertEqual((self.directory / "harden.ini").read_text(), "k = 1\n")
        self.assertFalse((self.directory / "recorded").exists())

    def test_factor_and_apply(self):
        """Their tasks, their job files' names, their options."""
        self.lox("factor", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "store")
        asked = {"factor": ["--base=base", "--aligned=aligned", "--output=f t", "--k=4", "--exclude=[#q]_proj"],
                 "apply": ["--aligned=aligned", "--factors=store", "--output=$o-{coef}", "--coef=0.5,1", "--accept-open"]}
        for task, words in asked.items():
            printed = self.lox("plan", task, "--sbatch", "--ranks", 6, *words).out
            recorded = self.submit(printed)
            self.assertEqual(recorded[1:3], (str(SCRIPT), task), printed)
            self.assertEqual(recorded[3][0], f"{task}.ini")
            settings = self.settings(f"{task}.ini", recorded[3][1:])
            self.assertEqual(settings, self.settings(os.devnull, words), printed)
            plans = [json.loads((self.directory / "planned").read_text()),
                     json.loads(self.lox("plan", task, "--json", "--ranks", 6, *words).out)]
            for plan in plans:
                plan["totals"].pop("disk_free")
            self.assertEqual(*plans)

    def test_job_file_with_a_dash(self):
        (self.directory / "-j.ini").write_text("base = base\naligned = aligned\noutput = out\n")
        printed = self.lox("plan", "--sbatch", "--config=-j.ini").out
        self.assertEqual(self.submit(printed)[2:], ("./-j.ini", []))

    def test_needs(self):
        """What Slurm is asked for: as many ranks as were planned, evenly; more time and memory than foreseen."""
        common, _ = self.arguments("k", ["6"])
        plan = json.loads(self.lox("plan", "--json", "--ranks", 6, *common).out)
        printed = self.lox("plan", "--sbatch", "--ranks", 6, "--ranks-per-node", 4, "--cpus-per-rank", 2, *common).out
        asked = dict(word[2:].split("=") for word in self.submit(printed)[0])
        self.assertEqual((asked["nodes"], asked["ntasks"], asked["ntasks-per-node"], asked["cpus-per-task"]),
                         ("2", "6", "3", "2"))
        (self.directory / "harden.ini").unlink()
        many = self.lox("plan", "--sbatch", "--ranks", 6, "--ranks-per-node", 2**31 - 1, *common).out
        self.assertEqual(self.submit(many)[0][:2], ["--nodes=1", "--ntasks=6"])
        (self.directory / "harden.ini").unlink()
        odd = self.lox("plan", "--sbatch", "--ranks", 5, *common).out
        self.assertEqual(self.submit(odd)[0][:3], ["--nodes=2", "--ntasks=5", "--ntasks-per-node=3"])
        memory = max(rank["memory"] for rank in plan["per_rank"]) * 3 * 1.2 / 2**30
        self.assertTrue(0 <= int(asked["mem"].removesuffix("G")) - memory < 1, asked)
        self.assertTrue(0 <= int(asked["time"]) - 10 - 2 * plan["totals"]["seconds"] / 60 + 1 <= 1.01, asked)


if __name__ == "__main__":
    unittest.main()
