# SPDX-License-Identifier: MIT
"""Matrices solved by all ranks together: agreement with one rank alone, mixed plans, memory."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np

LOX = os.environ["LOX"]
MPIEXEC = os.environ["MPIEXEC"]


def lox(*arguments, ranks=1, check=True):
    command = [LOX, *map(str, arguments)]
    if ranks > 1:
        command = [MPIEXEC, "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    if check and done.returncode != 0:
        raise AssertionError(f"{command} -> {done.returncode}\n{done.stderr}")
    return done


class Grid(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory()
        cls.dir = Path(cls.scratch.name)
        cls.pair = ["--base", cls.dir / "base", "--aligned", cls.dir / "aligned"]
        for role in ("base", "aligned"):
            lox("synth", cls.dir / role, "--shape", "tiny", "--layers", 1, "--role", role, "--quiet")
        lox("harden", *cls.pair, "--output", cls.dir / "local", "--grid", "never", "--quiet")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def report(self, output):
        return json.loads(Path(f"{output}.report.json").read_text())

    def entries(self, output):
        """The bf16 words of the output's tensors, whole."""
        raw = (output / "model.safetensors").read_bytes()
        length = int.from_bytes(raw[:8], "little")
        return raw[: 8 + length], np.frombuffer(raw, np.uint16, offset=8 + length)

    def expect_agreement(self, output):
        """At least 99.8% of the entries identical, none off by more than one unit in the last place."""
        header, local = self.entries(self.dir / "local")
        other_header, found = self.entries(output)
        self.assertEqual(header, other_header)
        differs = local != found
        self.assertLessEqual(differs.mean(), 0.002)
        # Neighbours in bf16 have neighbouring words, but across zero, where both are tiny.
        steps = np.abs(local[differs].astype(np.int32) - found[differs].astype(np.int32))
        self.assertTrue(np.all(steps <= 1), steps.max() if len(steps) else 0)
        for ours, theirs in zip(self.report(self.dir / "local")["tensors"], self.report(output)["tensors"]):
            self.assertEqual(ours["name"], theirs["name"])
            if ours["action"] == "edited":
                worst = np.max(np.abs(np.subtract(ours["sigma"], theirs["sigma"])))
                self.assertLessEqual(worst, 1e-5 * ours["sigma"][0])
                self.assertLessEqual(theirs["certificate"], 1e-4)

    def test_every_matrix_on_the_grid_agrees_with_one_rank(self):
        for ranks in (1, 2, 3, 4, 7):
            with self.subTest(ranks=ranks):
                output = self.dir / f"grid-{ranks}"
                lox("harden", *self.pair, "--output", output, "--grid", "always", "--quiet", ranks=ranks)
                self.expect_agreement(output)
                for tensor in self.report(output)["tensors"]:
                    if tensor["action"] == "edited":
                        self.assertEqual(tensor["where"], "grid")

    def test_exact_on_the_grid(self):
        output = self.dir / "grid-exact"
        lox("harden", *self.pair, "--output", output, "--grid", "always", "--svd", "exact", "--quiet",
            "--exclude", "embed_tokens|lm_head|mlp", ranks=3)
        local = self.dir / "local-exact"
        lox("harden", *self.pair, "--output", local, "--svd", "exact", "--quiet", "--exclude",
            "embed_tokens|lm_head|mlp")
        _, ours = self.entries(local)
        _, theirs = self.entries(output)
        self.assertLessEqual((ours != theirs).mean(), 1e-4)

    def test_full_rank_is_the_same_everywhere(self):
        outputs = [self.dir / "full-1", self.dir / "full-3"]
        lox("harden", *self.pair, "--output", outputs[0], "--k", 0, "--quiet")
        lox("harden", *self.pair, "--output", outputs[1], "--k", 0, "--grid", "always", "--quiet", ranks=3)
        self.assertTrue(np.array_equal(self.entries(outputs[0])[1], self.entries(outputs[1])[1]))

    def test_full_rank_without_an_edit_still_knows_its_delta(self):
        outputs = [self.dir / "none-1", self.dir / "none-2"]
        for ranks, output in enumerate(outputs, 1):
            lox("harden", *self.pair, "--output", output, "--k", 0, "--coef", 0, "--quiet", "--grid",
                "never" if ranks == 1 else "always", ranks=ranks)
        for ours, theirs in zip(*(self.report(output)["tensors"] for output in outputs)):
            self.assertEqual(ours["action"], theirs["action"])
            if ours["action"] == "edited":
                self.assertAlmostEqual(ours["delta_norm"], theirs["delta_norm"], delta=1e-6 * ours["delta_norm"])

    def test_mixed_plan_writes_one_file_in_both_formats(self):
        """A limit just below what the embeddings need on one rank sends them, and only them, to the grid."""
        plan = json.loads(lox("plan", *self.pair, "--output", self.dir / "x", "--json", "--grid", "never").stdout)
        needs = {item["name"]: item["memory"] for item in plan["items"]}
        memory = needs["lm_head.weight"] - 1
        self.assertLess(needs["model.layers.0.mlp.up_proj.weight"], memory)
        for name in ("mixed", "mixed.h5"):
            lox("harden", *self.pair, "--output", self.dir / name, "--memory", memory, "--quiet", ranks=3)
        where = {t["name"]: t.get("where") for t in self.report(self.dir / "mixed")["tensors"]}
        self.assertEqual(where["lm_head.weight"], "grid")
        self.assertEqual(where["model.embed_tokens.weight"], "grid")
        self.assertEqual(where["model.layers.0.mlp.up_proj.weight"], "local")
        self.expect_agreement(self.dir / "mixed")
        lox("convert", self.dir / "mixed.h5", self.dir / "mixed-back", "--quiet")
        self.assertEqual((self.dir / "mixed-back/model.safetensors").read_bytes(),
                         (self.dir / "mixed/model.safetensors").read_bytes())

    def test_too_little_memory_is_refused_beforehand(self):
        done = lox("harden", *self.pair, "--output", self.dir / "small", "--memory", "64MiB", ranks=2, check=False)
        self.assertEqual(done.returncode, 3)
        self.assertIn("--memory", done.stderr)
        self.assertFalse((self.dir / "small.partial").exists())


