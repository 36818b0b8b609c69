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

    def said(self, *options):
        """Its summary."""
        return self.lox("verify", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--hardened",
                        "out.safetensors", *options, *(() if "--sample" in options else ("--sample", 0))).err

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

    def test_fails_on_noise_everywhere(self):
        """Of fifty times the weights, in every matrix, also where s_k is nearly s_k+1."""
        rng = np.random.default_rng(1)
        path = self.directory / "out.safetensors"
        tensors = checkpoint.read(path)
        names = [name for name, tensor in tensors.items() if len(tensor.shape) > 1]
        for name in names:
            tensors[name] = Tensor.of(tensors[name].dtype, rng.standard_normal(tensors[name].shape))
        path.write_bytes(checkpoint.encode(tensors))
        said = self.verify(code=NOT_CERTIFIED)
        for name in names:
            self.assertIn(f"'{name}'", said)

    def test_says_what_it_did(self):
        said = self.said("--k", "6")
        for text in ("9 of 9 edited matrices", "1 with a multiple of Delta", "2 copied tensors"):
            self.assertIn(text, said)
        self.assertIn("7 edited matrices were not looked at", self.said("--sample", "2"))

    def test_fails_on_swapped_tensors(self):
        path = self.directory / "out.safetensors"
        tensors = checkpoint.read(path)
        experts = tensors["experts.weight"].stored[[1, 0, 2]]
        tensors["experts.weight"] = Tensor("BF16", experts)
        path.write_bytes(checkpoint.encode(tensors))
        self.fails_on("experts.weight")


class Cheats(LoxTest):
    """Results that no run of harden made, right and wrong, against a numpy SVD in double."""

    def pair(self, delta, dtype="BF16", weights=0.02, seed=3):
        """Writes a base (F32, so that the delta is what it is) and an aligned model of one matrix."""
        rng = np.random.default_rng(seed)
        self.aligned = Tensor.of(dtype, weights * rng.standard_normal(delta.shape))
        base_dtype = "F64" if dtype == "F64" else "F32"
        base = Tensor.of(base_dtype, self.aligned.values.astype(np.float64) - delta)
        self.delta = reference.delta(self.aligned, base).astype(np.float64)
        self.write("base", base)
        self.write("aligned", self.aligned)

    def write(self, name, tensor):
        (self.directory / f"{name}.safetensors").write_bytes(checkpoint.encode({"w": tensor}))

    def verdict(self, values, *options, right):
        """Verifies a result of these values, each rounded once."""
        result = values if isinstance(values, Tensor) else Tensor.of(self.aligned.dtype, values)
        self.write("out", result)
        said = self.lox("verify", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--hardened",
                        "out.safetensors", *options, code=0 if right else NOT_CERTIFIED)
        if not right:
            self.assertRegex(said.out, r"^tensor 'w' matrix 0: .+\n$")
        return said.err

    def edited(self, edit):
        return self.aligned.values.astype(np.float64) + 1.25 * edit

    def test_where_delta_is_zero(self):
        """Six of twelve equal triplets in the first fifth of the rows: any six are right, and nothing else may be
        in the other rows."""
        rng = np.random.default_rng(4)
        u = np.linalg.qr(rng.standard_normal((24, 12)))[0]
        v = np.linalg.qr(rng.standard_normal((100, 12)))[0]
        delta = np.zeros((120, 100))
        delta[:24] = 0.05 * u @ v.T
        self.pair(delta)
        for seed in range(3):
            q = np.linalg.qr(np.random.default_rng(seed).standard_normal((12, 6)))[0]
            edit = np.zeros((120, 100))
            edit[:24] = 0.05 * (u @ q) @ (v @ q).T
            self.assertIn("1 with equal singular values at k", self.verdict(self.edited(edit), right=True))
        overwritten = self.edited(edit)
        overwritten[24:] = 0.02 * rng.standard_normal((96, 100))
        self.verdict(overwritten, right=False)
        self.verdict(self.edited(edit) + rng.standard_normal(delta.shape), right=False)
        edit[:24] = 0.05 * np.outer(u @ q[:, 0], v @ q[:, 0])
        self.verdict(self.edited(edit), right=False)  # rank 1

    def test_a_scaled_permutation(self):
        """All 128 singular values are equal."""
        rng = np.random.default_rng(5)
        delta = np.zeros((128, 128))
        delta[np.arange(128), rng.permutation(128)] = 0.01
        self.pair(delta)
        q = np.linalg.qr(rng.standard_normal((128, 40)))[0]
        self.verdict(self.edited(q @ (q.T @ delta)), "--k", "40", right=True)
        rows = np.where(np.arange(128)[:, np.newaxis] < 40, delta, 0)
        self.verdict(self.edited(rows), "--k", "40", right=True)
        self.verdict(self.edited(delta), "--k", "40", right=False)
        self.verdict(self.aligned, "--k", "40", right=False)
        made = self.harden("--k", "40", base="base.safetensors", aligned="aligned.safetensors",
                           output="made.safetensors")
        self.assertEqual(made["totals"]["edited"], 1)
        self.verdict(checkpoint.read(self.directory / "made.safetensors")["w"], "--k", "40", right=True)

    def test_single_units_at_full_rank(self):
        for dtype in ("BF16", "F16", "F32", "F64"):
            with self.subTest(dtype=dtype):
                self.pair(np.zeros((60, 50)), dtype)
                unit = reference.ulp(dtype, self.aligned.values)
                base = Tensor.of(dtype, self.aligned.values - unit.astype(self.aligned.values.dtype))
                self.write("base", base)
                edit = reference.delta(self.aligned, base).astype(np.float64)
                self.verdict(reference.harden(self.aligned, edit.astype(np.float32), 1.25), "--k", "0", right=True)
                self.verdict(self.aligned, "--k", "0", right=False)

    def test_an_outlier(self):
        """One entry of ten million times the others' size: what is beside it must be right too."""
        rng = np.random.default_rng(6)
        for dtype in ("BF16", "F32"):
            for change in (lambda delta: delta.__setitem__((7, 9), 4e5), lambda delta: delta.__setitem__(7, 4e4)):
                delta = reference.random_matrix(rng, (96, 80), "power", 5e-4)
                change(delta)
                self.pair(delta, dtype)
                svd = reference.Svd(self.delta, np.float64)
                edit = [(svd.u[:, :k] * svd.sigma[:k]) @ svd.vt[:k] for k in range(7)]
                self.assertGreater(svd.sigma[0], 3e6 * svd.sigma[1])
                self.verdict(self.edited(edit[6]), right=True)
                self.verdict(self.edited(edit[1]), right=False)

    def test_subnormal_weights(self):
        delta = reference.random_matrix(np.random.default_rng(7), (80, 90), "power", 1e-39)
        self.pair(delta, "F32", 1e-38)
        edit = [reference.Svd(self.delta, np.float64).truncated(k) for k in (6, 5)]
        self.verdict(self.edited(edit[0]), right=True)
        self.verdict(self.edited(edit[1]), right=False)
        self.verdict(self.aligned, right=False)


