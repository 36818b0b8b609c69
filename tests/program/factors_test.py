# SPDX-License-Identifier: MIT
"""Solve once, apply often: stores of factors, and the models made of them."""
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest, run
from ranks_test import FILES, make_pair

K = 6
STORES = ("store", "store.h5", "store.safetensors")


class FactorsTest(LoxTest):
    """A pair of every kind of tensor, and stores of its factors in all formats."""

    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        cls.base, cls.aligned = make_pair()
        checkpoint.write_directory(cls.models / "aligned", cls.aligned, files=FILES, metadata={"format": "pt"})
        checkpoint.write_directory(cls.models / "base", cls.base, files=FILES, metadata={"format": "pt"})
        for number, store in enumerate(STORES):
            cls.make("factor", "--base", "base", "--aligned", "aligned", "--k", K, "--output", store, ranks=number + 1)

    @classmethod
    def make(cls, *arguments, ranks=0):
        result = run(*arguments, ranks=ranks, directory=cls.models)
        assert result.code == 0, result.err

    def apply(self, store, *options, output="out", ranks=0, code=0, aligned="aligned"):
        return self.lox("apply", "--aligned", self.models / aligned, "--factors", self.models / store, "--output",
                        output, *options, ranks=ranks, code=code)

    def hardened(self, k, coef, *options):
        """The tree that harden writes."""
        name = f"hardened-{k}-{coef}"
        self.lox("harden", "--base", self.models / "base", "--aligned", self.models / "aligned", "--k", k, "--coef",
                 coef, "--output", name, *options)
        return checkpoint.tree(self.directory / name)

    def assert_tree(self, output, expected):
        found = checkpoint.tree(self.directory / output)
        self.assertEqual(sorted(found), sorted(expected))
        self.assertEqual([name for name in found if found[name] != expected[name]], [])


class Bytes(FactorsTest):
    def test_applied_are_hardened(self):
        for coef in (0.25, 1.25, 7):
            expected = self.hardened(K, coef)
            for number, store in enumerate(STORES):
                with self.subTest(coef=coef, store=store):
                    output = f"{store}-{coef}"
                    self.apply(store, "--coef", coef, output=output, ranks=3 - number)
                    self.assert_tree(output, expected)

    def test_progress_ends_at_its_end(self):
        """All that a task was to read and write, and no more."""
        pair = ("--base", self.models / "base", "--aligned", self.models / "aligned")
        for result in (self.lox("factor", *pair, "--k", K, "--output", "again"),
                       self.apply("store", "--coef", "1,2,3", output="out-{coef}")):
            last = [line for line in result.lines if "% " in line and "tensors" in line][-1]
            self.assertIn("lox: 100% ", last)

    def test_one_reading_makes_several_models(self):
        self.apply("store.h5", "--coef", "0.25,1.25,2", "--k", f"2,{K}", output="out-{k}-{coef}", ranks=2)
        for coef in (0.25, 1.25, 2):
            self.assert_tree(f"out-{K}-{coef}", self.hardened(K, coef))
        self.assertTrue((self.directory / "out-2-0.25.report.json").exists())
        self.apply("store.h5", "--coef", "0.25", "--k", 2, output="alone")
        self.assert_tree("alone", checkpoint.tree(self.directory / "out-2-0.25"))

    def test_fewer_triplets_agree_with_harden(self):
        for k in (1, 2, 4):
            self.hardened(k, 1.25)
            self.apply("store", "--k", k, output=f"out-{k}")
            found = checkpoint.read(self.directory / f"out-{k}")
            expected = checkpoint.read(self.directory / f"hardened-{k}-1.25")
            for name, tensor in expected.items():
                with self.subTest(k=k, name=name):
                    if tensor.stored.ndim < 2 or tensor.stored.size == 0 or tensor.dtype in ("I64", "BOOL"):
                        self.assertEqual(found[name], tensor)
                        continue
                    aligned = next(shard[name] for shard in self.aligned.values() if name in shard)
                    edit = tensor.values.astype(np.float64) - aligned.values
                    result = reference.agreement(found[name], tensor, edit)
                    if tensor.dtype != "F64":  # has more digits than any solver gives
                        self.assertGreaterEqual(result.identical, 0.998)
                    self.assertLessEqual(result.worst, 1)

    def test_by_all_ranks_together(self):
        for what, output in (("factor", "grid.h5"), ("harden", "hardened")):
            self.lox(what, "--base", self.models / "base", "--aligned", self.models / "aligned", "--k", K, "--grid",
                     "always", "--output", output, ranks=3)
        self.lox("apply", "--aligned", self.models / "aligned", "--factors", "grid.h5", "--output", "out", ranks=2)
        self.assert_tree("out", checkpoint.tree(self.directory / "hardened"))

    def test_a_rank_beyond_small_matrices(self):
        expected = self.hardened(45, 1.25)
        self.lox("factor", "--base", self.models / "base", "--aligned", self.models / "aligned", "--k", 45, "--output",
                 "wide.h5", ranks=2)
        self.lox("apply", "--aligned", self.models / "aligned", "--factors", "wide.h5", "--output", "out")
        self.assert_tree("out", expected)
        self.lox("apply", "--aligned", self.models / "aligned", "--factors", "wide.h5", "--k", 3, "--output", "out3",
                 "--accept-open")

    def test_selected_tensors(self):
        expected = self.hardened(K, 1.25, "--include", "up|down", "--exclude", "layers.0.up")
        self.lox("factor", "--base", self.models / "base", "--aligned", self.models / "aligned", "--k", K, "--output",
                 "some", "--include", "up|down", "--exclude", "layers.0.up")
        self.lox("apply", "--aligned", self.models / "aligned", "--factors", "some", "--output", "out")
        self.assert_tree("out", expected)


