# SPDX-License-Identifier: MIT
"""`lox verify` passes what is right and fails what is wrong."""
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest, run

NOT_CERTIFIED = 4


class Verify(LoxTest):
    @classmethod
    def setUpClass(cls):
        """A pair, and what harden makes of it."""
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        rng = np.random.default_rng(9)
        pairs = {
            "a.weight": reference.random_pair(rng, (256, 192)),
            "b.weight": reference.random_pair(rng, (150, 320), "power"),
            "noise.weight": reference.random_pair(rng, (144, 144), "noise"),
            "experts.weight": reference.random_pair(rng, (3, 96, 80)),
            "half.weight": reference.random_pair(rng, (80, 72), dtype="F16"),
            "single.weight": reference.random_pair(rng, (72, 80), dtype="F32"),
            "small.weight": reference.random_pair(rng, (4, 60)),
            "norm.weight": reference.random_pair(rng, (300,)),
            "ids": (Tensor("I32", np.arange(1000)),) * 2,
        }
        for side, name in enumerate(("base", "aligned")):
            (cls.models / f"{name}.safetensors").write_bytes(
                checkpoint.encode({name: pair[side] for name, pair in pairs.items()}))
        made = run("harden", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output",
                   "out.safetensors", directory=cls.models)
        assert made.code == 0, made.err

    def setUp(self):
        super().setUp()
        for path in self.models.glob("*.safetensors"):
            shutil.copy(path, self.directory)

    def make(self, *options, output, **more):
        self.harden(*options, base="base.safetensors", aligned="aligned.safetensors", output=output, **more)

    def verify(self, *options, code=0, hardened="out.safetensors", ranks=0):
        return self.lox("verify", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--hardened",
                        hardened, "--sample", 0, *options, code=code, ranks=ranks).out

    def spoil(self, name, change):
        """Rewrites one tensor of the output after change(stored elements)."""
        path = self.directory / "out.safetensors"
        tensors = checkpoint.read(path)
        stored = tensors[name].stored.copy()
        change(stored)
        tensors[name] = Tensor(tensors[name].dtype, stored)
        path.write_bytes(checkpoint.encode(tensors))

    def fails_on(self, name, *options, ranks=0):
        self.assertIn(name, self.verify(*options, code=NOT_CERTIFIED, ranks=ranks))

    def test_passes_what_harden_made(self):
        self.verify()
        for i, options in enumerate((("--k", "1"), ("--k", "100"), ("--k", "0", "--coef", "4"),
                                     ("--k", "2", "--include", "a|b", "--exclude", "^exp", "--coef", "0.05"))):
            with self.subTest(options=options):
                self.make(*options, output=f"out-{i}.safetensors")
                self.verify(*options, hardened=f"out-{i}.safetensors")

    def test_passes_hdf5_and_ranks(self):
        self.make(output="out.h5", ranks=2)
        self.verify(hardened="out.h5", ranks=2)

    def test_passes_the_exact_method(self):
        self.make("--svd", "exact", output="exact.safetensors")
        self.verify(hardened="exact.safetensors")

    def test_passes_what_numpy_made(self):
        """A result that lox had no part in."""
        base = checkpoint.read(self.directory / "base.safetensors")
        hardened = {}
        for name, aligned in checkpoint.read(self.directory / "aligned.safetensors").items():
            hardened[name] = aligned
            if len(aligned.shape) > 1:
                low_rank = reference.Svd(reference.delta(aligned, base[name])).truncated(6)
                hardened[name] = reference.harden(aligned, low_rank, 1.25)
        (self.directory / "out.safetensors").write_bytes(checkpoint.encode(hardened))
        self.verify()

    def test_fails_on_an_unhardened_model(self):
        shutil.copy(self.directory / "aligned.safetensors", self.directory / "out.safetensors")
        self.fails_on("a.weight")

    def test_fails_on_the_base_model(self):
        shutil.copy(self.directory / "base.safetensors", self.directory / "out.safetensors")
        self.fails_on("norm.weight")

    def test_fails_on_another_rank(self):
        for k in ("5", "7"):
            self.fails_on("b.weight", "--k", k)

    def test_fails_on_another_coefficient(self):
        for coef in ("1.2", "1.3"):
            self.fails_on("a.weight", "--coef", coef)

    def test_fails_on_a_flipped_bit_of_a_copied_tensor(self):
        def flip(stored):
            stored[777] ^= 1 << 3
        self.spoil("ids", flip)
        self.fails_on("ids")
        self.fails_on("ids", ranks=2)

    def test_fails_on_a_flipped_bit_of_a_vector(self):
        def flip(stored):
            stored[299] ^= 1
        self.spoil("norm.weight", flip)
        self.fails_on("norm.weight")

    def test_fails_on_a_corrupt_row(self):
        def zero(stored):
            stored[17] = 0
        self.spoil("a.weight", zero)
        self.fails_on("a.weight")

    def test_fails_on_a_corrupt_row_of_one_expert(self):
        def swap(stored):
            stored[2, [3, 4]] = stored[2, [4, 3]]
        self.spoil("experts.weight", swap)
        self.fails_on("experts.weight", ranks=2)

    def test_fails_on_one_wrong_entry(self):
        def enlarge(stored):
            stored[100, 100] += 0x80  # twice the value
        for name in ("b.weight", "noise.weight"):
            self.spoil(name, enlarge)
            self.fails_on(name)

    def test_fails_on_nan(self):
        def spoil(stored):
            stored[5, 5] = 0x7FC0
        self.spoil("a.weight", spoil)
        self.fails_on("a.weight")

    def test_fails_on_swapped_tensors(self):
        path = self.directory / "out.safetensors"
        tensors = checkpoint.read(path)
        experts = tensors["experts.weight"].stored[[1, 0, 2]]
        tensors["experts.weight"] = Tensor("BF16", experts)
        path.write_bytes(checkpoint.encode(tensors))
        self.fails_on("experts.weight")


if __name__ == "__main__":
    unittest.main()
