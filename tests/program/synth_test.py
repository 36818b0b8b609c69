# SPDX-License-Identifier: MIT
"""`lox synth --quantised fp8`: the BF16 half, quantised in blocks; and that harden takes it."""
import json
import unittest

import numpy as np

import checkpoint
import fp8
from program import LoxTest

USAGE = 2


class SynthTest(LoxTest):
    def synth(self, name, *words, ranks=0):
        self.lox("synth", name, "--layers", 2, "--quiet", *words, ranks=ranks)
        return checkpoint.read(self.directory / name)

    def test_codes_and_scales_are_those_of_numpy(self):
        """688 columns and 1000 rows end in ragged blocks; 448 is the largest value of a block."""
        for role in ("base", "aligned"):
            plain = self.synth(f"plain-{role}", "--role", role)
            found = self.synth(f"fp8-{role}", "--role", role, "--quantised", "fp8")
            quantised = [name for name, tensor in found.items() if tensor.dtype == "F8_E4M3"]
            self.assertEqual(len(quantised), 2 * 7)
            self.assertEqual(set(found) - set(plain), {f"{name}_scale_inv" for name in quantised})
            for name, tensor in plain.items():
                if name not in quantised:
                    self.assertEqual(found[name], tensor, name)
                    continue
                codes, scales = fp8.quantise(tensor.values, (128, 128))
                np.testing.assert_array_equal(found[f"{name}_scale_inv"].values, scales)
                values = fp8.values_of(found[name].stored, scales, (128, 128))
                ours = fp8.values_of(codes, scales, (128, 128))
                off = np.abs(values.astype(np.float64) - tensor.values)
                self.assertLessEqual(np.max(off - np.abs(ours.astype(np.float64) - tensor.values)), 1e-7, name)
                self.assertGreater(np.mean(codes == found[name].stored), 0.99, name)  # of two that are as near, the other
        config = json.loads((self.directory / "fp8-base/config.json").read_text())
        self.assertEqual(config["quantization_config"]["weight_block_size"], [128, 128])

    def test_any_ranks_make_the_same_bytes(self):
        words = ("--quantised", "fp8", "--role", "aligned")
        self.synth("one", *words)
        self.synth("three", *words, ranks=3)
        self.assertEqual(checkpoint.tree(self.directory / "one"), checkpoint.tree(self.directory / "three"))

    def test_harden_takes_the_pair(self):
        for role in ("base", "aligned"):
            self.synth(role, "--role", role, "--quantised", "fp8")
        report = self.harden()
        edited = [tensor for tensor in report["tensors"] if tensor["action"] == "edited"]
        self.assertEqual(sum("quantisation_noise" in tensor for tensor in edited), 2 * 7)
        self.assertEqual({tensor.dtype for tensor in checkpoint.read(self.directory / "out").values()}, {"BF16"})
        self.assertIn("verified", self.lox("verify", "--report", "out.report.json").err)

    def test_words(self):
        self.assertIn("neither none nor fp8", self.lox("synth", "x", "--quantised", "int4", code=USAGE).err)
        planned = [json.loads(self.lox("plan", "synth", "x", "--shape", "kimi-k2", "--quantised", form, "--json", code=None).out)
                   for form in ("none", "fp8")]
        sizes = [plan["totals"]["bytes_written"] for plan in planned]
        self.assertEqual(sizes[1], 1029173249888)
        self.assertEqual(sizes[0], 2 * (2514967552 + 1023893241856) + 4 * 60 * 384)


if __name__ == "__main__":
    unittest.main()
