# SPDX-License-Identifier: MIT
"""Pairs whose names, tensors or rows differ: renamed, guessed, copied, or refused with the option that cures."""
import json
import shutil
import unittest

import h5py
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
            shutil.rmtree(self.directory / name, ignore_errors=True)
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
        self.assertIn("1 tensor only in the aligned model, copied, first 'visual.weight'", said)
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

    def test_the_guess_that_pairs_most(self):
        """With --unpaired copy: a tensor that only the base has does not stand against it, nor one name in common."""
        self.base["model.rotary.weight"] = Tensor.of("BF16", np.ones((4, 4), np.float32))
        self.aligned = {name.replace("model.", "model.language_model."): t for name, t in self.aligned.items()}
        self.write()
        said = self.hardened("--unpaired", "copy")
        self.assertIn("taken for", said)
        self.assertNotIn("most of the model", said)
        self.assert_edited({"lm_head.weight": "lm_head.weight"} | {
            f"model.language_model.layers.{i}.q.weight": f"model.layers.{i}.q.weight" for i in (0, 1)})
        self.aligned = {name.replace("model.language_model.layers", "h"): t for name, t in self.aligned.items()}
        del self.aligned["lm_head.weight"], self.aligned["model.language_model.norm.weight"]
        self.write()
        self.assertIn("that is most of the model", self.hardened("--unpaired", "copy", "--overwrite"))

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
            self.assertIn("1 tensor only in the aligned model, copied, first 'model.layers.2.eh_proj.weight'", said)
            self.assertIn("1 tensor only in the base, left out, first 'old.weight'", said)
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

    def test_other_rows_must_be_finite_too(self):
        self.extend(self.aligned, 7)
        head = self.aligned["lm_head.weight"]
        head.stored[93, 2] = 0x7FC0
        self.write()
        for ranks in (0, 2):
            result = self.lox("harden", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "out",
                              "--extra-rows", "copy", code=3, ranks=ranks)
            self.assertIn(f"tensor 'lm_head.weight' of the aligned model holds NaN at index {93 * 40 + 2}", result.err)
        self.assertFalse((self.directory / "out").exists())

    def test_only_matrices_have_extra_rows(self):
        """A batch with more matrices is not taken for one; no error names an option that was given."""
        self.base["experts"], self.aligned["experts"] = (Tensor.of("BF16", np.ones((n, 4, 4), np.float32)) for n in (3, 4))
        self.write()
        result = self.lox("harden", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "out", "--extra-rows",
                          "copy", code=3)
        self.assertIn("[4, 4, 4]", result.err)
        self.assertNotIn("--extra-rows", result.err)

    def test_an_adapter_has_no_other_names(self):
        self.write()
        self.lox("factor", "--base", "base", "--aligned", "aligned", "--k", K, "--output", "store")
        self.lox("adapter", "--factors", "store", "--coef", 1, "--onto", "base", "--output", "lora")
        for words in (("--base", "base"), ("--as-adapter",)):
            for rule in (("--rename", "q=z"), ("--unpaired", "copy"), ("--extra-rows", "copy")):
                result = self.lox("harden", "--aligned", "lora", "--output", "out", *words, *rule, code=2)
                self.assertIn("is an adapter", result.err)

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


