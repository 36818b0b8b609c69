# SPDX-License-Identifier: MIT
"""The same bytes for any number of ranks and either format, and nothing of a model lost on the way."""
import json
import os
import resource
import shutil
import tempfile
import unittest
from pathlib import Path

import h5py
import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from program import LoxTest, run

FILES = {
    "config.json": b'{"model_type": "llama"}\n',
    "tokenizer.model": bytes(range(256)),
    "empty.txt": b"",
    "additional_chat_templates/tool.jinja": b"{{ messages }}",
    "a/b/c.json": b"{}",
}


def make_pair(seed=1):
    """Tensors of every kind that a model may hold, in two shards: (base shards, aligned shards)."""
    rng = np.random.default_rng(seed)
    base = {"model-00001-of-00002.safetensors": {}, "model-00002-of-00002.safetensors": {}}
    aligned = {shard: {} for shard in base}

    def add(shard, name, pair):
        shard = list(base)[shard]
        base[shard][name], aligned[shard][name] = pair

    for layer in range(2):
        for name, shape in (("q", (160, 192)), ("up", (288, 160)), ("down", (160, 288))):
            add(layer % 2, f"layers.{layer}.{name}.weight", reference.random_pair(rng, shape))
        add(layer % 2, f"layers.{layer}.norm.weight", reference.random_pair(rng, (160,)))
    add(1, "experts.weight", reference.random_pair(rng, (3, 96, 128)))
    add(1, "half.weight", reference.random_pair(rng, (64, 48), dtype="F16"))
    add(1, "single.weight", reference.random_pair(rng, (48, 64), dtype="F32"))
    add(0, "double.weight", reference.random_pair(rng, (40, 40), dtype="F64", base_dtype="F32"))
    add(0, "position_ids", (Tensor("I64", np.arange(12).reshape(3, 4)),) * 2)
    add(0, "mask", (Tensor("BOOL", rng.random((5, 7)) > 0.5),) * 2)
    add(1, "scale", (Tensor("F32", np.float32(3)),) * 2)
    add(1, "empty.weight", (Tensor("BF16", np.zeros((0, 8))),) * 2)
    add(0, "name/with/slashes.weight", reference.random_pair(rng, (24, 16)))
    add(0, "na\u00efve.weight", reference.random_pair(rng, (16, 24)))
    return base, aligned


class ModelTest(LoxTest):
    """A pair as directories, the aligned model in two shards with an index, the base in one file; the hardened one."""

    @classmethod
    def setUpClass(cls):
        cls.models = Path(tempfile.mkdtemp(prefix="lox-test-"))
        cls.addClassCleanup(shutil.rmtree, cls.models, ignore_errors=True)
        base, aligned = make_pair()
        everything = {name: tensor for shard in base.values() for name, tensor in shard.items()}
        checkpoint.write_directory(cls.models / "base", {"model.safetensors": dict(sorted(everything.items()))},
                                   index=False, metadata={"format": "pt"})
        checkpoint.write_directory(cls.models / "aligned", aligned, files=FILES,
                                   metadata={"format": "pt", "note": "caf\u00e9"})
        made = run("harden", "--base", "base", "--aligned", "aligned", "--output", "hardened", directory=cls.models)
        assert made.code == 0, made.err
        cls.aligned = {name: tensor for shard in aligned.values() for name, tensor in shard.items()}
        cls.hardened = checkpoint.read(cls.models / "hardened")

    def setUp(self):
        super().setUp()
        for name in ("base", "aligned", "hardened"):
            shutil.copytree(self.models / name, self.directory / name)

    def tree(self, name):
        return checkpoint.tree(self.directory / name)

    def assert_hardened(self, path):
        """The tensors at a path are those of the hardened model, wherever they are stored."""
        found = checkpoint.read(self.directory / path)
        self.assertEqual(set(found), set(self.hardened))
        for name, tensor in self.hardened.items():
            self.assertEqual(found[name], tensor, name)


