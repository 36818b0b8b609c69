# SPDX-License-Identifier: MIT
"""Models whose tensors lie in parts over the ranks' files (DCP_SHARDING_INFO): all that is made of them has the bytes
of what is made of the same model in ordinary shards."""
import json
import shutil
import tempfile
import unittest
from pathlib import Path

import numpy as np

import checkpoint
import reference
import sharded
from bad_input import SHARDS
from checkpoint import Tensor
from fp8 import Fp8, config
from program import LoxTest, peak_memory

SHAPES = {"model.embed_tokens.weight": (97, 40), "layers.0.q.weight": (64, 48), "layers.0.down.weight": (40, 64),
          "layers.0.experts.weight": (5, 20, 24), "layers.1.q.weight": (64, 48), "layers.1.tiny.weight": (2, 5)}
# Beside dimension 0: columns, a grid of both, matrices of a batch, a batch along all three, not at all.
CUTS = {"layers.0.down.weight": {1: 3}, "layers.0.q.weight": {0: 2, 1: 2}, "layers.0.experts.weight": {0: 2, 2: 3},
        "layers.1.q.weight": {}}
OTHERS = {"config.json": b'{"vocab_size": 97}', "tokenizer.json": b"[]", "code/model.py": b"pass"}
SKIP = ("--exclude", "tiny")


def make_pair(seed=11):
    """{side: tensors}"""
    rng = np.random.default_rng(seed)
    pairs = {name: reference.random_pair(rng, shape) for name, shape in SHAPES.items()}
    sides = {side: {name: pair[i] for name, pair in pairs.items()} for i, side in enumerate(("base", "aligned"))}
    for tensors in sides.values():
        tensors["norm.weight"] = Tensor.of("BF16", rng.standard_normal(41).astype(np.float32))
        tensors["scalar"] = Tensor("F32", np.float32(3))
        tensors["position_ids"] = Tensor("I64", np.arange(7))
        tensors["empty"] = Tensor("F32", np.zeros((0, 3)))
    return sides


def write_plain(path, tensors, others=None):
    names = list(tensors)
    shards = {shard: {name: tensors[name] for name in names[i::2]} for i, shard in enumerate(SHARDS)}
    checkpoint.write_directory(path, shards, files=others or OTHERS)


class Sharded(LoxTest):
    """Four models: base and aligned, plain and in parts of three ranks."""

    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        cls.sides = make_pair()
        for side, tensors in cls.sides.items():
            write_plain(cls.models / f"plain-{side}", tensors)
            sharded.write(cls.models / f"parts-{side}", tensors, 3, CUTS, others=OTHERS)

    def pair(self, base="parts", aligned="parts"):
        return {"base": self.models / f"{base}-base", "aligned": self.models / f"{aligned}-aligned"}

    def assert_equal(self, output, tensors):
        found = checkpoint.read(self.directory / output)
        self.assertEqual(sorted(found), sorted(tensors))
        self.assertEqual([name for name in tensors if found[name] != tensors[name]], [])

    def assert_holds(self, output, tensors):
        """These tensors, in files that say nothing of parts."""
        self.assert_equal(output, tensors)
        for path in (self.directory / output).glob("*.safetensors"):
            self.assertEqual(checkpoint.decode(path.read_bytes())[1], {"format": "pt"}, path)

    def others_of(self, output):
        return {path.relative_to(self.directory / output).as_posix(): path.read_bytes()
                for path in (self.directory / output).rglob("*") if path.is_file() and path.suffix != ".safetensors"}


