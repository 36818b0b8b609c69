# SPDX-License-Identifier: MIT
"""jobs/harden.ini, filled in, is planned with what docs/cluster.md says that each model needs."""
import json
import re
import shutil
import tempfile
import unittest
from pathlib import Path

from program import run

ROOT = Path(__file__).resolve().parents[3]
JOB = (ROOT / "jobs/harden.ini").read_text()
ROW = re.compile(r"^\| ([a-z0-9.-]+) \| (\d+) x (\d+) \| (\d+) GB \| (\d+) GB \|$", re.MULTILINE)
MODELS = {name: tuple(map(int, numbers)) for name, *numbers in ROW.findall((ROOT / "docs/cluster.md").read_text())}
NO_ROOM = 5


class JobFile(unittest.TestCase):
    def test_models(self):
        self.assertEqual(set(MODELS), {"llama-2-7b", "llama-3-8b", "llama-3-70b", "llama-3.1-405b", "mistral-7b", "mixtral-8x7b",
                                       "qwen2.5-72b"})

    def test_unknown_key_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "job.ini").write_text(JOB + "coeff = 2\n")
            result = run("plan", "--config", "job.ini", directory=folder)
            self.assertEqual(result.code, 2)
            self.assertIn("coeff", result.err)


class Plans(unittest.TestCase):
    """The job file against checkpoints of each model's shapes, of which only the headers are written."""

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
        text = JOB
        for key in ("base", "aligned", "output"):  # as a user fills them in
            text = re.sub(rf"^{key} = .*$", f"{key} = {self.folder / key}", text, flags=re.MULTILINE)
        for key in replaced:
            text, count = re.subn(rf"^# ({key} = .*)$", r"\1", text, flags=re.MULTILINE)
            self.assertEqual(count, 1, key)
        (self.folder / "job.ini").write_text(text)
        nodes, on_node, memory, disk = MODELS[name]
        ranks = nodes * on_node
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
        self.assertEqual({item["where"] for item in plan["items"]}, {"local"}, "more memory than the page says")
        self.assertLessEqual(max(rank["memory"] for rank in plan["per_rank"]), memory * 1e9)
        self.assertLessEqual(plan["totals"]["disk"], disk * 1e9)
        self.assertGreater(plan["totals"]["disk"], (disk - 2) * 1e9)

    def test_exclude(self):
        """The example of a regular expression leaves the embeddings and the head as they are."""
        plan, matrices, _ = self.plan("llama-2-7b", exclude=True)
        self.assertEqual(sum(item["action"] == "edited" for item in plan["items"]), matrices - 2)


for model in MODELS:
    setattr(Plans, "test_" + re.sub(r"\W", "_", model), lambda self, model=model: self.check(model))


if __name__ == "__main__":
    unittest.main()
