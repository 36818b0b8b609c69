# SPDX-License-Identifier: MIT
"""An adapter as the aligned model: the output is W_base + Delta + coef Delta_k, rounded once, Delta = s B A."""
import json
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest

R, HIDDEN, INNER = 4, 30, 20
CONFIG = {"peft_type": "LORA", "r": R, "lora_alpha": 8, "bias": "none", "use_rslora": False, "use_dora": False,
          "target_modules": ["q_proj", "v_proj", "up_proj", "c_attn", "square", "embed_tokens"],
          "target_parameters": ["experts.gate_up_proj", "mlp.experts.down_proj", "turned.experts.down_proj"],
          "modules_to_save": ["lm_head", "norm"], "lora_bias": True, "fan_in_fan_out": True,
          "rank_pattern": {"up_proj": 2, "mlp.experts.gate_up_proj": 3}, "alpha_pattern": {"l.*up_proj": 6, "up_proj": 1},
          "base_model_name_or_path": "org/model-bnb-4bit"}
PREFIX = "base_model.model."
LORA = (".lora_A.weight", ".lora_B.weight")
EMBEDDING = (".lora_embedding_A", ".lora_embedding_B")


class AdaptedTest(LoxTest):
    def setUp(self):
        super().setUp()
        self.rng = np.random.default_rng(1)
        self.make("BF16")

    def make(self, dtype):
        """A base and an adapter of every kind; `self.delta` has what is added to each tensor, in double."""
        self.base, self.adapter, self.delta, self.rank = {}, {}, {}, {}
        for name, shape in {
                "l.embed_tokens.weight": (64, HIDDEN), "l.q_proj.weight": (40, HIDDEN), "l.v_proj.weight": (20, HIDDEN),
                "l.v_proj.bias": (20,), "l.up_proj.weight": (50, HIDDEN), "l.o_proj.weight": (HIDDEN, 40),
                "l.k_proj.bias": (20,), "h.c_attn.weight": (HIDDEN, 90), "h.square.weight": (24, 24),
                "l.mlp.experts.gate_up_proj": (3, 2 * INNER, HIDDEN), "l.mlp.experts.down_proj": (3, HIDDEN, INNER),
                "turned.experts.gate_up_proj": (2, HIDDEN, 2 * INNER), "turned.experts.down_proj": (2, INNER, HIDDEN),
                "l.norm.weight": (HIDDEN,), "lm_head.weight": (64, HIDDEN)}.items():
            self.base[name] = Tensor.of(dtype, 0.05 * self.rng.standard_normal(shape))
        self.pair("l.q_proj", 40, HIDDEN, 8 / R)
        self.pair("l.v_proj", 20, HIDDEN, 8 / R)
        self.pair("l.up_proj", 50, HIDDEN, 6 / 2, r=2)
        self.pair("h.c_attn", 90, HIDDEN, 8 / R, turned=True)
        self.pair("h.square", 24, 24, 8 / R, turned=True)  # fan_in_fan_out
        self.pair("l.embed_tokens", HIDDEN, 64, 8 / R, turned=True, words=EMBEDDING)
        self.adapter[PREFIX + "l.embed_tokens.base_layer.weight"] = Tensor.of(
            "F32", self.base["l.embed_tokens.weight"].values)
        # Of two parameters of a module the one wrapped last has the outer names.
        # Its scale is told by the first alpha pattern, which fits more than one name.
        self.pair("l.mlp.experts.base_layer", 2 * INNER, HIDDEN, 6 / 3, r=3, experts=3, name="l.mlp.experts.gate_up_proj")
        self.pair("l.mlp.experts", HIDDEN, INNER, 8 / R, experts=3, name="l.mlp.experts.down_proj")
        self.pair("turned.experts.base_layer", 2 * INNER, HIDDEN, 8 / R, experts=2, turned=True,
                  name="turned.experts.gate_up_proj")
        self.pair("turned.experts", HIDDEN, INNER, 8 / R, experts=2, turned=True, name="turned.experts.down_proj")
        bias = Tensor.of("F32", 0.05 * self.rng.standard_normal(20))
        self.adapter[PREFIX + "l.v_proj.lora_B.bias"] = bias
        self.delta["l.v_proj.bias"] = 8 / R * bias.values.astype(np.float64)
        self.whole = {name: Tensor.of(dtype, self.base[name].values + 0.01 * self.rng.standard_normal(shape))
                      for name, shape in (("lm_head.weight", (64, HIDDEN)), ("l.norm.weight", (HIDDEN,)),
                                          ("l.k_proj.bias", (20,)))}
        for name, tensor in self.whole.items():
            self.adapter[PREFIX + name.replace("k_proj.bias", "k_proj.base_layer.bias")] = tensor
        files = {"config.json": b"{}", "tokenizer.json": b"base", "vocab.txt": b"base"}
        checkpoint.write_directory(self.directory / f"base-{dtype}", {"a.safetensors": dict(list(self.base.items())[:7]),
                                                                     "b.safetensors": dict(list(self.base.items())[7:])},
                                   files=files)
        self.put()

    def pair(self, module, out, into, scale, r=R, experts=1, turned=False, words=LORA, name=None):
        """Adds factors, and their product, of each expert, to self.delta."""
        a = Tensor.of("F32", 0.1 * self.rng.standard_normal((experts * r, into)))
        b = Tensor.of("F32", 0.1 * self.rng.standard_normal((out, experts * r)))
        self.adapter[PREFIX + module + words[0]], self.adapter[PREFIX + module + words[1]] = a, b
        products = [scale * b.values[:, e::experts].astype(np.float64) @ a.values[e * r:(e + 1) * r]
                    for e in range(experts)]
        delta = np.stack([product.T if turned else product for product in products])
        name = name or module + ".weight"
        self.delta[name] = delta if experts > 1 else delta[0]
        self.rank[name] = r

    def put(self, config=None, tensors=None, name="adapter"):
        folder = self.directory / name
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
        (folder / "tokenizer.json").write_text("trained")
        (folder / "README.md").write_text("of the adapter")
        (folder / "adapter_model.safetensors").write_bytes(checkpoint.encode(tensors or self.adapter, {"format": "pt"}))

    def expected(self, name, k, coef, edited=True):
        """In double, before it is rounded."""
        base = self.base[name].values.astype(np.float64)
        if name in self.whole:
            whole = self.whole[name].values.astype(np.float64)
            return whole + self.part(whole - base, k, coef) if edited and base.ndim > 1 else whole
        delta = self.delta.get(name)
        if delta is None:
            return base
        return base + delta + (self.part(delta, k, coef) if edited and base.ndim > 1 else 0)

    @staticmethod
    def part(delta, k, coef):
        """coef times the best approximation of rank k, in double to the end."""
        u, sigma, vt = np.linalg.svd(delta, full_matrices=False)
        return coef * (u[..., :k or None] * sigma[..., np.newaxis, :k or None]) @ vt[..., :k or None, :]

    def check(self, found, k, coef, edited=lambda name: True):
        self.assertEqual(list(found), list(self.base))
        for name, tensor in found.items():
            expected = self.expected(name, k, coef, edited(name))
            with self.subTest(tensor=name, k=k, coef=coef):
                self.assertEqual(tensor.dtype, self.base[name].dtype)
                rounded = Tensor.of(tensor.dtype, expected)
                if name not in self.delta and not (name == "lm_head.weight" and edited(name)):
                    self.assertEqual(tensor, self.whole.get(name, self.base[name]))
                    continue
                off = np.abs(tensor.values.astype(np.float64) - expected)
                if name == "lm_head.weight":  # solved in float, like any pair
                    self.assertLess(off.max(), np.abs(expected).max() * (2e-7 if tensor.dtype == "F32" else 4e-3))
                    continue
                self.assertGreaterEqual(np.mean(tensor.stored == rounded.stored), 0.998)
                self.assertLessEqual((off / reference.ulp(tensor.dtype, expected)).max(), 0.52)

    def run_harden(self, *options, output="out", base="base-BF16", aligned="adapter", **more):
        return self.lox("harden", "--base", base, "--aligned", aligned, "--output", output, *options, **more)

    def test_every_tensor(self):
        for dtype in ("BF16", "F32"):
            if dtype != "BF16":
                self.make(dtype)
            for k, coef in ((2, 1.25), (1, 0), (0, 0.5), (100, 1)):
                output = f"out-{dtype}-{k}"
                said = self.run_harden("--k", k, "--coef", coef, base=f"base-{dtype}", output=output).err
                self.check(checkpoint.read(self.directory / output), k, coef)
                self.assertIn("quantised base", said)
                self.assertEqual((self.directory / output / "tokenizer.json").read_bytes(), b"trained")
                self.assertEqual((self.directory / output / "vocab.txt").read_bytes(), b"base")
                self.assertFalse((self.directory / output / "README.md").exists())
                self.assertEqual(sorted(p.name for p in (self.directory / output).glob("*.safetensors")),
                                 ["a.safetensors", "b.safetensors"])

    def test_the_same_bytes_for_any_ranks_and_formats(self):
        self.run_harden("--k", 2)
        for ranks in (2, 3):
            self.run_harden("--k", 2, output=f"out-{ranks}", ranks=ranks)
            self.assertEqual(checkpoint.read(self.directory / f"out-{ranks}"), checkpoint.read(self.directory / "out"))
        self.run_harden("--k", 2, "--grid", "always", output="grid", ranks=2)
        self.check(checkpoint.read(self.directory / "grid"), 2, 1.25)
        self.lox("convert", "base-BF16", "base.h5")
        self.run_harden("--k", 2, base="base.h5", output="out.h5")
        self.lox("convert", "out.h5", "back")
        self.assertEqual(checkpoint.read(self.directory / "back"), checkpoint.read(self.directory / "out"))

    def test_excluded_ones_are_merged(self):
        self.run_harden("--k", 2, "--exclude", "q_proj|experts|lm_head")
        kept = ("q_proj", "experts", "lm_head")
        self.check(checkpoint.read(self.directory / "out"), 2, 1.25, lambda name: not any(word in name for word in kept))
        self.run_harden("--exclude", "proj|embed|attn|square|lm_head", output="none", code=3)

    def test_report(self):
        self.run_harden("--k", 2)
        report = json.loads((self.directory / "out.report.json").read_text())
        self.assertTrue(report["job"]["adapter"]["trained_on_quantised"])
        self.assertEqual(report["job"]["adapter"]["base_model_name_or_path"], CONFIG["base_model_name_or_path"])
        entries = {entry["name"]: entry for entry in report["tensors"]}
        self.assertEqual(list(entries), list(self.base))
        for name, entry in entries.items():
            expected = name in self.rank or name == "lm_head.weight"
            self.assertEqual(entry["action"], "edited" if expected else "copied", name)
            if name not in self.rank:
                continue
            self.assertEqual(entry["method"], "lora")
            for number, delta in enumerate(self.delta[name].reshape(-1, *self.delta[name].shape[-2:])):
                one = entry["batch"][number] if "batch" in entry else entry
                sigma = np.linalg.svd(delta, compute_uv=False)
                np.testing.assert_allclose(one["sigma"], sigma[:2], rtol=1e-10)
                self.assertAlmostEqual(one["delta_norm"], np.linalg.norm(delta), delta=1e-10)
                self.assertLess(max(one["certificate"], one["orthogonality"]), 1e-12)
                self.assertAlmostEqual(one["energy"], np.sum(sigma[:2]**2) / np.sum(sigma**2), delta=1e-9)
        self.assertIn("q_proj", self.lox("report", "out.report.json").out)
        self.assertIn("lora", self.lox("plan", "--base", "base-BF16", "--aligned", "adapter", "--output", "x").out)
        self.lox("plan", "factor", "--base", "base-BF16", "--aligned", "adapter", "--output", "x.h5")

    def test_factors_of_an_adapter(self):
        """The store is of the model that the same adapter makes with coef 0; it takes any coef."""
        for dtype in ("BF16", "F32"):
            if dtype != "BF16":
                self.make(dtype)
            base, store, merged = f"base-{dtype}", f"store-{dtype}", f"merged-{dtype}"
            self.lox("factor", "--base", base, "--aligned", "adapter", "--k", 3, "--output", store, ranks=2)
            self.run_harden("--coef", 0, base=base, output=merged)
            aligned = checkpoint.read(self.directory / merged)
            self.lox("apply", "--aligned", merged, "--factors", store, "--k", 2, "--coef", 0.5, "--output", f"out-{dtype}")
            for name, tensor in checkpoint.read(self.directory / f"out-{dtype}").items():
                delta = self.delta.get(name)
                if name == "lm_head.weight":
                    delta = self.whole[name].values.astype(np.float64) - self.base[name].values
                if delta is None or delta.ndim < 2:
                    self.assertEqual(tensor, aligned[name])
                    continue
                expected = aligned[name].values + self.part(delta, 2, 0.5)
                off = np.abs(tensor.values.astype(np.float64) - expected)
                if name == "lm_head.weight":  # solved in float, like any pair
                    self.assertLess(off.max(), np.abs(expected).max() * (2e-7 if dtype == "F32" else 4e-3))
                else:
                    self.assertLessEqual((off / reference.ulp(dtype, expected)).max(), 0.52, name)
            self.lox("verify", "--base", base, "--aligned", "adapter", "--factors", store, "--sample", 0)
            self.lox("verify", "--aligned", merged, "--factors", store, "--hardened", f"out-{dtype}", "--k", 2, "--coef",
                     0.5, "--sample", 0)
            self.assertIn("lox harden", self.lox("apply", "--aligned", "adapter", "--factors", store, "--output", "no",
                                                code=3).err)
            self.lox("apply", "--aligned", base, "--factors", store, "--output", "no", code=3)

    def test_verify(self):
        for dtype in ("BF16", "F32"):
            if dtype != "BF16":
                self.make(dtype)
            base = f"base-{dtype}"
            words = ("--base", base, "--aligned", "adapter", "--sample", 0, "--hardened")
            for k, coef in ((2, 1.25), (0, 0.5), (2, 0)):
                out = f"out-{dtype}-{k}-{coef}"
                self.run_harden("--k", k, "--coef", coef, base=base, output=out)
                self.lox("verify", *words, out, "--k", k, "--coef", coef, ranks=2)
                self.lox("verify", *words, out, "--k", k, "--coef", coef + 0.1, code=4)
            out = f"out-{dtype}-2-1.25"
            self.lox("verify", *words, out, "--k", 1, code=4)
            whole = checkpoint.read(self.directory / out)
            for name in ("l.q_proj.weight", "l.v_proj.bias", "l.mlp.experts.down_proj", "h.square.weight",
                         "l.norm.weight", "l.o_proj.weight", "lm_head.weight"):
                broken = dict(whole)
                wrong = broken[name].values.copy()
                wrong.flat[3] += 0.01
                broken[name] = Tensor.of(dtype, wrong)
                checkpoint.write_directory(self.directory / f"broken-{dtype}-{name}", {"model.safetensors": broken},
                                           index=False, files={"config.json": b"{}", "tokenizer.json": b"trained",
                                                               "vocab.txt": b"base"})
                done = self.lox("verify", *words, f"broken-{dtype}-{name}", "--k", 2, code=4)
                self.assertIn(f"'{name}'", done.out)
            self.lox("plan", "verify", *words, out)

    def test_a_replaced_tensor_of_another_dtype(self):
        """It keeps its own: the shards are laid out anew."""
        self.whole["lm_head.weight"] = Tensor.of("F32", self.whole["lm_head.weight"].values)
        self.adapter[PREFIX + "lm_head.weight"] = self.whole["lm_head.weight"]
        self.base["lm_head.weight"].dtype  # stays BF16 in the base
        self.put()
        said = self.run_harden("--k", 2).lines
        self.assertEqual([line for line in said if "written as F32" in line and "'lm_head.weight'" in line][1:], [])
        self.assertIn("written as F32", "".join(said))
        found = checkpoint.read(self.directory / "out")
        self.assertEqual(found["lm_head.weight"].dtype, "F32")
        off = np.abs(found["lm_head.weight"].values - self.expected("lm_head.weight", 2, 1.25))
        self.assertLess(off.max(), 1e-6)
        self.assertEqual(sorted(found), sorted(self.base))
        self.lox("verify", "--base", "base-BF16", "--aligned", "adapter", "--hardened", "out", "--k", 2, "--sample", 0)

    def test_what_is_copied_is_copied_bit_by_bit(self):
        """NaN too, as of any aligned model."""
        norm = self.whole["l.norm.weight"].values.copy()
        norm[3] = np.nan
        self.adapter[PREFIX + "l.norm.weight"] = Tensor.of("BF16", norm)
        self.put()
        self.run_harden("--k", 2)
        self.assertEqual(checkpoint.read(self.directory / "out")["l.norm.weight"], self.adapter[PREFIX + "l.norm.weight"])

    def test_other_weights_in_the_folder(self):
        """They are no part of the adapter; a line says so."""
        stray = {PREFIX + "l.o_proj.lora_A.weight": Tensor.of("F32", np.ones((R, 40)))}
        (self.directory / "adapter" / "model.safetensors").write_bytes(checkpoint.encode(stray))
        said = self.run_harden("--k", 2).err
        self.assertEqual(said.count("is no part of the adapter"), 1)
        self.assertIn("model.safetensors", said)
        self.check(checkpoint.read(self.directory / "out"), 2, 1.25)

    def test_as_adapter_is_the_same_model(self):
        """A hardened adapter, merged, is the hardened checkpoint up to rounding."""
        for name in ("l.mlp.experts.base_layer", "l.mlp.experts"):  # ranks that only the base tells apart
            for word in LORA:
                del self.adapter[PREFIX + name + word]
        self.put()
        self.lox("harden", "--aligned", "adapter", "--as-adapter", "--k", 2, "--output", "hard")
        self.run_harden("--k", 2)
        self.run_harden("--coef", 0, aligned="hard", output="merged")
        one, other = checkpoint.read(self.directory / "out"), checkpoint.read(self.directory / "merged")
        for name in self.rank:
            self.assertGreater(np.mean(one[name].stored == other[name].stored), 0.99, name)

    def test_refused(self):
        def without(*names):
            return {name: tensor for name, tensor in self.adapter.items() if not name.startswith(names)}

        def more(name, shape):
            return {**self.adapter, PREFIX + name: Tensor.of("F32", np.ones(shape))}

        for config, tensors, word in (
                ({"use_dora": True}, None, "DoRA"), ({"use_qalora": True}, None, "QA-LoRA"),
                ({"rank_pattern": {}}, None, "rank"), ({"peft_type": "IA3"}, None, "IA3"),
                (None, more("nowhere.lora_A.weight", (R, HIDDEN)), "nowhere"),
                (None, {**more("no.lora_A.weight", (R, 5)), PREFIX + "no.lora_B.weight": Tensor.of("F32", np.ones((5, R)))}, "no.weight"),
                (None, more("l.o_proj.lora_B.bias", (HIDDEN,)), "l.o_proj.bias"),
                (None, more("l.q_proj.weight", (40, HIDDEN)), "l.q_proj.weight"),
                (None, more("l.o_proj.base_layer.weight", (HIDDEN, 40)), "o_proj"),
                (None, more("l.embed_tokens.base_layer.weight", (64, HIDDEN)), "embed_tokens.base_layer"),
                (None, more("lm_head.weight", (70, HIDDEN)), "lm_head"),
                (None, more("l.q_proj.lora_A.weight", (R, HIDDEN + 1)), "q_proj"),
                ({"target_parameters": []}, None, "experts"),
                (None, {**without(), PREFIX + "l.q_proj.lora_A.weight": Tensor.of("F32", np.full((R, HIDDEN), np.nan))},
                 "q_proj")):
            with self.subTest(word=word, config=config):
                self.put(config, tensors)
                before = sorted(p.name for p in self.directory.iterdir())
                self.assertIn(word, self.run_harden(code=3).err)
                self.assertEqual(sorted(p.name for p in self.directory.iterdir()), before)
        self.put()
        self.lox("harden", "--base", "adapter", "--aligned", "base-BF16", "--output", "x", code=3)

    def test_square_experts_are_not_guessed(self):
        base = {"m.experts.down_proj": Tensor.of("BF16", np.ones((2, 6, 6)))}
        checkpoint.write_directory(self.directory / "square", {"model.safetensors": base}, index=False)
        tensors = {PREFIX + "m.experts" + word: Tensor.of("F32", np.ones(shape))
                   for word, shape in zip(LORA, ((2 * R, 6), (6, 2 * R)))}
        self.put({"target_parameters": ["experts.down_proj"]}, tensors, name="a")
        self.assertIn("square", self.run_harden(base="square", aligned="a", code=3).err)


if __name__ == "__main__":
    unittest.main()