class Store(FactorsTest):
    def triplets(self, name):
        tensors = checkpoint.read(self.models / "store")
        parts = {end: tensors[f"{name}.{end}"].values.astype(np.float64) for end in "usv"}
        for end in "usv":
            if f"{name}.{end}_low" in tensors:
                parts[end] = parts[end] + tensors[f"{name}.{end}_low"].values
        return parts["u"], parts["s"], parts["v"]

    def test_triplets_are_singular_triplets(self):
        info = json.loads((self.models / "store/factors.json").read_text())
        entries = {(entry["tensor"], entry["matrix"]): entry for entry in info["matrices"]}
        self.assertEqual(info["k"], K)
        checked = 0
        for shard, tensors in self.aligned.items():
            for name, aligned in tensors.items():
                if aligned.stored.ndim < 2 or aligned.stored.size == 0 or aligned.dtype in ("I64", "BOOL"):
                    self.assertNotIn((name, 0), entries)
                    continue
                delta = reference.delta(aligned, self.base[shard][name]).astype(np.float64)
                u, s, v = self.triplets(name)
                self.assertEqual(u.shape, (*delta.shape[:-1], K))
                self.assertEqual(v.shape, (*delta.shape[:-2], delta.shape[-1], K))
                for number, matrix in enumerate(delta.reshape(-1, *delta.shape[-2:])):
                    with self.subTest(name=name, matrix=number):
                        checked += 1
                        entry = entries[name, number]
                        sigma = np.linalg.svd(matrix, compute_uv=False)
                        mine = [x.reshape(-1, *x.shape[-2:])[number] for x in (u, v)]
                        values = s.reshape(-1, K)[number]
                        np.testing.assert_allclose(values, sigma[:K], rtol=1e-4)
                        self.assertAlmostEqual(entry["delta_norm"], np.linalg.norm(matrix), delta=1e-5 * sigma[0])
                        for side, other, a in ((*mine, matrix), (*mine[::-1], matrix.T)):
                            residual = np.linalg.norm(a @ other - side * values, axis=0) / values
                            self.assertLess(residual.max(), 1e-4)
                        self.assertEqual(len(entry["residuals"]), K)
                        self.assertLessEqual(max(entry["residuals"]), 1e-4)
        self.assertGreater(checked, 10)

    def test_formats_hold_the_same(self):
        for store in STORES[1:]:
            self.lox("convert", self.models / store, "folder", "--overwrite")
            found = checkpoint.read(self.directory / "folder")
            self.assertEqual(found, checkpoint.read(self.models / "store"))
        with h5py.File(self.models / "store.h5") as file:
            info = json.loads(bytes(file["files/factors.json"]))
            self.assertEqual(info["k"], K)
            self.assertIn("layers.0.q.weight.u", file["tensors"])
        metadata = checkpoint.decode((self.models / "store.safetensors").read_bytes())[1]
        self.assertEqual(json.loads(metadata["factors.json"])["matrices"], info["matrices"])

    def test_a_store_outlives_conversions(self):
        expected = self.hardened(K, 1.25)
        for store, steps in (("store", ("a.h5", "b")), ("store.safetensors", ("c.h5", "d.safetensors"))):
            source = self.models / store
            for step in steps:
                self.lox("convert", source, step)
                source = self.directory / step
            output = f"out-{steps[1][0]}"
            self.lox("apply", "--aligned", self.models / "aligned", "--factors", source, "--output", output)
            self.assert_tree(output, expected)

    def test_report(self):
        report = json.loads((self.models / "store.report.json").read_text())
        self.assertEqual(report["totals"]["edited"], 0)
        self.assertGreater(report["totals"]["factored"], 5)
        self.assertNotIn("coef", report["job"])
        table = self.lox("report", self.models / "store.report.json").out
        self.assertIn("factored", table)
        self.assertIn("certificate", table)
        for of_edits in ("edit/delta", "realised", "changed"):
            self.assertNotIn(of_edits, table)
        self.assertRegex(self.lox("status", self.models / "store").out, r": finished, k \d+$")
        self.apply("store", "--coef", "0.5")
        mine = json.loads((self.directory / "out.report.json").read_text())
        self.hardened(K, 0.5)
        theirs = json.loads((self.directory / f"hardened-{K}-0.5.report.json").read_text())
        self.assertEqual(mine["totals"]["edited"], theirs["totals"]["edited"])
        for found, expected in zip(mine["tensors"], theirs["tensors"], strict=True):
            self.assertEqual(found["name"], expected["name"])
            self.assertEqual(found["action"], expected["action"])
            for key in ("edit_norm", "realised", "changed", "delta_norm", "energy"):
                if key in expected:
                    self.assertAlmostEqual(found[key], expected[key], delta=1e-5 * abs(expected[key]) + 1e-12, msg=key)