class Ranks(ModelTest):
    def test_same_directory_for_1_to_4_ranks(self):
        for ranks in (1, 2, 3, 4):
            report = self.harden(output=f"out-{ranks}", ranks=ranks)
            self.assertEqual(report["totals"]["ranks"], ranks)
            self.assertTrue(self.tree(f"out-{ranks}") == self.tree("hardened"), f"{ranks} ranks")

    def test_same_file_for_1_to_4_ranks(self):
        for suffix in (".h5", ".safetensors"):
            self.harden(output=f"out{suffix}")
            expected = (self.directory / f"out{suffix}").read_bytes()
            for ranks in (2, 3, 4):
                self.harden(output=f"out-{ranks}{suffix}", ranks=ranks)
                self.assertTrue((self.directory / f"out-{ranks}{suffix}").read_bytes() == expected, f"{ranks} ranks")

    def test_same_bytes_from_either_format(self):
        self.lox("convert", "base", "base.h5")
        self.lox("convert", "aligned", "aligned.h5", ranks=2)
        self.harden(base="base.h5", aligned="aligned.h5", output="hardened.h5", ranks=2)
        self.lox("convert", "hardened.h5", "back")
        self.assertTrue(self.tree("back") == self.tree("hardened"), "the HDF5 way gives other bytes")
        self.harden(base="base.h5", output="mixed")
        self.assertTrue(self.tree("mixed") == self.tree("hardened"), "mixed formats give other bytes")

    def test_equal_matrices_get_equal_edits(self):
        """Tied embeddings that are stored twice stay tied."""
        for side, tensor in zip(("base", "aligned"), reference.random_pair(np.random.default_rng(3), (300, 200))):
            (self.directory / f"tied-{side}.safetensors").write_bytes(checkpoint.encode({"a": tensor, "b": tensor}))
        self.harden(base="tied-base.safetensors", aligned="tied-aligned.safetensors", output="tied.safetensors",
                    ranks=2)
        hardened = checkpoint.read(self.directory / "tied.safetensors")
        self.assertEqual(hardened["a"], hardened["b"])


class Layout(ModelTest):
    def test_output_keeps_the_aligned_models_layout(self):
        aligned = self.tree("aligned")
        hardened = self.tree("hardened")
        self.assertEqual(list(hardened), list(aligned))
        for name, content in aligned.items():
            if name.endswith(".safetensors"):
                self.assertEqual(checkpoint.split(hardened[name])[0], checkpoint.split(content)[0], f"header of {name}")
                self.assertNotEqual(hardened[name], content)
            else:
                self.assertEqual(hardened[name], content, name)

    def test_order_of_the_header_and_of_the_data_may_differ(self):
        order = sorted(self.aligned, reverse=True)
        raw = checkpoint.encode(self.aligned, {"b": "2", "a": "1"}, pad_to=1, data_order=order)
        (self.directory / "odd.safetensors").write_bytes(raw)
        self.harden(aligned="odd.safetensors", output="out.safetensors")
        header = checkpoint.split((self.directory / "out.safetensors").read_bytes())[0]
        self.assertEqual(header, checkpoint.split(raw)[0])
        self.assert_hardened("out.safetensors")

    def test_one_file_from_a_directory(self):
        self.harden(output="out.safetensors", ranks=2)
        self.assert_hardened("out.safetensors")

    def test_directory_from_one_file(self):
        (self.directory / "single.safetensors").write_bytes(checkpoint.encode(self.aligned))
        self.harden(aligned="single.safetensors", output="out")
        self.assert_hardened("out")

    def test_directory_without_an_index(self):
        (self.directory / "aligned" / checkpoint.INDEX).unlink()
        self.harden(output="out")
        expected = self.tree("hardened")
        del expected[checkpoint.INDEX]
        self.assertTrue(self.tree("out") == expected)


