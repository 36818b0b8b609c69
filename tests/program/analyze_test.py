# SPDX-License-Identifier: MIT
"""Spectra, shares and overlaps of `lox analyze`, against full SVDs in double by numpy."""
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest, run

K = (1, 6, 100)
SHAPES = {
    "layers.0.q.weight": ((160, 192), "BF16"),
    "layers.0.up.weight": ((288, 160), "BF16"),
    "layers.1.q.weight": ((200, 200), "F32"),
    "layers.1.down.weight": ((96, 240), "F32"),
    "experts.weight": ((3, 144, 136), "BF16"),
    "model.embed_tokens.weight": ((310, 150), "BF16"),
    "half.weight": ((48, 64), "F16"),
    "norm.weight": ((160,), "BF16"),
}


def make_models(seed=7):
    """base, aligned and two models tuned from it: one pulls the top directions back, one adds others."""
    rng = np.random.default_rng(seed)
    models = {name: {} for name in ("base", "aligned", "back", "other")}
    for name, (shape, dtype) in SHAPES.items():
        base, aligned = reference.random_pair(rng, shape, dtype=dtype)
        models["base"][name], models["aligned"][name] = base, aligned
        before = aligned.values.astype(np.float64)
        delta = before - base.values
        step = reference.random_matrix(rng, shape, "alignment", 4e-4)
        models["other"][name] = Tensor.of(dtype, before + step)
        models["back"][name] = Tensor.of(dtype, before - 0.7 * delta + 0.3 * step)
    models["back"]["half.weight"] = models["base"]["half.weight"]
    models["other"]["half.weight"] = models["aligned"]["half.weight"]
    return models


class Delta:
    """A full SVD in double."""

    def __init__(self, model, base, name, number):
        pair = [tensor.values.astype(np.float64).reshape(-1, *tensor.shape[-2:])[number]
                for tensor in (model[name], base[name])]
        self.weight = pair[0]
        self.matrix = pair[0] - pair[1]
        self.norm = np.linalg.norm(self.matrix)
        self.u, self.sigma, self.vt = np.linalg.svd(self.matrix, full_matrices=False)
        self.rank = np.count_nonzero(self.sigma > 1e-9 * self.sigma[0]) if self.norm > 0 else 0

    def left(self, k):
        return self.u[:, :min(k, self.rank)]

    def right(self, k):
        return self.vt[:min(k, self.rank)].T

    def share(self, of, k):
        """|U_k^T D'| / |D'|, U_k of this one."""
        return np.linalg.norm(self.left(k).T @ of.matrix) / of.norm


def overlap(a, b):
    return np.linalg.norm(a.T @ b)**2 / max(a.shape[1], b.shape[1])


def angles(a, b):
    """Principal angles by the definition: largest cosines one after the other."""
    return np.arccos(np.minimum(1, np.linalg.svd(a.T @ b, compute_uv=False)))


class AnalyzeTest(LoxTest):
    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        cls.made = make_models()
        for name, tensors in cls.made.items():
            checkpoint.write_directory(cls.models / name, {"model.safetensors": tensors}, index=False,
                                       files={"config.json": b"{}"})
        result = run("factor", "--base", "base", "--aligned", "aligned", "--k", 100, "--output", "store",
                     directory=cls.models)
        assert result.code == 0, result.err

    def words(self, *options, output="r.json", k=K, tuned=("back", "other"), base="base", aligned="aligned"):
        words = ["analyze", "--base", self.models / base, "--aligned", self.models / aligned, "--k",
                 ",".join(map(str, k)), "--output", output]
        for name in tuned:
            words += ["--tuned", self.models / name]
        return [*words, *options]

    def analyze(self, *options, ranks=0, **named):
        self.lox(*self.words(*options, **named), ranks=ranks)
        return json.loads((self.directory / named.get("output", "r.json")).read_text())


def without_run(analysis):
    """What does not depend on the machine, the moment, or the paths."""
    analysis = json.loads(json.dumps(analysis))
    for key in ("bytes_read", "seconds", "peak_rss_bytes", "ranks", "rank_seconds"):
        analysis["totals"].pop(key)
    analysis.pop("proof")
    analysis["job"].pop("output")
    return analysis


