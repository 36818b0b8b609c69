# SPDX-License-Identifier: MIT
"""Peak memory is that of a few tensors, not of the model."""
import json
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

import checkpoint
import reference
from program import LoxTest, peak_memory

SIZE = 512
TENSOR = 2 * SIZE * SIZE  # bytes in BF16
FEW, MANY = 64, 640  # from some fifty tensors on, all memory that a run needs has been in use together


class Memory(LoxTest):
    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        pair = reference.random_pair(np.random.default_rng(8), (SIZE, SIZE))
        for side, tensor in zip(("base", "aligned"), pair):
            for count in (FEW, MANY):
                tensors = {f"layer.{i:03}.{'copied' if i % 2 else 'weight'}": tensor for i in range(count)}
                (cls.models / f"{side}-{count}.safetensors").write_bytes(checkpoint.encode(tensors))

    def peak(self, count, suffix, ranks):
        base, aligned = self.models / f"base-{count}.safetensors", self.models / f"aligned-{count}.safetensors"
        report = self.harden("--exclude", "copied", "--k", 1, base=base, aligned=aligned, output=f"out-{count}{suffix}",
                             ranks=ranks)
        self.assertEqual(report["totals"]["edited"], count // 2)
        return report["totals"]["peak_rss_bytes"]

    def check(self, suffix, ranks):
        few = self.peak(FEW, suffix, ranks)
        many = self.peak(MANY, suffix, ranks)
        print(f"\n{ranks} ranks, {suffix}: peak of {FEW} tensors {few / 1e6:.1f} MB, of {MANY} {many / 1e6:.1f} MB")
        # Inputs and output of the larger model are 1728 tensors more. Freed memory that the allocator keeps varies.
        self.assertLess(many, few + 80 * TENSOR)

    def test_does_not_grow_with_the_number_of_tensors(self):
        self.check(".safetensors", 1)

    def test_does_not_grow_with_the_number_of_tensors_in_hdf5(self):
        self.check(".h5", 2)

    def test_many_tiny_matrices(self):
        """Records of 100,000 matrices are more than their entries: counted, or refused."""
        rng = np.random.default_rng(10)
        for side in ("base", "aligned"):
            tensor = checkpoint.Tensor.of("BF16", rng.standard_normal((100_000, 1, 1)))
            (self.directory / f"{side}.safetensors").write_bytes(checkpoint.encode({"w": tensor}))
        arguments = ("harden", "--quiet", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output",
                     "out.safetensors", "--include", "w", "--memory")
        said = self.lox(*arguments, "300MiB", code=3).err
        for words in ("'w'", "100000 matrices", "--exclude", "--memory"):
            self.assertIn(words, said)
        allowed = 600 << 20
        self.assertLess(peak_memory(*arguments, allowed, directory=self.directory), allowed)

    def test_many_triplets_on_many_threads(self):
        """Sums of all threads for all k columns at once would be more than everything else."""
        pair = reference.random_pair(np.random.default_rng(9), (900, 12000))
        for side, tensor in zip(("base", "aligned"), pair):
            (self.directory / f"{side}.safetensors").write_bytes(checkpoint.encode({"w": tensor}))
        arguments = ("--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output", "out.safetensors", "--k", 200,
                     "--svd", "krylov", "--tolerance", 0.1)
        used = {}
        for threads in (1, 4):
            with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": "1"}):
                used[threads] = peak_memory("harden", "--quiet", "--overwrite", *arguments, directory=self.directory)
        print(f"\n{used[1] / 1e6:.0f} MB on one thread, {used[4] / 1e6:.0f} MB on four")
        self.assertLess(used[4], used[1] + 2 * 4 * 200 * 12000)  # half of the sums for all columns

    def test_report_tells_what_the_kernel_counted(self):
        base, aligned = self.models / f"base-{FEW}.safetensors", self.models / f"aligned-{FEW}.safetensors"
        measured = peak_memory("harden", "--quiet", "--base", base, "--aligned", aligned, "--output", "out.safetensors",
                               "--exclude", "copied", "--k", 1, directory=self.directory)
        told = self.peak(FEW, ".safetensors", 1)
        self.assertLess(abs(told / measured - 1), 0.3, f"{told} told, {measured} measured")

    def test_report_counts_no_pages_of_the_starter(self):
        alone = self.peak(FEW, ".safetensors", 1)
        ballast = np.ones(1 << 25)  # 268 MB in this process
        self.assertLess(self.peak(FEW, ".h5", 0), alone + ballast.nbytes / 2)


class AdapterMemory(LoxTest):
    """Rows of an adapter need what docs/architecture.md says, however large the matrix is."""

    ROWS, COLS, R = 12288, 16384, 16  # 384 MiB in BF16, more than are read at once

    def put_pair(self, count):
        """A base of zeros, most of it a hole in its file, and factors for each of its matrices."""
        names = [f"layers.{i}.weight" for i in range(count)]
        size = 2 * self.ROWS * self.COLS
        header = {name: {"dtype": "BF16", "shape": [self.ROWS, self.COLS], "data_offsets": [i * size, (i + 1) * size]}
                  for i, name in enumerate(names)}
        text = json.dumps(header).encode()
        with (self.directory / "base.safetensors").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            file.truncate(8 + len(text) + count * size)
        rng = np.random.default_rng(1)
        tensors = {}
        for name in names:
            module = "base_model.model." + name.removesuffix(".weight")
            for word, shape in (("A", (self.R, self.COLS)), ("B", (self.ROWS, self.R))):
                tensors[f"{module}.lora_{word}.weight"] = checkpoint.Tensor.of("F32", rng.standard_normal(shape))
        folder = self.directory / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": self.R, "lora_alpha": 2}))
        (folder / "adapter_model.safetensors").write_bytes(checkpoint.encode(tensors))

    def test_one_matrix(self):
        self.put_pair(1)
        k = 6
        sides = self.ROWS + self.COLS
        formula = (256 << 20) + 64 * sides * self.R + 12 * sides * k + (24 << 20)
        program = 128 << 20
        words = ("--base", "base.safetensors", "--aligned", "adapter", "--output", "out.safetensors", "--k", k)
        planned = json.loads(self.lox("plan", *words, "--json").out)["per_rank"][0]["memory"]
        self.assertLess(abs(planned - formula - program), 1 << 20)
        peak = peak_memory("harden", "--quiet", *words, "--memory", planned, directory=self.directory)
        print(f"\n{peak / 1e6:.0f} MB, {planned / 1e6:.0f} MB planned")
        self.assertLess(peak, planned)
        self.assertGreater(peak, 256 << 20)  # the rows were in memory, so the bound is of something
        self.assertIn("--memory", self.lox("harden", *words, "--overwrite", "--memory", formula, code=3).err)


if __name__ == "__main__":
    unittest.main()