class Convert(ModelTest):
    def round_trip(self, source, by, back, ranks=0):
        self.lox("convert", source, by, ranks=ranks)
        self.lox("convert", by, back, ranks=ranks)

    def test_directory_there_and_back(self):
        for ranks in (0, 3):
            with self.subTest(ranks=ranks):
                self.round_trip("aligned", f"by-{ranks}.h5", f"back-{ranks}", ranks)
                self.assertTrue(self.tree(f"back-{ranks}") == self.tree("aligned"))

    def test_file_there_and_back(self):
        raw = checkpoint.encode(self.aligned, {"z": "1"}, pad_to=1, data_order=sorted(self.aligned))
        (self.directory / "odd.safetensors").write_bytes(raw)
        self.round_trip("odd.safetensors", "odd.hdf5", "back.safetensors")
        self.assertTrue((self.directory / "back.safetensors").read_bytes() == raw)

    def test_plain_directory_there_and_back(self):
        (self.directory / "aligned" / checkpoint.INDEX).unlink()
        self.round_trip("aligned", "by.h5", "back")
        self.assertTrue(self.tree("back") == self.tree("aligned"))

    def test_hidden_download_files_stay_behind(self):
        (self.directory / "aligned" / ".cache").mkdir()
        (self.directory / "aligned" / ".cache" / "x.lock").write_bytes(b"x")
        (self.directory / "aligned" / ".gitattributes").write_bytes(b"x")
        self.round_trip("aligned", "by.h5", "back")
        self.assertEqual([name for name in self.tree("back") if name.startswith(".")], [])


class Hdf5(ModelTest):
    def test_h5py_reads_the_output(self):
        self.harden(output="out.h5", ranks=2)
        with h5py.File(self.directory / "out.h5") as file:
            self.assertEqual(file.attrs["lox_format"], 1)
            self.assertEqual({name: bytes(data[()]) for name, data in self.files(file).items()},
                             {**FILES, checkpoint.INDEX: (self.directory / "aligned" / checkpoint.INDEX).read_bytes()})
            names = {self.name(link, data): data for link, data in file["tensors"].items()}
            self.assertEqual(set(names), set(self.hardened))
            for name, data in names.items():
                tensor = self.hardened[name]
                self.assertEqual((data.attrs["dtype"], data.shape), (tensor.dtype, tensor.shape), name)
                if data.size:
                    self.assertIsNone(data.chunks, name)
                if tensor.dtype == "BF16":
                    self.assertEqual(data.id.get_type().get_size(), 2)
                    found = np.zeros(data.shape, np.float32)
                    if data.size:
                        data.read_direct(found)
                    self.assertTrue(np.array_equal(found, tensor.values), name)
                    self.assertTrue(np.array_equal(data.astype(np.float32)[()], tensor.values), name)
                else:
                    self.assertTrue(np.array_equal(data[()], tensor.stored), name)

    @staticmethod
    def name(link, data):
        return data.attrs.get("name", link)

    def files(self, file):
        return {self.name(link, data): data for link, data in file["files"].items()}

    def test_foreign_files(self):
        """Plain HDF5 as other programs write it: groups, chunks, gzip, big endian, numpy types."""
        rng = np.random.default_rng(4)
        pairs = {f"net/block{i}/w{j}": reference.random_pair(rng, (130 + 10 * i, 140 + 5 * j), dtype=dtype)
                 for i in range(2) for j, dtype in enumerate(("F32", "F64", "F16"))}
        pairs["bias"] = reference.random_pair(rng, (33,), dtype="F32")
        options = {
            "contiguous": {},
            "chunked": {"chunks": (37, 19), "order": ">"},
            "gzip": {"chunks": (64, 64), "compression": "gzip", "shuffle": True, "fletcher32": True},
            "big": {"order": ">"},
        }
        for side in (0, 1):
            (self.directory / f"plain-{side}.safetensors").write_bytes(
                checkpoint.encode({name.replace("/", "."): pair[side] for name, pair in pairs.items()}))
            for kind, how in options.items():
                self.write_foreign(f"{kind}-{side}.h5", {name: pair[side] for name, pair in pairs.items()}, **how)
        self.harden(base="plain-0.safetensors", aligned="plain-1.safetensors", output="expected.safetensors")
        expected = checkpoint.read(self.directory / "expected.safetensors")
        for kind in options:
            with self.subTest(kind=kind):
                self.harden(base=f"{kind}-0.h5", aligned=f"{kind}-1.h5", output=f"{kind}.safetensors",
                            ranks=2 if "gzip" in kind else 0)
                found = checkpoint.read(self.directory / f"{kind}.safetensors")
                self.assertEqual(set(found), set(expected))
                for name, tensor in expected.items():
                    self.assertEqual(found[name], tensor, name)
        self.harden(base="gzip-0.h5", aligned="big-1.h5", output="out.h5")
        with h5py.File(self.directory / "out.h5") as file:
            for name, tensor in expected.items():
                self.assertTrue(np.array_equal(file["tensors"][name][()], tensor.stored), name)

    def write_foreign(self, name, tensors, order="<", **storage):
        with h5py.File(self.directory / name, "w") as file:
            for path, tensor in tensors.items():
                kind = dict(storage)
                if tensor.stored.ndim < 2:
                    kind.pop("chunks", None)
                file.create_dataset(path, data=tensor.stored.astype(tensor.stored.dtype.newbyteorder(order)), **kind)

    def test_bf16_of_other_writers(self):
        """bf16 stored as a float type of h5py's making is a bf16 tensor."""
        base, aligned = reference.random_pair(np.random.default_rng(5), (140, 150))
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_size(2)
        kind.set_ebias(127)
        for name, tensor in (("base", base), ("aligned", aligned)):
            with h5py.File(self.directory / f"other-{name}.h5", "w") as file:
                space = h5py.h5s.create_simple(tensor.shape)
                data = h5py.h5d.create(file.id, b"w", kind, space)
                data.write(h5py.h5s.ALL, h5py.h5s.ALL, tensor.values)
            (self.directory / f"plain-{name}.safetensors").write_bytes(checkpoint.encode({"w": tensor}))
        self.harden(base="plain-base.safetensors", aligned="plain-aligned.safetensors", output="expected.safetensors")
        self.harden(base="other-base.h5", aligned="other-aligned.h5", output="found.safetensors")
        self.assertEqual(checkpoint.read(self.directory / "found.safetensors")["w"],
                         checkpoint.read(self.directory / "expected.safetensors")["w"])