class Experts(PairTest):
    """Those of a layer in one tensor, or each by itself, or transposed."""
    COUNT, INNER, HIDDEN = 4, 24, 40
    LAYER = "model.layers.0.mlp."

    def setUp(self):
        super().setUp()
        self.experts = {}
        for kind, shape in (("gate", (self.COUNT, self.INNER, self.HIDDEN)), ("up", (self.COUNT, self.INNER, self.HIDDEN)),
                            ("down", (self.COUNT, self.HIDDEN, self.INNER))):
            self.experts[kind] = [reference.random_pair(self.rng, shape[1:]) for _ in range(self.COUNT)]
        self.others = dict(self.base), dict(self.aligned)

    def stored(self, side, layout, names=("gate_proj", "up_proj", "down_proj")):
        """The experts of the base (0) or the aligned model (1) in one of the layouts."""
        gate, up, down = ([pair[side].stored for pair in self.experts[kind]] for kind in ("gate", "up", "down"))
        if layout == "separate":
            return {f"{self.LAYER}experts.{e}.{name}.weight": Tensor("BF16", stack[e])
                    for name, stack in zip(names, (gate, up, down)) for e in range(self.COUNT)}
        gate_up = np.concatenate([np.stack(gate), np.stack(up)], axis=1)
        fused = {"gate_up_proj": gate_up, "down_proj": np.stack(down)}
        if layout == "transposed":
            fused = {name: np.ascontiguousarray(tensor.transpose(0, 2, 1)) for name, tensor in fused.items()}
        return {f"{self.LAYER}experts.{name}": Tensor("BF16", tensor) for name, tensor in fused.items()}

    def make(self, ours, theirs, names=("gate_proj", "up_proj", "down_proj")):
        self.base = self.others[0] | self.stored(0, ours, names)
        self.aligned = self.others[1] | self.stored(1, theirs, names)

    def assert_experts(self, ours, theirs, output="out"):
        """What lox makes of a base whose experts lie in another layout is what it makes of one in the aligned model's."""
        found = checkpoint.read(self.directory / output)
        base = self.stored(0, theirs)
        for name, aligned in self.stored(1, theirs).items():
            delta = aligned.values.astype(np.float64) - base[name].values
            for number, one in enumerate(delta.reshape(-1, *delta.shape[-2:])):
                low_rank = reference.Svd(one.astype(np.float32)).truncated(K)
                pick = (lambda t, i=number: Tensor(t.dtype, t.stored.reshape(-1, *delta.shape[-2:])[i]))
                expected = reference.harden(pick(aligned), low_rank, COEF)
                identical, worst = reference.agreement(pick(found[name]), expected, COEF * low_rank)
                self.assertGreaterEqual(identical, 0.99, (ours, theirs, name, number))
                self.assertLessEqual(worst, 1, (ours, theirs, name, number))

    def test_every_layout_beside_every_other(self):
        layouts = ("separate", "fused", "transposed")
        for ours in layouts:
            for theirs in layouts:
                with self.subTest(base=ours, aligned=theirs):
                    self.make(theirs, theirs)
                    self.write()
                    self.hardened(output="same", ranks=0)
                    self.make(ours, theirs)
                    self.write()
                    said = self.hardened("--overwrite", ranks=2)
                    (self.assertNotIn if ours == theirs else self.assertIn)("the experts of 1 layers", said)
                    self.assert_experts(ours, theirs)
                    self.assertEqual(checkpoint.tree(self.directory / "out"), checkpoint.tree(self.directory / "same"))
                    for path in ("same", "same.report.json"):
                        self.remove(path)

    def remove(self, name):
        path = self.directory / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    def test_other_names_beside_them(self):
        """Mixtral's names, and a prefix that is guessed as well."""
        self.make("separate", "fused", names=("w1", "w3", "w2"))
        self.aligned = {name.replace("model.", "model.language_model."): tensor for name, tensor in self.aligned.items()}
        self.write()
        said = self.hardened()
        self.assertIn("the experts of 1 layers", said)
        self.assertIn("taken for", said)
        found = checkpoint.read(self.directory / "out")
        self.assertFalse(found["model.language_model.layers.0.mlp.experts.down_proj"] ==
                         self.aligned["model.language_model.layers.0.mlp.experts.down_proj"])

    def test_in_hdf5(self):
        """Places in an HDF5 file are as good as those in safetensors."""
        for ours, theirs in (("fused", "separate"), ("transposed", "separate"), ("separate", "transposed")):
            self.make(ours, theirs)
            self.write()
            self.lox("convert", "base", "base.h5", "--overwrite")
            result = self.lox("harden", "--base", "base.h5", "--aligned", "aligned", "--k", K, "--coef", COEF, "--output",
                              "out", "--overwrite")
            self.assertIn("the experts of 1 layers", result.err)
            self.assert_experts(ours, theirs)

    def test_in_compressed_hdf5(self):
        """A tensor that comes through the HDF5 library can be taken apart, but not put together."""
        for ours, theirs in (("fused", "separate"), ("transposed", "separate"), ("separate", "fused")):
            self.make(ours, theirs)
            self.write()
            with h5py.File(self.directory / "base.h5", "w") as file:
                for name, tensor in self.base.items():
                    wide = tensor.values.astype(np.float32)
                    file.create_dataset(name, data=wide, chunks=wide.shape, compression="gzip")
            words = ("harden", "--base", "base.h5", "--aligned", "aligned", "--k", K, "--coef", COEF, "--output", "out",
                     "--overwrite")
            if ours == "separate":
                self.assertIn("is not in the base model", self.lox(*words, code=3).err)
            else:
                self.assertIn("the experts of 1 layers", self.lox(*words).err)
                self.assert_experts(ours, theirs)

    def test_rows_of_gate_and_up_in_turn(self):
        """gpt-oss, known by its bias: never taken for one before the other, whatever is left out."""
        for ours, theirs in (("fused", "separate"), ("separate", "fused")):
            self.make(ours, theirs)
            fused = self.base if ours == "fused" else self.aligned
            fused[f"{self.LAYER}experts.gate_up_proj_bias"] = Tensor.of("BF16", np.ones((self.COUNT, 2 * self.INNER)))
            self.write()
            self.refused("is not in the", options=("--exclude", "bias", "--overwrite"))
            self.assertNotIn("the experts of", self.hardened("--unpaired", "copy", "--overwrite"))

    def test_what_does_not_fit_is_refused(self):
        whole = self.stored(0, "separate")
        lacks = {name: tensor for name, tensor in whole.items() if "experts.2.up" not in name}
        wider = dict(whole)
        wider[f"{self.LAYER}experts.1.up_proj.weight"] = Tensor("BF16", np.zeros((self.INNER + 1, self.HIDDEN), np.uint16))
        more = whole | {name.replace("experts.0", "experts.4"): tensor for name, tensor in whole.items() if "experts.0" in name}
        self.make("separate", "fused")
        for wrong in (lacks, wider, more):
            self.base = self.others[0] | wrong
            self.write()
            self.refused("is not in the")
        blocks = (8, 8)
        self.make("separate", "fused")
        name = f"{self.LAYER}experts.0.gate_proj.weight"
        del self.base[name]
        self.base |= Fp8(whole[name].values.astype(np.float64), block=blocks).stored(name)
        self.write(base_config=config(blocks))
        self.refused("is not in the")


class SquareExperts(Experts):
    """2 I = H: the shape of gate_up does not tell whether it is transposed, that of down does."""
    COUNT, INNER, HIDDEN = 3, 20, 40

    def test_every_layout_beside_every_other(self):
        for ours, theirs in (("separate", "transposed"), ("transposed", "separate"), ("fused", "separate")):
            with self.subTest(base=ours, aligned=theirs):
                self.make(ours, theirs)
                self.write()
                self.hardened("--overwrite")
                self.assert_experts(ours, theirs)
        self.make("fused", "transposed")
        self.write()
        self.refused("experts.down_proj", "has shape", options=("--overwrite",))


if __name__ == "__main__":
    unittest.main()
