# SPDX-License-Identifier: MIT
"""Models that torch.distributed.checkpoint saves, each rank its parts: lox reads them, and what torch has put together
is the same. What it does not read it answers with a command that works."""
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from client import tensors_of
from torch.distributed.checkpoint import FileSystemWriter, HuggingFaceStorageWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

LOX = os.environ["LOX"]
RANKS = 4
# Over a mesh of data and tensor parallelism, 2 x 2, as FSDP2 and parallelize_module lay them.
PLACEMENTS = {
    "model.embed_tokens.weight": ((97, 40), torch.bfloat16, (Shard(0), Replicate())),
    "layers.0.q.weight": ((63, 48), torch.bfloat16, (Shard(0), Shard(1))),
    "layers.0.o.weight": ((48, 63), torch.bfloat16, (Replicate(), Shard(1))),
    "layers.0.up.weight": ((50, 33), torch.float32, (Shard(0), Shard(0))),
    "layers.0.experts.weight": ((3, 20, 24), torch.bfloat16, (Shard(0), Shard(2))),
    "layers.0.tiny.weight": ((1, 6), torch.bfloat16, (Shard(0), Replicate())),
    "layers.0.fp8": ((32, 16), torch.float8_e4m3fn, (Shard(0), Replicate())),
    "layers.0.norm.weight": ((41,), torch.bfloat16, (Shard(0), Replicate())),
    "rotary": ((16,), torch.float32, None),
    "scalar": ((), torch.float64, None),
}


def make(seed):
    """The whole tensors."""
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=random).to(dtype) for name, (shape, dtype, _) in PLACEMENTS.items()}


def save(rank, folder):
    """One rank's share of all that is saved."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    mesh = init_device_mesh("cpu", (2, 2))
    names = list(PLACEMENTS)
    for side, seed in (("base", 1), ("aligned", 2)):
        state = {}
        for name, tensor in make(seed).items():
            places = PLACEMENTS[name][2]
            state[name] = distribute_tensor(tensor, mesh, places, src_data_rank=None) if places else tensor
        dcp.save(state, storage_writer=HuggingFaceStorageWriter(f"{folder}/{side}", save_distributed=True))
        dcp.save(state, storage_writer=HuggingFaceStorageWriter(
            f"{folder}/{side}-several", save_distributed=True,
            fqn_to_index_mapping={name: 1 + names.index(name) % 3 for name in names}))
        # FP8 needs scales, and torch 2.13 puts zeros in the place of tensors without dimensions.
        plain = {name: tensor for name, tensor in state.items() if name not in ("layers.0.fp8", "scalar")}
        dcp.save(plain, storage_writer=HuggingFaceStorageWriter(f"{folder}/{side}-both", save_distributed=True,
                                                                enable_consolidation=True))
        dcp.save(state, storage_writer=FileSystemWriter(f"{folder}/{side}-dcp"))
    dist.destroy_process_group()


class ShardedTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.directory = Path(folder.name)
        torch.multiprocessing.spawn(save, (str(cls.directory),), nprocs=RANKS)

    def lox(self, *words, code=0):
        done = subprocess.run([LOX, *map(str, words)], cwd=self.directory, capture_output=True, text=True)
        self.assertEqual(done.returncode, code, done.stderr)
        return done.stderr

    def assert_equal(self, found, expected):
        self.assertEqual(sorted(found), sorted(expected))
        for name, tensor in expected.items():
            self.assertEqual((found[name].dtype, found[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertTrue(torch.equal(*(each.reshape(-1).view(torch.uint8) for each in (found[name], tensor))), name)

    def test_parts_of_all_ranks(self):
        self.assertEqual(len(list((self.directory / "aligned").glob("shard-*.safetensors"))), RANKS)
        self.assertGreater(len(list((self.directory / "aligned-several").glob("shard-*.safetensors"))), RANKS)
        for folder, seed in (("base", 1), ("aligned", 2), ("aligned-several", 2)):
            self.lox("convert", folder, f"whole-{folder}")
            self.assert_equal(tensors_of(self.directory / f"whole-{folder}"), make(seed))

    def test_hardened_like_what_torch_puts_together(self):
        """torch leaves the parts in a folder beside its whole tensors."""
        for name, place in (("parts", "-both/sharded"), ("whole", "-both")):
            self.lox("harden", "--base", f"base{place}", "--aligned", f"aligned{place}", "--k", 3, "--output",
                     f"out-{name}")
        self.assert_equal(tensors_of(self.directory / "out-parts"), tensors_of(self.directory / "out-whole"))

    def test_what_rank_0_saves(self):
        state = make(2)
        dcp.save(state, storage_writer=HuggingFaceStorageWriter(
            str(self.directory / "alone"), fqn_to_index_mapping={name: 1 + i % 2 for i, name in enumerate(state)}))
        self.assertTrue((self.directory / "alone" / "model.safetensors.index.json").exists())
        self.lox("convert", "alone", "whole-alone")
        self.assert_equal(tensors_of(self.directory / "whole-alone"), state)

    def test_the_command_for_dcp_converts(self):
        said = self.lox("convert", "aligned-dcp", "no", code=3)
        command = re.search(r'python (-m torch\S*format_utils dcp_to_torch) "(.*)" (model\.pt)', said)
        self.assertTrue(command, said)
        subprocess.run([sys.executable, *command[1].split(), command[2], command[3]], cwd=self.directory, check=True,
                       capture_output=True)
        self.assert_equal(torch.load(self.directory / "model.pt"), make(2))


if __name__ == "__main__":
    unittest.main()
