# SPDX-License-Identifier: MIT
"""Mistakes that would go unseen: patterns that match nothing, one model named twice, models swapped; and what is only
copied need not match."""
import os
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest

BAD_INPUT = 3
SHAPE = (96, 64)


class Mistakes(LoxTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(11)
        self.pair = {name: reference.random_pair(rng, SHAPE) for name in ("layers.0.up", "layers.1.up", "embed")}
        self.norm = Tensor.of("BF16", rng.standard_normal(64))
        self.models = [{name: pair[side] for name, pair in self.pair.items()} | {"norm": self.norm} for side in (0, 1)]
        self.put()

    def put(self):
        for name, tensors in zip(("base", "aligned"), self.models):
            (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode(tensors))
        self.files = sorted(os.listdir(self.directory))

    def asked(self, task="harden", *options, aligned="aligned.safetensors"):
        inputs = ("--base", "base.safetensors", "--aligned", aligned)
        return (task, *(("--quiet",) if task != "plan" else ()), *inputs, "--output", "out.safetensors", *options)

    def refused(self, *asked, ranks=0):
        said = self.lox(*asked, code=BAD_INPUT, ranks=ranks).err
        self.assertEqual(sorted(os.listdir(self.directory)), self.files)
        return said

    def test_patterns_that_match_nothing(self):
        for task in ("harden", "factor", "plan"):
            for options in (("--exclude", "emded"), ("--include", "up", "--include", "dwon")):
                with self.subTest(task=task, options=options):
                    self.assertIn(f"{options[-2]} '{options[-1]}' matches no tensor", self.refused(*self.asked(task, *options)))

    def test_one_model_twice(self):
        copy = dict(self.models[0])
        copy["norm"] = Tensor.of("BF16", self.norm.values + 1)  # copied: no edit comes of it
        (self.directory / "copy.safetensors").write_bytes(checkpoint.encode(copy))
        self.files = sorted(os.listdir(self.directory))
        for ranks in (0, 2):
            for task in ("harden", "factor"):
                for k in (6, 64):
                    with self.subTest(task=task, ranks=ranks, k=k):
                        said = self.refused(*self.asked(task, "--k", k, aligned="copy.safetensors"), ranks=ranks)
                        self.assertIn("no matrix to be edited differs", said)
        said = self.refused(*self.asked("harden", "--k", 0, aligned="copy.safetensors"))
        self.assertIn("no matrix to be edited differs", said)

    def test_one_model_by_two_names(self):
        """Known before anything is read, by the file system; by the plan, too."""
        (self.directory / "link.safetensors").symlink_to("base.safetensors")
        self.files = sorted(os.listdir(self.directory))
        for task in ("harden", "factor", "plan"):
            for aligned in ("base.safetensors", "./base.safetensors", "link.safetensors"):
                with self.subTest(task=task, aligned=aligned):
                    self.assertIn("name one model", self.refused(*self.asked(task, aligned=aligned)))

    def test_coef_0_is_warned_of(self):
        words = ("--base", "base.safetensors", "--aligned", "aligned.safetensors")
        for task in ("harden", "plan"):
            said = self.lox(task, *words, "--coef", 0, "--output", "out0.safetensors").lines
            self.assertEqual(len([line for line in said if "coef 0 changes nothing" in line]), 1, task)
        self.assertEqual(checkpoint.decode((self.directory / "out0.safetensors").read_bytes())[0], self.models[1])
        self.lox("factor", "--quiet", *words, "--output", "store")
        for more, warned in (("0,0.5", 1), ("0.5,1", 0)):
            said = self.lox("apply", *words[2:], "--factors", "store", "--coef", more, "--output", f"o{warned}-{{coef}}").err
            self.assertEqual(said.count("coef 0 changes nothing"), warned)

    def test_what_is_copied_need_not_match(self):
        """A vocabulary extended in the aligned model, a head of its own, a tensor that only the base has."""
        self.models[1]["embed"] = Tensor.of("BF16", np.ones((100, 64)))
        self.models[1]["head"] = Tensor.of("BF16", np.ones((5, 64)))
        self.models[0]["old"] = Tensor.of("F32", np.ones((7, 64)))
        self.put()
        self.assertIn("was the vocabulary extended?", self.refused(*self.asked()))
        options = ("--exclude", "embed", "--exclude", "head", "--exclude", "old")
        for missing in range(3):
            fewer = [o for i in range(3) if i != missing for o in options[2 * i:2 * i + 2]]
            self.refused(*self.asked("harden", *fewer))
        self.lox(*self.asked("plan", *options))
        self.lox(*self.asked("harden", *options), ranks=2)
        hardened, _ = checkpoint.decode((self.directory / "out.safetensors").read_bytes())
        for name, tensor in self.models[1].items():
            self.assertEqual(hardened[name] == tensor, not name.endswith("up"), name)
        self.assertNotIn("old", hardened)
        models = ("--base", "base.safetensors", "--aligned", "aligned.safetensors", "--hardened", "out.safetensors")
        self.lox("verify", *models, *options)
        hardened["head"] = Tensor.of("BF16", np.zeros((5, 64)))
        (self.directory / "out.safetensors").write_bytes(checkpoint.encode(hardened))
        self.assertNotEqual(self.lox("verify", *models, *options, code=None).code, 0)
        del hardened["head"]  # copied, and yet it must be there
        (self.directory / "out.safetensors").write_bytes(checkpoint.encode(hardened))
        self.assertIn("'head'", self.lox("verify", *models, *options, code=None).err)
        self.lox("factor", "--quiet", *models[:4], "--output", "store", *options)
        self.lox("apply", "--quiet", *models[2:4], "--factors", "store", "--output", "again.safetensors")
        again, _ = checkpoint.decode((self.directory / "again.safetensors").read_bytes())
        self.assertEqual(again["embed"], self.models[1]["embed"])

    def test_swapped_models_are_warned_of(self):
        for name, tensors in zip(("toy", "toy-Instruct"), self.models):
            (self.directory / name).mkdir()
            (self.directory / name / "model.safetensors").write_bytes(checkpoint.encode(tensors))
        said = self.lox("harden", "--base", "toy-Instruct", "--aligned", "toy", "--output", "out").err
        self.assertIn("swapped", said)
        for task in ((), ("factor",)):
            planned = self.lox("plan", *task, "--base", "toy-Instruct", "--aligned", "toy", "--output", f"x{len(task)}").err
            self.assertIn("swapped", planned)
            self.assertNotIn("swapped", self.lox("plan", *task, "--base", "toy", "--aligned", "toy-Instruct", "--output", "y").err)
        self.assertNotIn("swapped", self.lox("harden", "--base", "toy", "--aligned", "toy-Instruct", "--output", "b").err)
        (self.directory / "toy-Instruct").rename(self.directory / "other")
        (self.directory / "other" / "tokenizer_config.json").write_text('{"chat_template": null}')
        self.assertNotIn("swapped", self.lox("plan", "--base", "other", "--aligned", "toy", "--output", "y").err)
        (self.directory / "other" / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
        self.assertIn("swapped", self.lox("plan", "--base", "other", "--aligned", "toy", "--output", "y").err)
        (self.directory / "other").rename(self.directory / "toy-Instruct")
        (self.directory / "toy" / "chat_template.jinja").write_text("{{ messages }}")
        self.assertNotIn("swapped", self.lox("harden", "--base", "toy-Instruct", "--aligned", "toy", "--output", "c").err)


if __name__ == "__main__":
    unittest.main()
