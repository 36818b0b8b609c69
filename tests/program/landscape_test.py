# SPDX-License-Identifier: MIT
"""The plane of `lox landscape` and the models in it, against sums over the whole model in double by numpy."""
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

K = 3
SHAPES = {
    "layers.0.q.weight": ((160, 192), "BF16"),
    "layers.0.norm.weight": ((160,), "BF16"),
    "layers.0.up.weight": ((288, 160), "BF16"),
    "layers.1.down.weight": ((96, 240), "F32"),
    "experts.weight": ((3, 72, 80), "BF16"),
    "excluded.weight": ((50, 60), "BF16"),
    "half.weight": ((48, 64), "F16"),
    "small.weight": ((20, 2), "BF16"),
    "scale": ((), "F32"),
}
FILES = {"config.json": b"{}", "tokenizer.model": bytes(range(256))}


def make_models(seed=11):
    rng = np.random.default_rng(seed)
    models = {name: {} for name in ("base", "aligned", "tuned")}
    for name, (shape, dtype) in SHAPES.items():
        base, aligned = reference.random_pair(rng, shape, dtype=dtype)
        step = reference.random_matrix(rng, shape, "alignment", 4e-4) - 0.3 * (double(aligned) - double(base))
        models["base"][name], models["aligned"][name] = base, aligned
        models["tuned"][name] = Tensor.of(dtype, double(aligned) + step)
    for tensors in models.values():
        tensors["position_ids"] = Tensor("I64", np.arange(12).reshape(3, 4))
    return models


def double(tensor):
    return tensor.values.astype(np.float64)




class LandscapeTest(LoxTest):
    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        cls.made = make_models()
        for name, tensors in cls.made.items():
            cls.write(name, tensors)
        cls.make("factor", "--base", "base", "--aligned", "aligned", "--k", K + 2, "--exclude", "excluded", "--output",
                 "store")
        cls.make("apply", "--aligned", "aligned", "--factors", "store", "--k", K, "--output", "hardened")
        cls.made["hardened"] = checkpoint.read(cls.models / "hardened")
        rng = np.random.default_rng(5)
        cls.made["hardened_tuned"] = {
            name: tensor if tensor.dtype == "I64" else
            Tensor.of(tensor.dtype, double(tensor) + reference.random_matrix(rng, tensor.shape, "alignment", 4e-4))
            for name, tensor in cls.made["hardened"].items()}
        cls.write("hardened_tuned", cls.made["hardened_tuned"])

    @classmethod
    def write(cls, name, tensors):
        shards = {f"model-{i}-of-2.safetensors": dict(list(tensors.items())[i - 1::2]) for i in (1, 2)}
        checkpoint.write_directory(cls.models / name, shards, files=FILES, metadata={"format": "pt"})

    @classmethod
    def make(cls, *arguments):
        result = run(*arguments, directory=cls.models)
        assert result.code == 0, result.err

    def words(self, *options, output="p_{a}_{b}", tuned="tuned", factors="store", k=K):
        words = ["landscape", "--aligned", self.models / "aligned", "--output", output, "--k", k]
        if factors:
            words += ["--factors", self.models / factors]
        if tuned:
            words += ["--tuned", self.models / tuned]
        return [*words, *options]

    def landscape(self, *options, ranks=0, **named):
        self.lox(*self.words(*options, **named), ranks=ranks)
        return json.loads((self.directory / f"{named.get('output', 'p_{a}_{b}')}.landscape.json").read_text())

    def names(self):
        return [name for name, (shape, _) in SHAPES.items()]

    def difference(self, one, other):
        return {name: double(self.made[one][name]) - double(self.made[other][name]) for name in self.names()}

    def along(self, k=K):
        """Delta_k by full SVDs, zero where there are no factors."""
        found = {}
        for name, delta in self.difference("aligned", "base").items():
            if delta.ndim < 2 or name == "excluded.weight":
                found[name] = np.zeros(delta.shape)
                continue
            u, s, vt = np.linalg.svd(delta, full_matrices=False)
            s[..., k:] = 0
            found[name] = (u * s[..., np.newaxis, :]) @ vt
        return found

    def both_ways(self):
        """The mean of both displacements."""
        first, second = self.difference("tuned", "aligned"), self.difference("hardened_tuned", "hardened")
        return {name: (first[name] + second[name]) / 2 for name in first}


