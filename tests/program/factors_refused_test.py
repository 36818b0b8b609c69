# SPDX-License-Identifier: MIT
"""What factor and apply refuse, in one line, leaving nothing behind."""
import json
import shutil
import unittest

import numpy as np

import checkpoint
from checkpoint import Tensor
from factors_test import FactorsTest, K


class Refused(FactorsTest):
    def refused(self, result, *words):
        errors = [line for line in result.lines if "error" in line]
        self.assertEqual(len(errors), 1, result.err)
        for word in words:
            self.assertIn(word, errors[0])
        left = [path.name for path in self.directory.iterdir() if path.name.startswith("out")]
        self.assertEqual(left, [])

    def other_model(self, change):
        other = self.directory / "other"
        shutil.copytree(self.models / "aligned", other)
        for path in other.glob("*.safetensors"):
            tensors, metadata = checkpoint.decode(path.read_bytes())
            tensors = {name: change(name, tensor) for name, tensor in tensors.items()}
            path.write_bytes(checkpoint.encode({k: t for k, t in tensors.items() if t is not None}, metadata))
        (other / checkpoint.INDEX).unlink()
        return other

    def test_another_aligned_model(self):
        def one_bit(name, tensor):
            if name != "layers.1.up.weight":
                return tensor
            stored = tensor.stored.copy()
            stored[17, 3] ^= 1
            return Tensor(tensor.dtype, stored)
        for ranks in (1, 3):
            result = self.apply("store", aligned=self.other_model(one_bit), code=3, ranks=ranks)
            self.refused(result, "layers.1.up.weight", "factors")
            shutil.rmtree(self.directory / "other")

    def test_a_model_of_another_table(self):
        result = self.apply("store", code=3, aligned=self.other_model(
            lambda name, tensor: None if name == "layers.0.q.weight" else tensor))
        self.refused(result, "layers.0.q.weight")
        shutil.rmtree(self.directory / "other")
        result = self.apply("store", code=3, aligned=self.other_model(
            lambda name, tensor: Tensor(tensor.dtype, tensor.stored.T) if name == "layers.0.up.weight" else tensor))
        self.refused(result, "layers.0.up.weight", "[160, 288]")

    def test_no_store(self):
        self.refused(self.apply("aligned", code=3), "factors.json", "lox factor")
        shutil.copytree(self.models / "store", self.directory / "broken")
        file = self.directory / "broken/factors.json"
        text = file.read_text()
        for damage in ("{", text.replace('"lox_factors":1', '"lox_factors":9'), text.replace("matrices", "matrixes"),
                       "[" * 5000, ""):
            file.write_text(damage)
            self.refused(self.apply(self.directory / "broken", code=3), "factors.json")
        file.unlink()
        self.refused(self.apply(self.directory / "broken", code=3), "factors.json")

    def test_what_factors_json_tells(self):
        shutil.copytree(self.models / "store", self.directory / "broken")
        file = self.directory / "broken/factors.json"
        right = json.loads(file.read_text())
        for change in (lambda j: j.update(k=0), lambda j: j.update(k=7), lambda j: j.update(k=2**62),
                       lambda j: j.update(k=-1), lambda j: j.update(k=1.5), lambda j: j.update(k=2**63),
                       lambda j: j.update(job=[1]), lambda j: j["job"].update(tolerance="no"),
                       lambda j: j.update(aligned=5), lambda j: j["matrices"].pop(),
                       lambda j: j["matrices"].append(j["matrices"][0]),
                       lambda j: j["matrices"][0].update(tensor="other"),
                       lambda j: j["matrices"][0].update(aligned="0" * 32)):
            told = json.loads(json.dumps(right))
            change(told)
            file.write_text(json.dumps(told))
            self.refused(self.apply(self.directory / "broken", code=3))
            said = self.lox("verify", "--base", self.models / "base", "--aligned", self.models / "aligned", "--sample", 0,
                            "--factors", "broken", code=None)
            self.assertIn(said.code, (3, 4))

    def test_nan_and_other_damage(self):
        for bad, words in ((np.nan, ("NaN", "index 5")), (np.inf, ("Inf", "index 5"))):
            path = self.directory / "damaged.safetensors"
            tensors, metadata = checkpoint.decode((self.models / "store.safetensors").read_bytes())
            stored = tensors["layers.0.q.weight.u"].stored.copy()
            stored.reshape(-1)[5] = bad
            tensors["layers.0.q.weight.u"] = Tensor("F32", stored)
            path.write_bytes(checkpoint.encode(tensors, metadata))
            self.refused(self.apply(path, code=3, ranks=2), "layers.0.q.weight.u", *words)
        raw = (self.models / "store.safetensors").read_bytes()
        path.write_bytes(raw[:-100])
        self.refused(self.apply(path, code=3), "cut short")
        del tensors["layers.0.q.weight.v"]
        path.write_bytes(checkpoint.encode(tensors, metadata))
        self.refused(self.apply(path, code=3), "layers.0.q.weight.v")

    def test_words_that_make_no_sense(self):
        for options in (("--coef", "1,1.0"), ("--coef", "1,2"), ("--coef", "x"), ("--coef", "-1"), ("--coef", "1,"),
                        ("--k", "0"), ("--k", "-2"), ("--k", "2,4"), ("--k", "1.5"), ("--coef", "nan")):
            with self.subTest(options=options):
                self.refused(self.apply("store", *options, code=2), options[0] if "," not in options[1] else "")
        self.refused(self.apply("store", "--k", K + 1, code=3), f"{K + 1}", "factor")
        self.assertEqual(self.apply("store", "--coef", "1,2", "--report", "r", output="out{coef}", code=2).code, 2)
        result = self.lox("factor", "--base", self.models / "base", "--aligned", self.models / "aligned", "--k", 0,
                          "--output", "out", code=2)
        self.refused(result, "--k 0", "harden")

    def test_the_output_is_apart(self):
        before = checkpoint.tree(self.models)
        self.apply("store", output=self.models / "aligned", code=3)
        self.apply("store", output=self.models / "store", code=3)
        self.apply("store", "--overwrite", output=self.models / "store", code=3)
        self.apply("store", "--report", self.models / "store/factors.json", code=3)
        self.assertEqual(checkpoint.tree(self.models), before)


if __name__ == "__main__":
    unittest.main()