class Numbers(AnalyzeTest):
    def check_matrix(self, found, name, number, tolerance=1e-5, ks=K):
        base = self.made["base"]
        delta = Delta(self.made["aligned"], base, name, number)
        least = min(delta.matrix.shape)
        self.assertEqual(len(found["sigma"]), min(max(ks), least))
        np.testing.assert_allclose(found["sigma"], delta.sigma[:max(ks)], rtol=1e-6)
        self.assertAlmostEqual(found["delta_norm"] / delta.norm, 1, delta=1e-6)
        self.assertAlmostEqual(found["weight_norm"] / np.linalg.norm(delta.weight), 1, delta=1e-12)
        self.assertAlmostEqual(found["stable_rank"] * delta.sigma[0]**2 / delta.norm**2, 1, delta=1e-5)
        for k in ks:
            energy = np.sum(delta.sigma[:k]**2) / delta.norm**2
            self.assertAlmostEqual(found["energy"][str(k)], energy, delta=1e-6)
            self.assertAlmostEqual(found["r_align"][str(k)], np.sqrt(energy), delta=1e-6)
        for model, told in zip(("back", "other"), found["tuned"], strict=True):
            tuned = Delta(self.made[model], base, name, number)
            if tuned.norm == 0:
                self.assertEqual(told["delta_norm"], 0)
                self.assertEqual(set(told["r_ft"].values()) | set(told["overlap_left"].values()), {None})
                continue
            self.assertAlmostEqual(told["delta_norm"] / tuned.norm, 1, delta=1e-6)
            for k in ks:
                expected = {"r_ft": delta.share(tuned, k), "overlap_left": overlap(delta.left(k), tuned.left(k)),
                            "overlap_right": overlap(delta.right(k), tuned.right(k))}
                for key, value in expected.items():
                    self.assertAlmostEqual(told[key][str(k)], value, delta=tolerance, msg=f"{model} {key} {k}")
                for side, a, b in (("left", delta.left(k), tuned.left(k)), ("right", delta.right(k), tuned.right(k))):
                    if f"angles_{side}" in told:
                        np.testing.assert_allclose(told[f"angles_{side}"][str(k)], angles(a, b), atol=1e-3)

    def check(self, analysis, tolerance=1e-5):
        names = [tensor["name"] for tensor in analysis["tensors"]]
        self.assertEqual(names, [name for name, (shape, _) in SHAPES.items() if len(shape) > 1])
        for tensor in analysis["tensors"]:
            shape, dtype = SHAPES[tensor["name"]]
            self.assertEqual((tensor["shape"], tensor["dtype"]), (list(shape), dtype))
            for number, matrix in enumerate(tensor.get("batch", [tensor])):
                with self.subTest(name=tensor["name"], matrix=number):
                    self.check_matrix(matrix, tensor["name"], number, tolerance)

    def test_one_rank(self):
        analysis = self.analyze("--angles")
        self.check(analysis)
        self.assertIn("angles_left", analysis["tensors"][0]["tuned"][1])

    def test_ranks_tell_the_same(self):
        alone = self.analyze()
        self.assertNotIn("angles_left", alone["tensors"][0]["tuned"][1])
        for ranks in (1, 3):
            self.assertEqual(without_run(self.analyze(output=f"{ranks}.json", ranks=ranks)), without_run(alone))

    def test_all_ranks_together(self):
        analysis = self.analyze("--grid", "always", ranks=3)
        self.assertEqual({tensor["where"] for tensor in analysis["tensors"] if "where" in tensor}, {"local", "grid"})
        self.check(analysis, tolerance=1e-4)
        stored = self.analyze("--grid", "always", "--factors", self.models / "store", output="s.json", ranks=3)
        self.check(stored, tolerance=1e-4)

    def test_from_a_store(self):
        alone = without_run(self.analyze("--factors", self.models / "store", "--angles"))
        self.assertEqual(alone["job"]["factors"], str(self.models / "store"))
        self.check(alone)
        stored = self.analyze("--factors", self.models / "store", "--angles", output="s.json", ranks=3)
        self.assertEqual(without_run(stored), alone)
        solved = self.analyze(output="solved.json")
        for one, other in zip(stored["tensors"], solved["tensors"]):
            for key in ("settled", "method", "certificate"):
                if key in one:
                    self.assertAlmostEqual(one[key], other[key], delta=1e-2 * other[key]) if key == "certificate" else \
                        self.assertEqual(one[key], other[key])
        some = self.analyze("--factors", self.models / "store", "--include", "layers", k=(2,), output="some.json")
        self.assertEqual(len(some["tensors"]), 4)
        for tensor in some["tensors"]:
            self.check_matrix(tensor, tensor["name"], 0, ks=(2,))

    def test_a_tuned_adapter_is_the_model_that_it_makes(self):
        aligned, other, folder = self.models / "aligned", self.models / "other", self.directory
        self.lox("factor", "--base", aligned, "--aligned", other, "--k", 5, "--exclude", "experts", "--output", folder / "store")
        self.lox("adapter", "--factors", folder / "store", "--coef", 1, "--onto", "base", "--for", "peft", "--output", folder / "lora")
        self.lox("harden", "--base", aligned, "--aligned", folder / "lora", "--coef", 0, "--output", folder / "merged")
        told = []
        for name, ranks in (("merged", 1), ("lora", 1), ("lora", 3)):
            told.append(without_run(self.analyze(output=f"{name}-{ranks}.json", ranks=ranks, tuned=(folder / name,))))
        for analysis in told:
            for tensor in analysis["tensors"]:
                for one in [tensor, *tensor.get("batch", [])]:
                    for tuned in one["tuned"]:
                        tuned.pop("model", None)
        self.assertGreater(told[0]["totals"]["mean"]["tuned"][0]["r_ft"]["6"], 0)
        for analysis in told[1:]:
            self.assertEqual(analysis["tensors"], told[0]["tensors"])
        shutil.copy(folder / "lora/adapter_model.safetensors", folder / "lora/old.safetensors")
        said = self.lox(*self.words(output="warned.json", tuned=(folder / "lora",))).err
        self.assertIn("old.safetensors: is no part of the adapter", said)
        grid = self.analyze("--grid", "always", output="grid.json", ranks=2, tuned=(folder / "lora",))
        self.assertAlmostEqual(grid["totals"]["mean"]["tuned"][0]["r_ft"]["6"], told[0]["totals"]["mean"]["tuned"][0]["r_ft"]["6"], delta=1e-4)

    def test_report_shows_the_totals(self):
        totals = self.analyze(output="r.json")["totals"]
        shown = self.lox("report", "r.json").out
        for k in map(str, K):
            self.assertIn(f"{k:>6}  {totals['mean']['r_align'][k]:8.4f}  {totals['weighted']['r_align'][k]:8.4f}\n", shown)
            for mean, weighted in zip(totals["mean"]["tuned"], totals["weighted"]["tuned"], strict=True):
                self.assertIn(f"{k:>6}  {mean['r_ft'][k]:8.4f}  {weighted['r_ft'][k]:8.4f}  {mean['overlap_left'][k]:12.4f}  "
                              f"{mean['overlap_right'][k]:13.4f}\n", shown)
        self.assertIn("is an analysis", self.lox("report", "r.json", "--csv", code=2).err)

    def test_exact_method(self):
        analysis = self.analyze("--svd", "exact")
        self.assertEqual({tensor["method"] for tensor in analysis["tensors"] if "method" in tensor}, {"exact"})
        self.check(analysis)

    def test_a_batch_is_one_block_diagonal_matrix(self):
        tensor = next(t for t in self.analyze()["tensors"] if t["name"] == "experts.weight")
        base = self.made["base"]
        deltas = [Delta(self.made["aligned"], base, "experts.weight", i) for i in range(3)]
        squared = sum(d.norm**2 for d in deltas)
        self.assertAlmostEqual(tensor["delta_norm"], np.sqrt(squared), delta=1e-8)
        sigma = np.sort(np.concatenate([d.sigma for d in deltas]))[::-1]
        np.testing.assert_allclose(tensor["sigma"], sigma[:100], rtol=1e-6)
        self.assertAlmostEqual(tensor["stable_rank"], squared / sigma[0]**2, delta=1e-4)
        for k in K:
            energy = sum(np.sum(d.sigma[:k]**2) for d in deltas) / squared
            self.assertAlmostEqual(tensor["energy"][str(k)], energy, delta=1e-6)
            for t, model in enumerate(("back", "other")):
                tuned = [Delta(self.made[model], base, "experts.weight", i) for i in range(3)]
                kept = sum((d.share(t_, k) * t_.norm)**2 for d, t_ in zip(deltas, tuned))
                share = np.sqrt(kept / sum(t_.norm**2 for t_ in tuned))
                self.assertAlmostEqual(tensor["tuned"][t]["r_ft"][str(k)], share, delta=1e-5)
                mean = sum(d.norm**2 * overlap(d.left(k), t_.left(k)) for d, t_ in zip(deltas, tuned)) / squared
                self.assertAlmostEqual(tensor["tuned"][t]["overlap_left"][str(k)], mean, delta=1e-5)

    def test_totals(self):
        """The paper's mean over linear layers: without embeddings, each expert one layer."""
        totals = self.analyze(tuned=("other",))["totals"]
        base = self.made["base"]
        pairs = []
        for name, (shape, _) in SHAPES.items():
            if len(shape) > 1 and "embed" not in name:
                pairs += [[Delta(self.made[model], base, name, i) for model in ("aligned", "other")]
                          for i in range(shape[0] if len(shape) > 2 else 1)]
        self.assertEqual((totals["tensors"], totals["matrices"], totals["linear"]), (7, 9, len(pairs)))
        for k in K:
            align = [d.share(d, k) for d, _ in pairs]
            tuned = [d.share(t, k) for d, t in pairs]
            of = totals["mean"]["tuned"][0]
            self.assertAlmostEqual(totals["mean"]["r_align"][str(k)], np.mean(align), delta=1e-6)
            self.assertAlmostEqual(of["r_ft"][str(k)], np.mean(tuned), delta=1e-5)
            for side, which in (("left", Delta.left), ("right", Delta.right)):
                expected = np.mean([overlap(which(d, k), which(t, k)) for d, t in pairs])
                self.assertAlmostEqual(of[f"overlap_{side}"][str(k)], expected, delta=1e-5)
            for key, shares, norms in (("r_align", align, [d.norm for d, _ in pairs]),
                                       ("r_ft", tuned, [t.norm for _, t in pairs])):
                expected = np.sqrt(np.sum((np.array(shares) * norms)**2) / np.sum(np.square(norms)))
                found = totals["weighted"][key] if key == "r_align" else totals["weighted"]["tuned"][0][key]
                self.assertAlmostEqual(found[str(k)], expected, delta=1e-5)

    def test_a_model_beside_itself(self):
        analysis = self.analyze("--angles", tuned=("aligned",), k=(6,))
        for tensor in analysis["tensors"]:
            told = tensor["tuned"][0]
            self.assertEqual(told["delta_norm"], tensor["delta_norm"])
            self.assertAlmostEqual(told["r_ft"]["6"], tensor["r_align"]["6"], delta=1e-6)
            for side in ("left", "right"):
                self.assertAlmostEqual(told[f"overlap_{side}"]["6"], 1, delta=1e-6)
                for matrix in tensor.get("batch", [tensor]):
                    self.assertLess(max(matrix["tuned"][0][f"angles_{side}"]["6"]), 1e-6)

    def test_deltas_of_few_directions(self):
        """Beyond the rank of a delta all directions there are count, and one that is zero has none."""
        rng = np.random.default_rng(3)
        weights = np.round(rng.standard_normal((140, 130)) * 2**10) / 2**16
        sides = [[np.round(rng.standard_normal(shape) * 8) for shape in ((140, 3), (3, 130))] for _ in range(2)]
        steps = [left @ right / 2**18 for left, right in sides]
        zero = Tensor.of("F32", weights)
        models = {"few-base": (zero, zero), "few-aligned": (Tensor.of("F32", weights + steps[0]), zero),
                  "few-tuned": (Tensor.of("F32", weights + steps[0] + steps[1]), Tensor.of("F32", weights + steps[1])),
                  "few-back": (zero, zero)}
        for name, (a, b) in models.items():
            (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode({"a": a, "b": b}))
        self.lox("analyze", "--base", "few-base.safetensors", "--aligned", "few-aligned.safetensors", "--tuned",
                 "few-tuned.safetensors", "--tuned", "few-back.safetensors", "--k", "2,6", "--output", "r.json")
        a, b = json.loads((self.directory / "r.json").read_text())["tensors"]
        both = Delta({"a": models["few-tuned"][0]}, {"a": zero}, "a", 0)
        delta = Delta({"a": models["few-aligned"][0]}, {"a": zero}, "a", 0)
        self.assertEqual((delta.rank, both.rank), (3, 6))
        self.assertEqual(a["sigma"][3:], [0, 0, 0])
        self.assertAlmostEqual(a["r_align"]["6"], 1, delta=1e-7)
        told = a["tuned"][0]
        for k in (2, 6):
            self.assertAlmostEqual(told["overlap_left"][str(k)], overlap(delta.left(k), both.left(k)), delta=1e-5)
            self.assertAlmostEqual(told["r_ft"][str(k)], delta.share(both, k), delta=1e-5)
        self.assertAlmostEqual(told["overlap_right"]["6"], 0.5, delta=1e-5)  # three directions of six
        self.assertEqual((a["tuned"][1]["delta_norm"], a["tuned"][1]["r_ft"]), (0, {"2": None, "6": None}))
        self.assertEqual((b["delta_norm"], b["stable_rank"], b["r_align"]), (0, None, {"2": None, "6": None}))
        self.assertGreater(b["tuned"][0]["delta_norm"], 0)
        self.assertEqual(b["tuned"][0]["r_ft"], {"2": None, "6": None})

    def test_formats_and_selection(self):
        self.lox("convert", self.models / "back", self.directory / "back.h5")
        analysis = self.analyze("--include", "layers", "--exclude", "q", tuned=(self.directory / "back.h5",), k=(6,))
        names = [tensor["name"] for tensor in analysis["tensors"]]
        self.assertEqual(names, ["layers.0.up.weight", "layers.1.down.weight"])
        plain = self.analyze("--include", "layers", "--exclude", "q", tuned=("back",), k=(6,), output="s.json")
        for one, other in zip(analysis["tensors"], plain["tensors"]):
            self.assertEqual(one["tuned"][0]["r_ft"], other["tuned"][0]["r_ft"])


if __name__ == "__main__":
    unittest.main()