class GridMemory(unittest.TestCase):
    def test_no_rank_holds_the_matrix(self):
        """16384 x 16384: 1 GiB of delta on four ranks; each stays within a tenth of the plan's formula."""
        with tempfile.TemporaryDirectory() as scratch:
            scratch = Path(scratch)
            n = 16384
            header = json.dumps({"w": {"dtype": "BF16", "shape": [n, n], "data_offsets": [0, 2 * n * n]}}).encode()
            header += b" " * (-len(header) % 8)
            generator = np.random.default_rng(1)
            row = (generator.normal(0, 0.02, n).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
            for name, flip in (("base", 0), ("aligned", 1)):
                with open(scratch / f"{name}.safetensors", "wb") as file:
                    file.write(len(header).to_bytes(8, "little") + header)
                    generator = np.random.default_rng(2)
                    for first in range(0, n, 1024):
                        block = np.tile(row, (1024, 1))
                        if flip:  # the last place of a few entries: a sparse random delta
                            block ^= (generator.random((1024, n), dtype=np.float32) < 0.05).astype(np.uint16)
                        else:
                            generator.random((1024, n), dtype=np.float32)
                        file.write(block.tobytes())
            pair = ["--base", scratch / "base.safetensors", "--aligned", scratch / "aligned.safetensors",
                    "--output", scratch / "out.safetensors", "--k", 2, "--tolerance", "0.3", "--grid", "always"]
            plan = json.loads(lox("plan", *pair, "--ranks", 4, "--json").stdout)
            lox("harden", *pair, "--quiet", ranks=4)
            report = json.loads((scratch / "out.safetensors.report.json").read_text())
            peak = report["totals"]["peak_rss_bytes"]
            print(f"peak {peak / 2**20:.0f} MiB, planned {plan['per_rank'][0]['memory'] / 2**20:.0f} MiB, "
                  f"delta {4 * n * n / 2**20:.0f} MiB")
            self.assertLess(peak, 1.1 * plan["per_rank"][0]["memory"])
            self.assertLess(peak, 4 * n * n)  # less than the matrix


if __name__ == "__main__":
    unittest.main()