class Files(LoxTest):
    """The other files of a model."""

    FILES = {"config.json": b"{}", "tokenizer.json": b"[1, 2, 3]" * 1000, "notes/a.txt": b"a", "empty": b"",
             "pytorch_model.bin": b"weights"}

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(8)
        base, aligned = reference.random_pair(rng, (64, 80))
        for name, tensor, files in (("base", base, {}), ("aligned", aligned, self.FILES)):
            checkpoint.write_directory(self.directory / name, {"model.safetensors": {"w": tensor}}, files=files)
        self.harden()

    def verify(self, code=0, hardened="out", ranks=0):
        return self.lox("verify", "--base", "base", "--aligned", "aligned", "--hardened", hardened, code=code,
                        ranks=ranks)

    def test_are_compared(self):
        self.assertIn("5 other files of the model, byte by byte", self.verify().err)  # the index among them
        self.harden(output="out.h5")
        self.assertIn("5 other files", self.verify(hardened="out.h5", ranks=2).err)

    def test_have_no_place_in_one_file(self):
        self.harden(output="out.safetensors")
        self.assertIn("5 other files of the aligned model have no place", self.verify(hardened="out.safetensors").err)

    def test_a_missing_one(self):
        for name in ("tokenizer.json", "notes/a.txt", "empty"):
            with self.subTest(file=name):
                path = self.directory / "out" / name
                content = path.read_bytes()
                path.unlink()
                self.assertEqual(self.verify(NOT_CERTIFIED).out, f"file '{name}': is missing\n")
                path.write_bytes(content)
        self.verify()

    def test_a_different_one(self):
        path = self.directory / "out/config.json"
        for content, byte in ((b"{} ", 2), (b"{", 1), (b"[]", 0), (b"", 0)):
            with self.subTest(content=content):
                path.write_bytes(content)
                self.assertEqual(self.verify(NOT_CERTIFIED, ranks=2).out,
                                 f"file 'config.json': byte {byte} is not that of the aligned model\n")

    def test_file_of_nobody(self):
        (self.directory / "out/modeling_more.py").write_bytes(b"import os")
        self.assertIn("file 'modeling_more.py': is not in the aligned model", self.verify(NOT_CERTIFIED).out)

    def test_weights_that_are_not_hardened(self):
        (self.directory / "out/pytorch_model.bin").write_bytes(b"weights")
        self.assertIn("file 'pytorch_model.bin': holds weights", self.verify(NOT_CERTIFIED).out)


if __name__ == "__main__":
    unittest.main()