def dot(x, y):
    return sum(float(np.sum(x[name] * y[name])) for name in x)


def scaled(x, factor):
    return {name: factor * x[name] for name in x}


def total(x, y):
    return {name: x[name] + y[name] for name in x}


def plane(along, direction):
    """d1 and d2: along, and what direction adds to it, both of length one over the whole model."""
    d1 = scaled(along, dot(along, along)**-0.5)
    across = total(direction, scaled(d1, -dot(direction, d1)))
    return d1, scaled(across, dot(across, across)**-0.5)


class Points(LandscapeTest):
    def check_point(self, path, d1, d2, a, b):
        """All entries are the same sum in double, rounded once, but for those next to a tie."""
        found = checkpoint.read(self.directory / path)
        self.assertEqual(list(found), list(checkpoint.read(self.models / "aligned")))
        same = entries = 0
        for name in self.names():
            aligned = self.made["aligned"][name]
            expected = Tensor.of(aligned.dtype, double(aligned) + a * d1[name] + b * d2[name])
            self.assertEqual((found[name].dtype, found[name].shape), (expected.dtype, expected.shape))
            if aligned.dtype == "F32":  # has more digits than the solver gives
                np.testing.assert_allclose(found[name].values, expected.values, atol=1e-8)
                continue
            same += np.count_nonzero(found[name].stored == expected.stored)
            entries += expected.stored.size
            worst = np.abs(double(found[name]) - double(expected)) / reference.ulp(aligned.dtype, double(expected))
            self.assertLessEqual(worst.max(), 1, name)
        self.assertGreater(same / entries, 0.995)
        self.assertEqual(found["position_ids"], self.made["aligned"]["position_ids"])
        for name, content in FILES.items():
            self.assertEqual((self.directory / path / name).read_bytes(), content)

    def test_points_and_places(self):
        d1, d2 = plane(self.along(), self.difference("tuned", "aligned"))
        found = self.landscape("--at", "0.02,0.05", "--at", "-0.03,0", "--grid", "0:0.1:2,-0.05:0.05:3", "--base",
                               self.models / "base", "--hardened", self.models / "hardened", "--hardened-tuned",
                               self.models / "hardened_tuned", tuned="tuned")
        d1, d2 = plane(self.along(), self.both_ways())
        for a, b in ((0.02, 0.05), (-0.03, 0), (0, -0.05), (0.1, 0), (0.1, 0.05)):
            with self.subTest(a=a, b=b):
                self.check_point(f"p_{a}_{b}", d1, d2, a, b)
                report = json.loads((self.directory / f"p_{a}_{b}.report.json").read_text())
                self.assertEqual((report["job"]["a"], report["job"]["b"]), (a, b))
        self.assertEqual(len(list(self.directory.glob("p_*.report.json"))), 8)
        self.assertEqual(checkpoint.read(self.directory / "p_0_0"), checkpoint.read(self.models / "aligned"))
        self.check_places(found, d1, d2)

    def check_places(self, found, d1, d2):
        self.assertEqual(found["coordinates"].pop("aligned"), {"a": 0, "b": 0})
        self.assertIn("tuned", found["coordinates"])
        for name, place in found["coordinates"].items():
            displacement = self.difference(name, "aligned")
            length = dot(displacement, displacement)**0.5
            a, b = dot(displacement, d1), dot(displacement, d2)
            self.assertAlmostEqual(place["a"], a, delta=1e-6 * length, msg=name)
            self.assertAlmostEqual(place["b"], b, delta=1e-6 * length, msg=name)
            told = found["distances"][name]
            self.assertAlmostEqual(told["from_aligned"], length, delta=1e-9)
            self.assertAlmostEqual(told["from_plane"], max(0, length**2 - a**2 - b**2)**0.5, delta=1e-4 * length)

    def test_towards_a_tuned_model(self):
        direction = self.difference("tuned", "aligned")
        d1, d2 = plane(self.along(), direction)
        found = self.landscape("--at", "0.04,-0.03", output="point", ranks=3)
        self.check_point("point", d1, d2, 0.04, -0.03)
        told = found["directions"]
        self.assertAlmostEqual(told["d1"]["norm"], dot(self.along(), self.along())**0.5, delta=1e-6)
        self.assertAlmostEqual(told["d2"]["norm"], dot(direction, direction)**0.5, delta=1e-9)
        self.assertAlmostEqual(told["d2"]["along_d1"], dot(direction, d1), delta=1e-6)
        self.assertLess(told["d2"]["along_d1"], -0.01)
        self.assertAlmostEqual(found["coordinates"]["tuned"]["b"], told["d2"]["across_d1"], delta=1e-12)
        self.check_places(found, d1, d2)
        # The tuned model lies in the plane: at its place is itself, but for rounding.
        place = found["coordinates"]["tuned"]
        self.lox(*self.words("--at", f"{place['a']},{place['b']}", output="again"))
        again, tuned = (checkpoint.read(path) for path in (self.directory / "again", self.models / "tuned"))
        for name in self.names():
            if SHAPES[name][1] != "F32":
                self.assertGreater(np.mean(again[name].stored == tuned[name].stored), 0.9, name)

    def test_ranks_write_the_same(self):
        points = ("--at", "0.02,0.05", "--at", "0.1,0")
        plain = self.landscape(*points)
        expected = {name: checkpoint.tree(self.directory / name) for name in ("p_0.02_0.05", "p_0.1_0")}
        for ranks in (1, 3):
            found = self.landscape(*points, output=f"r{ranks}_{{a}}_{{b}}", ranks=ranks)
            self.assertEqual({key: found[key] for key in ("coordinates", "directions", "distances")},
                             {key: plain[key] for key in ("coordinates", "directions", "distances")})
            for name, tree in expected.items():
                self.assertEqual(checkpoint.tree(self.directory / name.replace("p", f"r{ranks}", 1)), tree)

    def test_without_a_store(self):
        """The pair is solved first; k of the store that is kept."""
        words = ["landscape", "--base", self.models / "base", "--aligned", self.models / "aligned", "--tuned",
                 self.models / "tuned", "--k", K, "--output", "q.h5", "--at", "0.02,0.05"]
        self.lox(*words, ranks=2)
        self.lox("convert", "q.h5", "q")
        along = self.along()
        delta = self.difference("aligned", "base")["excluded.weight"]
        u, s, vt = np.linalg.svd(delta, full_matrices=False)
        along["excluded.weight"] = (u[:, :K] * s[:K]) @ vt[:K]
        d1, d2 = plane(along, self.difference("tuned", "aligned"))
        self.check_point("q", d1, d2, 0.02, 0.05)
        self.assertTrue((self.directory / "q.h5.factors").exists())
        self.assertIn("q.h5 was finished already", self.lox(*words).err)

    def test_random_direction(self):
        """A control: another direction for another seed, orthogonal to the first one, of the length asked for."""
        points = {}
        for seed in (1, 2):
            found = self.landscape("--direction", "random", "--seed", seed, "--at", "0,0.5", tuned=None,
                                   output=f"r{seed}")
            self.assertEqual(found["directions"]["d2"]["of"], "random")
            self.assertLess(abs(found["directions"]["d2"]["along_d1"] / found["directions"]["d2"]["norm"]), 0.02)
            points[seed] = checkpoint.read(self.directory / f"r{seed}")
        d1 = plane(self.along(), self.difference("tuned", "aligned"))[0]
        steps = {seed: {name: double(point[name]) - double(self.made["aligned"][name]) for name in self.names()}
                 for seed, point in points.items()}
        for step in steps.values():
            self.assertAlmostEqual(dot(step, step)**0.5, 0.5, delta=0.01)
            self.assertLess(abs(dot(step, d1)), 0.01)
        self.assertLess(abs(dot(steps[1], steps[2])) / 0.25, 0.03)
        # Where rounding leaves it alone, its entries are the normal numbers that they are said to be.
        entries = steps[1]["layers.1.down.weight"].ravel()
        self.assertLess(abs(np.mean(entries)) / np.std(entries), 0.03)
        self.assertAlmostEqual(np.mean(entries**4) / np.mean(entries**2)**2, 3, delta=0.4)
        again = self.landscape("--direction", "random", "--seed", 1, "--at", "0,0.5", output="again")
        self.assertIn("tuned", again["coordinates"])
        self.assertEqual(checkpoint.tree(self.directory / "again"), checkpoint.tree(self.directory / "r1"))

    def test_only_the_plane(self):
        found = self.landscape(output="p")
        self.assertEqual([path.name for path in self.directory.iterdir()], ["p.landscape.json"])
        # Points may follow: the plane is known already.
        self.assertIn("was finished already", self.lox(*self.words("--at", "0.1,0.1", output="p")).err)
        self.assertEqual(json.loads((self.directory / "p.landscape.json").read_text()), found)


