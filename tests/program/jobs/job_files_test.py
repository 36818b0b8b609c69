# SPDX-License-Identifier: MIT
"""jobs/*.ini: each is what its comments say, and lox plans it for the model it is named after."""
import configparser
import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from program import run

JOBS = Path(__file__).resolve().parents[3] / "jobs"
FILES = {path.stem: path for path in sorted(JOBS.glob("*.ini"))}
FAMILIES = {"llama-2-7b", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "mistral-7b", "mixtral-8x7b", "qwen2.5-72b"}
NEEDS = re.compile(r"# Needs: (\d+) ranks, (\d+) GB a rank, (\d+) GB of disk\.")
NO_ROOM = 5


def keys_of(text):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string("[job]\n" + text)
    return dict(parser["job"])


class JobFiles(unittest.TestCase):
    def test_families(self):
        self.assertLessEqual(FAMILIES, set(FILES))

    def test_settings(self):
        """The paper's k and coef; paths to fill in; every commented key is an option, too."""
        options = set(re.findall(r"^  --([a-z]+)", run("harden", "--help").out, re.MULTILINE))
        for name, path in FILES.items():
            text = path.read_text()
            keys = keys_of(text)
            self.assertEqual((keys["k"], keys["coef"]), ("6", "1.25"), name)
            for key in ("base", "aligned", "output"):
                self.assertRegex(keys[key], r"^/path/to/\S+$", name)
            commented = keys_of("\n".join(re.findall(r"^# (\w+ = .*)$", text, re.MULTILINE)))
            self.assertLessEqual(set(keys) | set(commented), options, name)
            self.assertIn(f"slurm/harden.sbatch {name}.ini", text)
            self.assertRegex(text, NEEDS)

    def test_unknown_key_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "job.ini").write_text(FILES["llama-2-7b"].read_text() + "coeff = 2\n")
            result = run("plan", "--config", "job.ini", directory=folder)
            self.assertEqual(result.code, 2)
            self.assertIn("coeff", result.err)


class Plans(unittest.TestCase):
    """Each job file against a checkpoint of its model's shapes, of which only the headers are written."""

    def setUp(self):
        if "--headers-only" not in run("synth", "--help").out:
            self.skipTest("lox synth has no --headers-only")
        self.folder = Path(tempfile.mkdtemp(prefix="lox-test-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def plan(self, name, **replaced):
        """The plan and the number of two-dimensional tensors. Uncommented keys are `replaced`."""
        for role in ("base", "aligned"):
            made = run("synth", self.folder / role, "--shape", name, "--role", role, "--headers-only", "--overwrite")
            self.assertEqual(made.code, 0, made.err)
        text = FILES[name].read_text()
        for key in ("base", "aligned", "output"):  # as a user fills them in
            text = re.sub(rf"^{key} = .*$", f"{key} = {self.folder / key}", text, flags=re.MULTILINE)
        for key in replaced:
            text, count = re.subn(rf"^# ({key} = .*)$", r"\1", text, flags=re.MULTILINE)
            self.assertEqual(count, 1, key)
        (self.folder / "job.ini").write_text(text)
        ranks, memory, disk = map(int, NEEDS.search(text).groups())
        result = run("plan", "--config", "job.ini", "--ranks", ranks, "--memory", f"{memory}GB", "--json",
                     directory=self.folder)
        # The plan comes first; then lox sees that the file system here has no room for such an output.
        self.assertIn(result.code, (0, NO_ROOM), result.err)
        shapes = json.loads(run("inspect", self.folder / "aligned", "--json").out)["tensors"]
        return json.loads(result.out), sum(len(tensor["shape"]) == 2 for tensor in shapes), (ranks, memory, disk)

    def check(self, name):
        plan, matrices, (ranks, memory, disk) = self.plan(name)
        self.assertEqual(plan["ranks"], ranks)
        self.assertEqual(sum(item["action"] == "edited" for item in plan["items"]), matrices)
        self.assertEqual({item["where"] for item in plan["items"]}, {"local"}, "more memory than the file says")
        self.assertLessEqual(max(rank["memory"] for rank in plan["per_rank"]), memory * 1e9)
        self.assertLessEqual(plan["totals"]["disk"], disk * 1e9)
        self.assertGreater(plan["totals"]["disk"], (disk - 2) * 1e9)

    def test_exclude(self):
        """The commented regular expression does what its comment says."""
        plan, matrices, _ = self.plan("llama-2-7b", exclude=True)
        self.assertEqual(sum(item["action"] == "edited" for item in plan["items"]), matrices - 2)


for family in FILES:
    setattr(Plans, "test_" + re.sub(r"\W", "_", family), lambda self, family=family: self.check(family))


if __name__ == "__main__":
    unittest.main()
