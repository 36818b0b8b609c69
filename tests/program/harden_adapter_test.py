# SPDX-License-Identifier: MIT
"""A hardened LoRA adapter: of the same form, with the k largest singular values of its Delta 1 + coef times as large."""
import json
import unittest

import numpy as np

import checkpoint
from checkpoint import Tensor
from program import LoxTest

R = 4
CONFIG = {"peft_type": "LORA", "r": R, "lora_alpha": 8, "target_modules": ["q_proj", "embed_tokens"], "bias": "none",
          "rank_pattern": {"up_proj": 2}, "alpha_pattern": {"layers.0.*.up_proj": 6}}
PREFIX = "base_model.model.model."


class HardenAdapterTest(LoxTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        self.tensors = {}
        for name, rows, cols, r, words in (
                ("layers.0.self_attn.q_proj", 40, 30, R, (".lora_A.weight", ".lora_B.weight")),
                ("layers.0.mlp.up_proj", 50, 30, 2, (".lora_A.weight", ".lora_B.weight")),
                ("embed_tokens", 30, 64, R, (".lora_embedding_A", ".lora_embedding_B")),
                ("layers.0.mlp.experts", 24, 20, 3 * R, (".lora_A.weight", ".lora_B.weight"))):
            self.tensors[PREFIX + name + words[0]] = Tensor.of("F32", rng.standard_normal((r, cols)))
            self.tensors[PREFIX + name + words[1]] = Tensor.of("F32", rng.standard_normal((rows, r)))
        self.tensors[PREFIX + "layers.0.self_attn.q_proj.lora_B.bias"] = Tensor.of("F32", rng.standard_normal(40))
        self.put()

    def put(self, config=None, tensors=None, name="adapter"):
        folder = self.directory / name
        folder.mkdir(exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps({**CONFIG, **(config or {})}))
        (folder / "README.md").write_text("mine")
        path = folder / "adapter_model.safetensors"
        path.write_bytes(checkpoint.encode(tensors or self.tensors, {"format": "pt"}))

    def harden(self, *options, code=0, output="out"):
        return self.lox("harden", "--aligned", "adapter", "--as-adapter", "--output", output, *options, code=code)

    @staticmethod
    def products(tensors):
        """B A of every module; of every expert."""
        products = {}
        for name, a in tensors.items():
            if "_A" not in name:
                continue
            b = tensors[name.replace("_A", "_B")].values.astype(np.float64)
            a = a.values.astype(np.float64)
            if "experts" not in name:
                products[name] = b @ a
                continue
            for e in range(3):
                products[f"{name} {e}"] = b[:, e::3] @ a[e * R:(e + 1) * R]
        return products

    def test_the_largest_values_grow(self):
        for k, coef in ((1, 1.25), (2, 0.5), (0, 2)):
            output = f"out-{k}"
            self.harden("--k", k, "--coef", coef, output=output)
            found = checkpoint.read(self.directory / output)
            before = self.products(self.tensors)
            for name, product in self.products(found).items():
                u, sigma, vt = np.linalg.svd(before[name])
                count = len(sigma) if k == 0 else k
                sigma[:count] *= 1 + coef
                expected = (u[:, :len(sigma)] * sigma) @ vt[:len(sigma)]
                self.assertLess(np.abs(product - expected).max(), 1e-5 * sigma[0], name)
            self.assertEqual(list(found), list(self.tensors))
            for name, tensor in self.tensors.items():
                self.assertEqual((found[name].dtype, found[name].shape), (tensor.dtype, tensor.shape))
                if "_B" not in name or name.endswith("bias"):
                    self.assertEqual(found[name], tensor)
            for file in ("adapter_config.json", "README.md"):
                self.assertEqual((self.directory / output / file).read_bytes(),
                                 (self.directory / "adapter" / file).read_bytes())

    def test_report(self):
        self.harden("--k", 1)
        report = json.loads((self.directory / "out.report.json").read_text())
        scales = {"embed_tokens": 8 / R, "layers.0.mlp.up_proj": 6 / 2}
        for entry in report["modules"]:
            module = entry["module"].removeprefix("model.")
            if module in scales:
                name = next(n for n in self.products(self.tensors) if module + "." in n)
                sigma = np.linalg.svd(self.products(self.tensors)[name], compute_uv=False)[:entry["r"]]
                np.testing.assert_allclose(entry["sigma"], scales[module] * sigma, rtol=1e-6)
        self.assertEqual(len(report["modules"]), 3 + 3)
        self.assertIn("report of an adapter", self.lox("report", "out.report.json", code=3).err)

    def test_a_report_that_cannot_be_written(self):
        self.assertIn("/proc/x: the report cannot be written there", self.harden("--report", "/proc/x", code=3).err)
        self.assertEqual(sorted(path.name for path in self.directory.iterdir()), ["adapter"])

    def test_coef_0_is_warned_of(self):
        self.assertIn("coef 0 changes nothing in adapter\n", self.harden("--coef", 0).err)

    def test_bf16_stays_bf16(self):
        self.put(tensors={name: Tensor.of("BF16", tensor.values) for name, tensor in self.tensors.items()})
        self.harden()
        self.assertEqual({tensor.dtype for tensor in checkpoint.read(self.directory / "out").values()}, {"BF16"})

    def test_refused_by_name(self):
        for config, word in (({"use_dora": True}, "DoRA"), ({"peft_type": "IA3"}, "IA3"),
                             ({"alora_invocation_tokens": [1]}, "alora"), ({"init_lora_weights": "pissa_niter_4"}, "pissa"),
                             ({"layer_replication": [[0, 2]]}, "layer_replication"), ({"r": 5}, "rank"),
                             ({"trainable_token_indices": [1]}, "token"), ({"rank_pattern": {"(": 2}}, "rank_pattern"),
                             ({"lora_alpha": None}, "adapter_config.json")):
            with self.subTest(config=config):
                self.put(config)
                self.assertIn(word, self.harden(code=3).err)
                self.assertEqual(sorted(p.name for p in self.directory.iterdir()), ["adapter"])
        self.put()

    def test_tensors_that_belong_to_nothing(self):
        for name, shape in (("lora_magnitude_vector", (3, 3)), (PREFIX + "x.lora_A.weight", (4, 3))):
            self.put(tensors={**self.tensors, name: Tensor.of("F32", np.ones(shape))})
            self.assertIn("x" if "x" in name else name, self.harden(code=3).err)
        broken = dict(self.tensors)
        broken[PREFIX + "embed_tokens.lora_embedding_A"] = Tensor.of("F32", np.full((R, 64), np.nan))
        self.put(tensors=broken)
        self.assertIn("NaN", self.harden(code=3).err)
        self.assertFalse((self.directory / "out").exists())

    def test_words(self):
        self.harden("--base", "adapter", code=2)
        self.harden(output="out.h5", code=2)
        self.lox("harden", "--aligned", "adapter/adapter_model.safetensors", "--as-adapter", "--output", "out", code=3)
        self.assertIn("needs no plan",
                      self.lox("plan", "--aligned", "adapter", "--as-adapter", "--output", "out", code=2).err)

    def test_weights_that_are_not_hardened_stay_behind(self):
        for name in ("adapter_model.bin", "model.safetensors"):
            (self.directory / "adapter" / name).write_bytes(b"others")
        said = self.harden().err
        for name in ("adapter_model.bin", "model.safetensors"):
            self.assertIn(f"{name} is not copied", said)
            self.assertFalse((self.directory / "out" / name).exists())


if __name__ == "__main__":
    unittest.main()
