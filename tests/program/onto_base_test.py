# SPDX-License-Identifier: MIT
"""base + coef * Delta_k by `lox apply --base`, against numpy in double."""
import json
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest

BAD_INPUT, NOT_CERTIFIED = 3, 4


class OntoBase(LoxTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(23)
        pairs = {"up": reference.random_pair(rng, (180, 150)), "experts": reference.random_pair(rng, (2, 60, 90)),
                 "small": reference.random_pair(rng, (4, 50)), "single": reference.random_pair(rng, (90, 130), dtype="F32"),
                 "norm": reference.random_pair(rng, (64,))}
        self.base, self.aligned = ({name: pair[side] for name, pair in pairs.items()} for side in (0, 1))
        for name, tensors in (("base", self.base), ("aligned", self.aligned)):
            self.put(name, tensors)
        self.lox("factor", "--quiet", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output", "store", "--k", 6)

    def put(self, name, tensors):
        (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode(tensors))

    def apply(self, *words, model="base", output="out-{coef}.safetensors", **more):
        return self.lox("apply", "--quiet", f"--{model}", f"{model}.safetensors", "--factors", "store", "--output", output, *words, **more)

    @staticmethod
    def expected(base, aligned, k, coef):
        """base + coef * Delta_k in double, matrix by matrix."""
        delta = aligned.values.astype(np.float64) - base.values.astype(np.float64)
        u, s, vt = np.linalg.svd(delta, full_matrices=False)
        return base.values + coef * (u[..., :k] * s[..., None, :k]) @ vt[..., :k, :]

    def test_against_numpy(self):
        for k in (6, 2):
            self.apply("--k", k, "--coef", "0.5,1", output=f"out-{k}-{{coef}}.safetensors", ranks=2)
            for coef in (0.5, 1):
                made = checkpoint.read(self.directory / f"out-{k}-{coef:g}.safetensors")
                self.assertEqual(list(made), list(self.base))
                self.assertEqual(made["norm"], self.base["norm"], "copied from the base")
                for name in ("up", "experts", "small", "single"):
                    wanted = self.expected(self.base[name], self.aligned[name], k, coef)
                    rounded = Tensor.of(self.base[name].dtype, wanted)
                    wrong = np.mean(made[name].values != rounded.values)
                    self.assertLess(wrong, 0.005 if self.base[name].dtype == "BF16" else 0.2, name)
                    self.assertLess(np.abs(made[name].values - wanted).max(), np.abs(made[name].values).max() * 2**-7, name)

    def test_coef_must_be_said(self):
        for task in ((), ("plan",)):
            said = self.lox(*task, "apply", "--base", "base.safetensors", "--factors", "store", "--output", "o", code=2)
            self.assertIn("--coef 1 gives base + Delta_k", said.err)
        for option in ("--coef", "--k"):  # empty, as of a variable that is not set
            said = self.lox("apply", "--aligned", "aligned.safetensors", "--factors", "store", "--output", "o", option, "", code=2)
            self.assertIn(f"{option} '' is no list of numbers", said.err)
        told = self.lox("apply", "--base", "base.safetensors", "--factors", "store", "--output", "o.safetensors", "--coef", 1).err
        self.assertIn("o.safetensors: k = 6, coef = 1\n", told)
        told = self.lox("apply", "--aligned", "aligned.safetensors", "--factors", "store", "--output", "a.safetensors").err
        self.assertIn("a.safetensors: k = 6, coef = 1.25\n", told)

    def test_full_delta_of_a_small_matrix_gives_the_aligned_one(self):
        """min(m, n) = 4 <= K: base + Delta is the aligned matrix, but for two roundings."""
        self.apply("--coef", "1", output="o.safetensors")
        made = checkpoint.read(self.directory / "o.safetensors")["small"].values
        wanted = self.aligned["small"].values
        self.assertLessEqual(np.abs(made - wanted).max(), np.abs(wanted).max() * 2**-8)

    def test_report_and_verify(self):
        self.apply("--coef", "1", output="o.safetensors")
        report = json.loads((self.directory / "o.safetensors.report.json").read_text())
        self.assertEqual((report["job"]["base"], report["job"]["coef"]), ("base.safetensors", 1.0))
        self.assertNotIn("aligned", report["job"])
        self.lox("verify", "--report", "o.safetensors.report.json", "--sample", 0)
        self.lox("verify", "--base", "base.safetensors", "--factors", "store", "--hardened", "o.safetensors", "--coef", 1)
        said = self.lox("verify", "--report", "o.safetensors.report.json", "--coef", 0.5, "--sample", 0, code=NOT_CERTIFIED)
        self.assertIn("tensor 'up' matrix 0: entry", said.out)
        made = checkpoint.read(self.directory / "o.safetensors")
        made["norm"] = self.aligned["norm"]
        self.put("o", made)
        said = self.lox("verify", "--report", "o.safetensors.report.json", code=NOT_CERTIFIED)
        self.assertIn("tensor 'norm': byte", said.out)
        self.assertIn("is not that of the base model", said.out)

    def test_another_model_is_refused(self):
        """The aligned one, and a base that differs in one entry."""
        (self.directory / "base.safetensors").rename(self.directory / "kept.safetensors")
        self.put("base", self.aligned)
        self.assertIn("is not the one that the factors are of", self.apply("--coef", "1", output="o", code=BAD_INPUT).err)
        changed = dict(self.base)
        values = changed["up"].values.copy()
        values[100, 3] += 1
        changed["up"] = Tensor.of(changed["up"].dtype, values)
        self.put("base", changed)
        self.assertIn("tensor 'up' matrix 0", self.apply("--coef", "1", output="o", code=BAD_INPUT).err)
        self.assertFalse((self.directory / "o").exists())
        self.lox("apply", "--aligned", "aligned.safetensors", "--base", "base.safetensors", "--factors", "store", "--output", "o", code=2)

    def test_a_store_that_does_not_know_its_base(self):
        """As lox 0.1 made them."""
        text = (self.directory / "store/factors.json").read_text()
        told = json.loads(text)
        for matrix in told["matrices"]:
            del matrix["base"]
        (self.directory / "store/factors.json").write_text(json.dumps(told).ljust(len(text)))
        for ranks in (0, 2):
            said = self.apply("--coef", "1", output="o", code=BAD_INPUT, ranks=ranks)
            self.assertIn("factor once more", said.err)
        self.apply("--coef", "1", model="aligned", output="o")


if __name__ == "__main__":
    unittest.main()
