# SPDX-License-Identifier: MIT
"""Pairs whose names, tensors or rows differ: renamed, guessed, copied, or refused with the option that cures."""
import json
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from fp8 import Fp8, config
from program import LoxTest

K, COEF = 3, 1.25


class PairTest(LoxTest):
    """A base and an aligned model that match; tests change them."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(9)
        self.base, self.aligned = {}, {}
        for name, shape in (("model.embed_tokens.weight", (90, 40)), ("model.layers.0.q.weight", (60, 40)),
                            ("model.layers.1.q.weight", (60, 40)), ("model.norm.weight", (40,)),
                            ("lm_head.weight", (90, 40))):
            self.base[name], self.aligned[name] = reference.random_pair(rng, shape)
        self.rng = rng

    def write(self, base_config=b"{}", aligned_config=b"{}"):
        for name, tensors, text in (("base", self.base, base_config), ("aligned", self.aligned, aligned_config)):
            checkpoint.write_directory(self.directory / name, {"model.safetensors": tensors}, index=False,
                                       files={"config.json": text})

    def hardened(self, *options, ranks=0, output="out"):
        """What harden says; its report is checked by verify."""
        result = self.lox("harden", "--base", "base", "--aligned", "aligned", "--k", K, "--coef", COEF, "--output",
                          output, *options, ranks=ranks)
        self.assertIn("verified", self.lox("verify", "--report", f"{output}.report.json").err)
        return result.err

    def assert_edited(self, partners, copied=(), output="out"):
        """Tensors are edited with those of the base that `partners` names; the others are copies."""
        found = checkpoint.read(self.directory / output)
        self.assertEqual(sorted(found), sorted(self.aligned))
        for name, partner in partners.items():
            aligned, base = self.aligned[name], self.base[partner]
            rows = min(aligned.shape[0], base.shape[0])
            delta = np.zeros(aligned.shape, np.float32)
            delta[:rows] = aligned.values[:rows] - base.values[:rows]
            low_rank = reference.Svd(delta).truncated(K)
            low_rank[rows:] = 0
            expected = reference.harden(aligned, low_rank, COEF)
            identical, worst = reference.agreement(found[name], expected, COEF * low_rank)
            self.assertGreaterEqual(identical, 0.995, name)
            self.assertLessEqual(worst, 1, name)
            self.assertEqual(found[name].stored[rows:].tolist(), aligned.stored[rows:].tolist(), name)
        for name in copied:
            self.assertEqual(found[name], self.aligned[name], name)

    def same_names(self):
        return {name: name for name in self.aligned if len(self.aligned[name].shape) > 1 and name in self.base}

    def refused(self, *words, options=()):
        line, = self.lox("harden", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "out", *options,
                         code=3).lines
        for word in words:
            self.assertIn(word, line)


class Names(PairTest):
    def test_renamed(self):
        self.base = {name.replace("model.layers.", "backbone.h"): tensor for name, tensor in self.base.items()}
        self.write()
        self.refused("model.layers.0.q.weight", "--rename FROM=TO")
        said = self.hardened("--rename", r"^backbone\.h(\d+)=model.layers.\1", ranks=2)
        self.assertNotIn("taken for", said)
        self.assert_edited({name: name.replace("model.layers.", "backbone.h") for name in self.same_names()} | {
            f"model.layers.{i}.q.weight": f"backbone.h{i}.q.weight" for i in (0, 1)})
        self.refused("matches no tensor of the base", options=("--rename", "nothing=x", "--overwrite"))
        self.refused("calls both", options=("--rename", r"h\d=h", "--overwrite"))
        for wrong in ("x", "=x", "(=x", r"x=\1"):
            self.assertIn("--rename", self.lox("harden", "--base", "base", "--aligned", "aligned", "--output", "o",
                                               "--rename", wrong, code=2).err)

    def test_prefixes_are_guessed(self):
        for before, after in (("model.", "model.language_model."), ("", "language_model.")):
            with self.subTest(after=after):
                whole = self.aligned
                self.aligned = {(after + name[len(before):] if name.startswith(before) else name): tensor
                                for name, tensor in whole.items()}
                back = {new: old for new, old in zip(self.aligned, whole) if len(whole[old].shape) > 1}
                self.directory.joinpath(after).mkdir()
                self.directory, above = self.directory / after, self.directory
                self.write()
                said = self.hardened()
                self.assertIn(f"'{before}' in the base are taken for those with '{after}'", said)
                self.assert_edited(back)
                self.directory, self.aligned = above, whole

    def test_nothing_is_guessed_unless_all_matches(self):
        self.aligned = {name.replace("model.", "model.language_model."): t for name, t in self.aligned.items()}
        self.aligned["visual.weight"] = Tensor.of("BF16", np.ones((4, 4), np.float32))
        self.write()
        self.refused("is not in the base model", "--rename")
        said = self.hardened("--unpaired", "copy")
        self.assertIn("taken for", said)
        self.assertIn("1 tensors are in the aligned model alone and are copied, first 'visual.weight'", said)
        self.assert_edited({f"model.language_model.layers.{i}.q.weight": f"model.layers.{i}.q.weight" for i in (0, 1)},
                           ["visual.weight", "model.language_model.norm.weight"])

    def test_no_guess_gives_two_tensors_one_name(self):
        """A base that has a tensor under both names, and which of them is meant is not known."""
        self.base["layers.0.q.weight"] = self.base["model.layers.1.q.weight"]
        self.aligned = {name.replace("model.", ""): tensor for name, tensor in self.aligned.items()}
        self.write()
        for options in ((), ("--unpaired", "copy")):
            said = self.lox("plan", "--base", "base", "--aligned", "aligned", "--output", "out", *options, code=None)
            self.assertNotIn("taken for", said.err + said.out)
        self.refused("'embed_tokens.weight' is not in the base model")

    def test_a_tied_head_that_only_the_aligned_model_stores(self):
        del self.base["lm_head.weight"]
        self.write()
        self.assertIn("so its head is 'model.embed_tokens.weight'", self.hardened())
        self.assert_edited(self.same_names() | {"lm_head.weight": "model.embed_tokens.weight"})
        (self.directory / "base" / "config.json").write_text('{"tie_word_embeddings": false}')
        self.refused("lm_head.weight", "is not in the base model", options=("--overwrite",))

    def test_a_tied_head_that_only_the_base_stores(self):
        self.base["lm_head.weight"] = self.base["model.embed_tokens.weight"]
        del self.aligned["lm_head.weight"]
        self.write()
        self.refused("lm_head.weight", "is not in the aligned model")
        (self.directory / "base" / "config.json").write_text('{"tie_word_embeddings": true}')
        self.assertIn("stores its tied head twice", self.hardened())
        self.assert_edited(self.same_names())


class OneSide(PairTest):
    def test_unpaired(self):
        self.aligned["model.layers.2.eh_proj.weight"] = Tensor.of("BF16", np.ones((6, 8), np.float32))
        self.base["old.weight"] = Tensor.of("BF16", np.ones((6, 8), np.float32))
        self.write()
        self.refused("model.layers.2.eh_proj.weight", "--unpaired copy")
        for ranks in (0, 3):
            said = self.hardened("--unpaired", "copy", "--overwrite", ranks=ranks)
            self.assertIn("alone and are copied, first 'model.layers.2.eh_proj.weight'", said)
            self.assertIn("in the base alone and are left out, first 'old.weight'", said)
            self.assert_edited(self.same_names(), ["model.layers.2.eh_proj.weight", "model.norm.weight"])
        self.assertIn("neither copy nor refuse", self.lox("harden", "--base", "base", "--aligned", "aligned",
                                                          "--output", "o", "--unpaired", "x", code=2).err)

    def extend(self, side, rows):
        rng = np.random.default_rng(2)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            more = 0.02 * rng.standard_normal((rows, 40))
            more[0] = -0.0
            stored = np.concatenate([side[name].stored, checkpoint.to_bf16(more.astype(np.float32))])
            side[name] = Tensor("BF16", stored)

    def test_rows_of_an_extended_vocabulary(self):
        self.extend(self.aligned, 7)
        self.write()
        self.refused("[97, 40]", "[90, 40]", "--extra-rows copy")
        for number, options in enumerate(((), ("--svd", "exact"), ("--grid", "always"), ("--grid", "never"))):
            said = self.hardened("--extra-rows", "copy", *options, output=f"out-{number}", ranks=number)
            self.assertIn("has 97 rows, and 90 in the base", said)
            self.assert_edited(self.same_names(), ["model.norm.weight"], output=f"out-{number}")
        self.lox("factor", "--base", "base", "--aligned", "aligned", "--k", K, "--extra-rows", "copy", "--output",
                 "store")
        self.lox("apply", "--aligned", "aligned", "--factors", "store", "--coef", COEF, "--output", "applied")
        self.assertEqual(checkpoint.tree(self.directory / "applied"), checkpoint.tree(self.directory / "out-0"))

    def test_full_rank_with_extra_rows(self):
        self.extend(self.aligned, 7)
        self.write()
        self.lox("harden", "--base", "base", "--aligned", "aligned", "--k", 0, "--coef", 1, "--extra-rows", "copy",
                 "--output", "out")
        self.lox("verify", "--report", "out.report.json")
        found = checkpoint.read(self.directory / "out")["lm_head.weight"]
        aligned, base = self.aligned["lm_head.weight"], self.base["lm_head.weight"]
        expected = Tensor.of("BF16", aligned.values[:90] + (aligned.values[:90] - base.values))
        self.assertEqual(found.stored[:90].tolist(), expected.stored.tolist())
        self.assertEqual(found.stored[90:].tolist(), aligned.stored[90:].tolist())

    def test_rows_that_only_the_base_has(self):
        self.extend(self.base, 5)
        self.write()
        self.assertIn("has 90 rows, and 95 in the base", self.hardened("--extra-rows", "copy"))
        self.assert_edited(self.same_names())

    def test_rows_of_fp8(self):
        """Blocks of scales of a base with other rows."""
        self.extend(self.aligned, 60)
        quantised = Fp8(self.base["lm_head.weight"].values.astype(np.float64), block=(16, 32))
        self.base = dict(self.base) | quantised.stored("lm_head.weight")
        self.write(base_config=config((16, 32)))
        self.hardened("--extra-rows", "copy")
        self.base["lm_head.weight"] = quantised
        self.assert_edited(self.same_names())

    def test_conv1d_is_left_out(self):
        for side in (self.base, self.aligned):
            side["model.layers.0.conv1d.weight"] = Tensor.of("BF16", self.rng.standard_normal((6, 1, 4)))
        self.write()
        said = self.hardened()
        self.assertIn("1 tensors that are batches of single rows or columns", said)
        self.assert_edited({n: n for n in self.same_names() if "conv1d" not in n}, ["model.layers.0.conv1d.weight"])
        self.lox("harden", "--base", "base", "--aligned", "aligned", "--include", "conv1d", "--output", "with")
        found = checkpoint.read(self.directory / "with")["model.layers.0.conv1d.weight"]
        self.assertNotEqual(found, self.aligned["model.layers.0.conv1d.weight"])

    def test_another_rule_is_another_job(self):
        self.extend(self.aligned, 7)
        self.write()
        self.hardened("--extra-rows", "copy")
        report = json.loads((self.directory / "out.report.json").read_text())
        self.assertEqual(report["job"]["extra_rows"], "copy")
        self.assertEqual(report["job"]["unpaired"], "refuse")
        self.assertEqual(report["job"]["rename"], [])


if __name__ == "__main__":
    unittest.main()