class Verified(FactorsTest):
    def verify(self, *options, code=0, ranks=0):
        return self.lox("verify", "--aligned", self.models / "aligned", "--sample", 0, *options, code=code, ranks=ranks)

    def changed_store(self, name, change):
        tensors, metadata = checkpoint.decode((self.models / "store.safetensors").read_bytes())
        stored = tensors[name].stored.copy()
        change(stored)
        tensors[name] = Tensor("F32", stored)
        (self.directory / "changed.safetensors").write_bytes(checkpoint.encode(tensors, metadata))
        return "changed.safetensors"

    def test_stores(self):
        for store in STORES:
            said = self.verify("--base", self.models / "base", "--factors", self.models / store, ranks=2)
            self.assertIn("the triplets of 14 of 14 matrices", said.err)
            self.assertIn("verified", said.err)
        said = self.verify("--base", self.models / "aligned", "--factors", self.models / "store", code=4)
        self.assertIn("layers.0.q.weight", said.out)

    def test_changed_stores(self):
        def scaled(stored):
            stored[..., 2] *= 1.001

        def swapped(stored):
            stored[..., [0, 1]] = stored[..., [1, 0]]

        def one_entry(stored):
            stored.reshape(-1)[7] += 1e-3

        for name, change, words in (("layers.0.up.weight.s", scaled, "singular value 3"),
                                    ("layers.0.up.weight.s", swapped, "singular value 1"),
                                    ("layers.0.up.weight.u", swapped, "residual"),
                                    ("experts.weight.v", one_entry, "residual"),
                                    ("layers.0.up.weight.u", scaled, "residual")):
            with self.subTest(name=name, change=change.__name__):
                store = self.changed_store(name, change)
                said = self.verify("--base", self.models / "base", "--factors", store, code=4)
                self.assertIn(name[:-2], said.out)
                self.assertIn(words, said.out)

    def test_applied_models(self):
        for k, coef in ((K, 1.25), (2, 0.5)):
            self.apply("store.h5", "--k", k, "--coef", coef, output=f"out-{k}")
            said = self.verify("--factors", self.models / "store", "--hardened", f"out-{k}", "--k", k, "--coef", coef,
                               ranks=2)
            self.assertIn("14 of 14 edited matrices", said.err)
        self.verify("--factors", self.models / "store", "--hardened", f"out-{K}")
        self.verify("--base", self.models / "base", "--hardened", f"out-{K}")
        for wrong in (("--coef", 1.26), ("--k", K - 1)):
            said = self.verify("--factors", self.models / "store", "--hardened", f"out-{K}", *wrong, code=4)
            self.assertIn("layers.0.up.weight", said.out)
        shutil.copytree(self.directory / f"out-{K}", self.directory / "touched")
        (self.directory / "touched/config.json").write_bytes(b"{}")
        said = self.verify("--factors", self.models / "store", "--hardened", "touched", code=4)
        self.assertIn("config.json", said.out)
        self.verify("--factors", self.models / "store", "--hardened", f"out-{K}", "--base", "x", code=2)


if __name__ == "__main__":
    unittest.main()
