# SPDX-License-Identifier: MIT
"""Peak memory is that of a few tensors, not of the model."""
import unittest

import numpy as np

import checkpoint
import reference
from program import LoxTest, peak_memory

SIZE = 768
TENSOR = 2 * SIZE * SIZE  # bytes in BF16


class Memory(LoxTest):
    def setUp(self):
        super().setUp()
        pair = reference.random_pair(np.random.default_rng(8), (SIZE, SIZE))
        for side, tensor in zip(("base", "aligned"), pair):
            for count in (8, 64):
                tensors = {f"layer.{i:02}.weight": tensor for i in range(count)}
                tensors |= {f"layer.{i:02}.copied": tensor for i in range(count // 2)}
                (self.directory / f"{side}-{count}.safetensors").write_bytes(checkpoint.encode(tensors))

    def peak(self, count, *options, suffix=".safetensors", ranks=0):
        report = self.harden("--exclude", "copied", *options, base=f"base-{count}.safetensors", ranks=ranks,
                             aligned=f"aligned-{count}.safetensors", output=f"out-{count}{suffix}")
        self.assertEqual(report["totals"]["edited"], count)
        return report["totals"]["peak_rss_bytes"]

    def test_does_not_grow_with_the_number_of_tensors(self):
        few = self.peak(8)
        many = self.peak(64)
        print(f"\npeak of 8 tensors {few / 1e6:.1f} MB, of 64 tensors {many / 1e6:.1f} MB")
        # The models differ by 84 tensors; all but a few of them must not be in memory.
        self.assertLess(many, few + 6 * TENSOR)

    def test_does_not_grow_with_the_number_of_tensors_in_hdf5(self):
        few = self.peak(8, suffix=".h5", ranks=2)
        many = self.peak(64, suffix=".h5", ranks=2)
        print(f"\npeak of 8 tensors {few / 1e6:.1f} MB, of 64 tensors {many / 1e6:.1f} MB (HDF5, 2 ranks)")
        self.assertLess(many, few + 6 * TENSOR)

    def test_report_tells_the_truth(self):
        """The kernel's own count for the process agrees with the report."""
        report = self.harden(base="base-8.safetensors", aligned="aligned-8.safetensors", output="out.safetensors")
        measured = peak_memory("harden", "--base", "base-8.safetensors", "--aligned", "aligned-8.safetensors", "--output",
                               "again.safetensors", "--quiet", directory=self.directory)
        self.assertLess(abs(measured / report["totals"]["peak_rss_bytes"] - 1), 0.3)


if __name__ == "__main__":
    unittest.main()