class ManyFiles(LoxTest):
    SHARDS = 100

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(5)
        pairs = [reference.random_pair(rng, (16, 8)) for _ in range(self.SHARDS)]
        for i, side in enumerate(("base", "aligned")):
            checkpoint.write_directory(self.directory / side, {f"model-{n:05}-of-{self.SHARDS:05}.safetensors": {f"w{n}": pair[i]}
                                                               for n, pair in enumerate(pairs)})
        self.harden(output="expected")

    def with_limits(self, soft, hard):
        def limit():
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for words in (("harden", "--quiet", "--base", "base", "--aligned", "aligned", "--output", "out", "--overwrite"),
                      ("verify", "--quiet", "--base", "base", "--aligned", "aligned", "--hardened", "out"),
                      ("convert", "--quiet", "out", "copy")):
            self.lox(*words, preexec_fn=limit)
        for output in ("out", "copy"):
            self.assertEqual(checkpoint.tree(self.directory / output), checkpoint.tree(self.directory / "expected"))

    def test_soft_limit(self):
        """lox raises it."""
        self.with_limits(64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])

    def test_hard_limit(self):
        """Where it may not, it keeps fewer files open."""
        self.with_limits(128, 128)


class Inspect(ModelTest):
    def test_lists_what_is_there(self):
        self.lox("convert", "aligned", "aligned.h5")
        expected = {name: (tensor.dtype, list(tensor.shape), len(tensor.tobytes()))
                    for name, tensor in self.aligned.items()}
        for path in ("aligned", "aligned.h5"):
            listing = json.loads(self.lox("inspect", path, "--json").out)
            found = {t["name"]: (t["dtype"], t["shape"], t["bytes"]) for t in listing["tensors"]}
            self.assertEqual(found, expected)
            self.assertEqual(listing["bytes"], sum(size for _, _, size in expected.values()))
            text = self.lox("inspect", path).out
            for name in ("layers.0.q.weight", "na\u00efve.weight", "position_ids"):
                self.assertIn(name, text)


if __name__ == "__main__":
    unittest.main()