class Reading(Sharded):
    def test_converted_from_any_cuts(self):
        """Torch's own chunks, and uneven ones along any dimensions, of 1 to 7 ranks with one or more files each."""
        rng = np.random.default_rng(3)
        tensors = {f"{dtype}.{i}": sharded.random_values(rng, dtype, rng.integers(1, 12, i % 5))
                   for dtype in ("BF16", "F32", "F64", "U8", "F8_E4M3") for i in range(10)}
        uneven = {name: sharded.random_cuts(rng, tensor.shape) for name, tensor in tensors.items()}
        for ranks, cuts, files_each in ((1, {}, 1), (2, {}, 1), (3, {}, 2), (7, {}, 1), (4, uneven, 1), (5, uneven, 3)):
            with self.subTest(ranks=ranks, uneven=bool(cuts), files_each=files_each):
                source, output = f"in-{ranks}", f"out-{ranks}"
                sharded.write(self.directory / source, tensors, ranks, cuts, files_each, others=OTHERS)
                self.lox("convert", source, output, ranks=min(ranks, 3))
                self.assert_holds(output, tensors)
                self.assertEqual(self.others_of(output), OTHERS)

    def test_to_hdf5_and_back(self):
        self.lox("convert", self.models / "parts-aligned", "model.h5", ranks=2)
        self.lox("convert", "model.h5", "out")
        self.assert_holds("out", self.sides["aligned"])
        self.lox("convert", self.models / "parts-aligned", "one.safetensors")
        tensors, metadata = checkpoint.decode((self.directory / "one.safetensors").read_bytes())
        self.assertEqual((tensors, metadata), (self.sides["aligned"], {"format": "pt"}))
        self.lox("convert", self.models / "parts-aligned", "out")  # is that already: compared byte by byte

    def test_inspected_like_any_model(self):
        told = [json.loads(self.lox("inspect", self.models / f"{form}-aligned", "--json").out)
                for form in ("plain", "parts")]
        plain, parts = ({tensor["name"]: tensor for tensor in each["tensors"]} for each in told)
        self.assertEqual(plain, parts)

    def test_many_small_tensors_of_experts(self):
        """Each expert on one rank (expert parallel), or cut into rows that most ranks have none of."""
        rng = np.random.default_rng(8)
        tensors = {f"layers.{i // 100}.experts.{i % 100}.{part}.weight": sharded.random_values(rng, "BF16", (3, 8))
                   for i in range(300) for part in ("gate", "up")}
        cuts = {name: {} for name in tensors if ".gate." in name}
        sharded.write(self.directory / "in", tensors, 8, cuts)
        self.lox("convert", "in", "out", ranks=3)
        self.assert_holds("out", tensors)

    def test_whole_tensors_with_an_index(self):
        """What rank 0 alone has saved is whole, and has an index; one file by itself is a model then."""
        tensors = self.sides["aligned"]
        shards = {shard: dict(list(tensors.items())[i::2]) for i, shard in enumerate(SHARDS)}
        checkpoint.write_directory(self.directory / "in", shards)
        for shard, held in shards.items():
            whole = {name: ([0] * len(tensor.shape), tensor) for name, tensor in held.items()}
            (self.directory / "in" / shard).write_bytes(sharded.encode(whole))
        self.lox("convert", "in", "out")
        self.assert_holds("out", tensors)
        self.assertEqual(self.others_of("out"), {})  # one shard needs no index
        self.lox("convert", f"in/{SHARDS[0]}", "half")
        self.assert_holds("half", shards[SHARDS[0]])

    def test_files_that_automodel_keeps_aside(self):
        """config.json and tokenizer come from .hf_metadata, where nothing stands in their places."""
        others = {".hf_metadata/config.json": b'{"vocab_size": 97}', ".hf_metadata/tokenizer.json": b"[1]",
                  ".hf_metadata/fqn_to_file_index_mapping.json": b"{}", "tokenizer.json": b"[2]"}
        sharded.write(self.directory / "in", self.sides["aligned"], 2, others=others)
        self.lox("convert", "in", "out")
        self.assertEqual(self.others_of("out"), {"config.json": b'{"vocab_size": 97}', "tokenizer.json": b"[2]",
                                                 ".hf_metadata/tokenizer.json": b"[1]"})

    def test_no_tensor_is_held(self):
        """A tensor of 128 MiB is copied in the same memory, however it is cut."""
        rng = np.random.default_rng(5)
        tensors = {"w": Tensor("U16", rng.integers(0, 1 << 16, (8192, 8192), np.uint16))}
        (self.directory / "whole.safetensors").write_bytes(checkpoint.encode(tensors))
        peaks = {"whole": peak_memory("convert", "whole.safetensors", "out-whole", directory=self.directory)}
        for name, cuts in (("rows", {0: 3}), ("columns", {1: 5}), ("grid", {0: 3, 1: 4})):
            sharded.write(self.directory / name, tensors, 15, {"w": cuts})
            peaks[name] = peak_memory("convert", name, f"out-{name}", directory=self.directory)
            self.assertEqual(checkpoint.read(self.directory / f"out-{name}")["w"], tensors["w"], name)
        print("\npeaks:", {name: f"{peak / 1e6:.1f} MB" for name, peak in peaks.items()})
        for name, peak in peaks.items():
            self.assertLess(peak, peaks["whole"] + (8 << 20), name)