class Refused(LandscapeTest):
    def refused(self, words, *facts, code=3, left=(), ranks=0):
        result = self.lox(*words, code=code, ranks=ranks)
        errors = [line for line in result.lines if "error" in line]
        self.assertEqual(len(errors), 1, result.err)
        for fact in facts:
            self.assertIn(fact, errors[0])
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), sorted(left))

    def changed(self, name, change):
        tensors = dict(self.made["tuned"])
        change(tensors)
        (self.models / f"{name}.safetensors").write_bytes(checkpoint.encode(tensors))
        return f"{name}.safetensors"

    def test_models(self):
        def lacks(tensors):
            del tensors["layers.0.q.weight"]

        def is_not_finite(tensors):
            tensors["layers.0.q.weight"] = Tensor("BF16", np.full((160, 192), 0x7FC0))

        for change, facts in ((lacks, ("layers.0.q.weight", "tuned")), (is_not_finite, ("layers.0.q.weight", "NaN"))):
            with self.subTest(change=change.__name__):
                self.refused(self.words("--at", "0,1", tuned=self.changed(change.__name__, change)), *facts, ranks=2)
        self.refused(self.words("--at", "0,1", tuned="aligned"), "does not differ")
        self.refused(self.words("--at", "0,1", tuned="hardened", k=K + 3), str(K + 3))
        words = [self.models / "base" if word == self.models / "aligned" else word for word in self.words()]
        self.refused(words, "not the one that the factors are of")

    def test_along_the_same_line(self):
        """A model that lies along d1 spans no plane."""
        exact = {"w": np.diag([8.0, 4, 2, 1])}
        for name, factor in (("base", 0), ("aligned", 1), ("tuned", 2)):
            (self.directory / f"{name}.safetensors").write_bytes(
                checkpoint.encode({"w": Tensor.of("F32", factor * exact["w"])}))
        result = self.lox("landscape", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--tuned",
                          "tuned.safetensors", "--k", 4, "--output", "p.safetensors", "--at", "1,1", code=3)
        self.assertIn("multiple of Delta_k", result.err)

    def test_before_solving(self):
        """What stands in a point's place is found before the pair is solved."""
        (self.directory / "q").mkdir()
        (self.directory / "q" / "notes.txt").write_text("mine")
        words = self.words("--base", self.models / "base", "--at", "1,1", output="q", factors=None)
        for more in ((), ("--overwrite",)):
            self.refused([*words, *more], "q", left=["q"])
        self.assertEqual((self.directory / "q" / "notes.txt").read_text(), "mine")

    def test_options(self):
        self.refused(self.words("--at=-0,0", "--at", "0,0"), "one name", code=2)
        self.refused(self.words("--at", "1"), "--at '1'", code=2)
        self.refused(self.words("--at", "1,x"), "'x' is no number", code=2)
        self.refused(self.words("--grid", "0:1:2"), "--grid", code=2)
        self.refused(self.words("--grid", "0:1:0,0:1:2"), "--grid", code=2)
        self.refused(self.words("--at", "1,1", "--at", "2,2", output="p"), "{a}", code=2)
        self.refused(self.words("--hardened", "x"), "--hardened-tuned", code=2)
        self.refused(self.words("--direction", "up"), "--direction", code=2)
        self.refused(self.words(tuned=None), "--tuned", code=2)
        self.refused(self.words(factors=None), "--factors", code=2)
        self.refused(self.words("--at", "nan,1"), code=2)
        self.refused(self.words("--at", "1,1", "--memory", "129MB", output="p"), "--memory", left=())


if __name__ == "__main__":
    unittest.main()
