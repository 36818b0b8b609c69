# SPDX-License-Identifier: MIT
"""The edit as a LoRA adapter: merged by the formula of those who load it, it is the model that `apply` writes."""
import json
import os
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest

K = 4
HIDDEN, INNER = 48, 40


class AdapterTest(LoxTest):
    """A model with every kind of module: linears, embeddings, a head, a router, experts in one tensor, and more."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        self.base, self.aligned = {}, {}
        layer = "model.layers.0."
        for name, shape in {
                "model.embed_tokens.weight": (64, HIDDEN), layer + "self_attn.q_proj.weight": (HIDDEN, HIDDEN),
                layer + "mlp.down_proj.weight": (HIDDEN, INNER), layer + "mlp.gate.weight": (3, HIDDEN),
                layer + "mlp.experts.gate_up_proj": (3, 2 * INNER, HIDDEN),
                layer + "mlp.experts.down_proj": (3, HIDDEN, INNER),
                "turned.experts.gate_up_proj": (2, HIDDEN, 2 * INNER), "turned.experts.down_proj": (2, INNER, HIDDEN),
                layer + "conv1d.weight": (HIDDEN, 8, 4), "model.norm.weight": (HIDDEN,), "alone": (20, 30),
                "h.0.attn.c_proj.weight": (HIDDEN, HIDDEN),
                "lm_head.weight": (64, HIDDEN)}.items():
            self.base[name], self.aligned[name] = reference.random_pair(rng, shape, dtype="F32")
        for model, tensors in (("base", self.base), ("aligned", self.aligned)):
            checkpoint.write_directory(self.directory / model, {"model.safetensors": tensors}, index=False)
        self.lox("factor", "--base", "base", "--aligned", "aligned", "--k", K, "--output", "store")

    def adapter(self, *options, output="adapter", code=0):
        self.said = self.lox("adapter", "--factors", "store", "--output", output, *options, code=code).err
        if code:
            return None, None
        folder = self.directory / output
        return checkpoint.read(folder), json.loads((folder / "adapter_config.json").read_text())

    def left_out(self, output="adapter"):
        report = json.loads((self.directory / f"{output}.report.json").read_text())
        for entry in report["left_out"]:
            self.assertIn(f"'{entry['name']}'", self.said)
        return {entry["name"]: entry["share"] for entry in report["left_out"]}

    @staticmethod
    def deltas(tensors, config):
        """What a program adds to each module's weight."""
        scale = config["lora_alpha"] / config["r"]
        deltas = {}
        for name, a in tensors.items():
            for first, second, turned in ((".lora_A.weight", ".lora_B.weight", False),
                                          (".lora_embedding_A", ".lora_embedding_B", True)):
                if not name.endswith(first):
                    continue
                module = name.removesuffix(first)
                product = scale * tensors[module + second].values.astype(np.float64) @ a.values
                deltas[module.removeprefix("base_model.model.")] = product.T if turned else product
        return deltas

    def edit(self, name, k, coef):
        delta = self.aligned[name].values.astype(np.float64) - self.base[name].values
        return coef * reference.Svd(delta, np.float64).truncated(k)

    def assert_close(self, found, expected):
        self.assertEqual(found.shape, expected.shape)
        self.assertLess(np.abs(found - expected).max(), 2e-3 * np.sqrt(np.mean(expected**2)))

    def test_modules(self):
        for k, coef, dtype in ((K, 1.25, "F32"), (2, 0.5, "F32")):
            output = f"adapter-{k}"
            tensors, config = self.adapter("--k", k, "--coef", coef, "--dtype", dtype, output=output)
            deltas = self.deltas(tensors, config)
            self.assertEqual({tensor.dtype for tensor in tensors.values()}, {dtype})
            self.assertEqual((config["r"], config["lora_alpha"]), (k, k * coef))
            self.assertEqual(config["base_model_name_or_path"], str(self.directory / "aligned"))
            for name in self.aligned:
                if name.endswith(".weight") and self.aligned[name].stored.ndim == 2 and "c_proj" not in name:
                    module = name.removesuffix(".weight")
                    self.assert_close(deltas.pop(module), self.edit(name, k, coef))
                    self.assertIn(module.split(".")[-1], config["target_modules"])
            experts = self.edit("model.layers.0.mlp.experts.gate_up_proj", k, coef)
            turned = self.edit("turned.experts.gate_up_proj", k, coef)
            down = self.edit("turned.experts.down_proj", k, coef)
            for e in range(2):
                prefix = f"model.layers.0.mlp.experts.{e}."
                self.assert_close(deltas[prefix + "gate_proj"], experts[e, :INNER])
                self.assert_close(deltas[prefix + "up_proj"], experts[e, INNER:])
                prefix = f"turned.experts.{e}."
                self.assert_close(deltas[prefix + "gate_proj"], turned[e, :, :INNER].T)
                self.assert_close(deltas[prefix + "up_proj"], turned[e, :, INNER:].T)
                self.assert_close(deltas[prefix + "down_proj"], down[e].T)
            self.assertEqual(len(deltas), 9 + 6)
            self.assertEqual(sorted(self.left_out(output)),
                             ["alone", "h.0.attn.c_proj.weight", "model.layers.0.conv1d.weight"])

    def test_bf16(self):
        exact = self.deltas(*self.adapter(output="exact"))
        rounded = self.deltas(*self.adapter("--dtype", "BF16", output="rounded"))
        for module, delta in exact.items():
            difference = np.linalg.norm(rounded[module] - delta)
            self.assertLess(difference, 5e-3 * np.linalg.norm(delta))
            self.assertGreater(difference, 0)

    def test_what_each_program_takes(self):
        everything = {name for name, tensor in self.aligned.items() if tensor.stored.ndim > 1}
        for program, missing in (("vllm", {"model.layers.0.mlp.gate.weight"}),
                                 ("llamacpp", {name for name in everything if ".experts." in name})):
            self.adapter("--for", program, output=program)
            left = self.left_out(program)
            self.assertEqual(set(left), missing | {"alone", "h.0.attn.c_proj.weight", "model.layers.0.conv1d.weight"})
            norms = {name: np.linalg.norm(self.edit(name, K, 1)) for name in everything}
            whole = np.sqrt(sum(norm**2 for norm in norms.values()))
            for name, share in left.items():
                self.assertAlmostEqual(share, norms[name] / whole, delta=1e-3)

    def test_several_coefs_share_the_weights(self):
        self.lox("adapter", "--factors", "store", "--coef", "0.25,0.5,1", "--output", "a-{coef}")
        weights = [self.directory / f"a-{coef}/adapter_model.safetensors" for coef in ("0.25", "0.5", "1")]
        self.assertEqual(len({os.stat(path).st_ino for path in weights}), 1)
        for coef in (0.25, 0.5, 1):
            folder = self.directory / f"a-{coef:g}"
            self.assertEqual(json.loads((folder / "adapter_config.json").read_text())["lora_alpha"], coef * K)
            self.assertEqual(sorted(os.listdir(folder)), ["adapter_config.json", "adapter_model.safetensors"])
        left = [path.name for path in self.directory.iterdir() if path.name.endswith((".journal", ".partial"))]
        self.assertEqual(left, [])

    def test_refused(self):
        for options, code in ((("--for", "ollama"), 2), (("--dtype", "F16"), 2), (("--coef", "1,1"), 2),
                              (("--coef", "1,2"), 2), (("--k", 5), 3), (("--k", -1), 2), (("--coef", "-1"), 2)):
            with self.subTest(options=options):
                self.adapter(*options, code=code)
                self.assertFalse((self.directory / "adapter").exists())
        self.adapter(output="a.h5", code=2)
        self.adapter(output="base", code=3)
        self.adapter(output="store/inside", code=3)
        self.lox("adapter", "--factors", "aligned", "--output", "adapter", code=3)

    def test_damaged_stores(self):
        store = next((self.directory / "store").glob("*.safetensors"))
        whole, metadata = checkpoint.decode(store.read_bytes())
        name = "lm_head.weight"
        for part, change in ((".s", None), (".u", None), (".v", lambda t: t[:, :3]), (".s", lambda t: t[:2]),
                             (".v", lambda t: t[0]), (".u", lambda t: t[0, 0]), (".s", lambda t: -t),
                             (".s", lambda t: t[::-1])):
            with self.subTest(part=part):
                tensors = dict(whole)
                stored = tensors.pop(name + part).stored
                if change:
                    tensors[name + part] = Tensor("F32", change(stored))
                store.write_bytes(checkpoint.encode(tensors, metadata))
                self.adapter(code=3)
                self.assertIn(name, self.said)
                self.lox("apply", "--aligned", "aligned", "--factors", "store", "--output", "out", code=3)
                self.assertFalse((self.directory / "out").exists())


if __name__ == "__main__":
    unittest.main()