class Working(Sharded):
    def test_hardened_on_either_side(self):
        self.harden("--k", 4, *SKIP, output="expected", **self.pair("plain", "plain"))
        expected = checkpoint.read(self.directory / "expected")
        for base, aligned in (("parts", "plain"), ("plain", "parts"), ("parts", "parts")):
            for ranks in (0, 2, 3):
                with self.subTest(base=base, aligned=aligned, ranks=ranks):
                    output = f"{base}-{aligned}-{ranks}"
                    self.harden("--k", 4, *SKIP, output=output, ranks=ranks, **self.pair(base, aligned))
                    self.assert_equal(output, expected)
        self.assert_holds("parts-parts-3", expected)
        self.assertIn("verified", self.lox("verify", "--report", "parts-parts-3.report.json", ranks=2).err)
        path = self.directory / "parts-parts-3" / "model.safetensors"
        raw = bytearray(path.read_bytes())
        raw[-10] ^= 1  # of the last BF16 tensor, norm or a tiny one: copied
        path.write_bytes(raw)
        self.lox("verify", "--report", "parts-parts-3.report.json", code=4)

    def test_on_a_grid(self):
        for form in ("plain", "parts"):
            self.harden("--k", 4, "--grid", "always", *SKIP, output=form, ranks=3, **self.pair(form, form))
        self.assert_holds("parts", checkpoint.read(self.directory / "plain"))

    def test_factored_applied_and_verified(self):
        for form, aligned in (("plain", "parts"), ("parts", "plain")):  # a store knows its model whatever its form
            pair = self.pair(form, form)
            self.lox("factor", "--base", pair["base"], "--aligned", pair["aligned"], "--k", 4, *SKIP, "--output",
                     f"store-{form}", ranks=2)
            self.lox("apply", "--aligned", self.models / f"{aligned}-aligned", "--factors", f"store-{form}", "--output",
                     f"out-{form}", ranks=2)
            self.lox("apply", "--base", self.models / f"{aligned}-base", "--factors", f"store-{form}", "--coef", 1,
                     "--output", f"onto-{form}")
            self.lox("verify", "--report", f"out-{form}.report.json")
        for what in ("store", "out", "onto"):
            self.assert_equal(f"{what}-parts", checkpoint.read(self.directory / f"{what}-plain"))

    def test_analysed_and_planned(self):
        pair = {form: self.pair(form, form) for form in ("plain", "parts")}
        analyses, plans = [], []
        for form in ("plain", "parts"):
            words = ("--base", pair[form]["base"], "--aligned", pair[form]["aligned"], "--k", "1,4")
            self.lox("analyze", *words, "--tuned", pair[form]["base"], *SKIP, "--output", f"{form}.json", ranks=2)
            told = json.loads((self.directory / f"{form}.json").read_text())
            analyses.append(sorted((tensor["name"], tensor["sigma"], tensor["delta_norm"], tensor["r_align"])
                                   for tensor in told["tensors"]))
            plan = json.loads(self.lox("plan", *words[:4], "--output", f"{form}-out", *SKIP, "--json").out)
            plans.append({key: plan[key] for key in plan if "bytes" in key})
        self.assertEqual(*analyses)
        self.assertEqual(*plans)

    def test_an_input_that_changed_is_another_job(self):
        """A file of any rank."""
        for side in ("base", "aligned"):
            shutil.copytree(self.models / f"parts-{side}", self.directory / side)
        self.harden(*SKIP)
        path = self.directory / "aligned" / sharded.name_of(2)
        path.write_bytes(path.read_bytes())
        self.assertIn("exists", self.lox("harden", "--base", "base", "--aligned", "aligned", "--output", "out", *SKIP,
                                         code=3).err)

    def test_fp8_in_parts(self):
        """Codes cut through blocks, scales cut elsewhere."""
        rng = np.random.default_rng(6)
        shapes = {"q.weight": (300, 260), "up.weight": (2, 140, 150)}
        stored, base = {}, {}
        for name, shape in shapes.items():
            weights = 0.02 * rng.standard_normal(shape)
            base[name] = Tensor.of("BF16", weights.astype(np.float32))
            stored |= Fp8(weights + reference.random_matrix(rng, shape, "alignment", 5e-3), "block").stored(name)
        cuts = {"q.weight": {0: 3, 1: 2}, "q.weight_scale_inv": {1: 3}, "up.weight": {1: 4}}
        others = {"config.json": config()}
        write_plain(self.directory / "plain", stored, others)
        sharded.write(self.directory / "parts", stored, 6, cuts, others=others)
        sharded.write(self.directory / "base", base, 2)
        for form in ("plain", "parts"):
            self.harden("--k", 3, aligned=form, output=f"out-{form}", ranks=2)
        expected = checkpoint.read(self.directory / "out-plain")
        self.assertEqual({tensor.dtype for tensor in expected.values()}, {"BF16"})
        self.assert_holds("out-parts", expected)
        self.lox("verify", "--report", "out-parts.report.json")


if __name__ == "__main__":
    unittest.main()
