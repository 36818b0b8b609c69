# SPDX-License-Identifier: MIT
"""An FP8 pair killed at every sync: the same command ends with the same bytes, and only of the same scales."""
import shutil
import signal
import unittest

import numpy as np

import checkpoint
import reference
from checkpoint import Tensor
from fp8 import Fp8, config
from jobs import BAD_INPUT, Job
from program import LoxTest

SHAPES = [(140, 150), (60, 300), (2, 130, 90), (129, 40)]
WORDS = ("harden", "--base", "base", "--aligned", "aligned", "--output", "out", "--k", 3, "--exclude", "m3")


class QuantisedKill(LoxTest):
    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)
        for side in ("base", "aligned"):
            shards = {"a.safetensors": {}, "b.safetensors": {}}
            for number, shape in enumerate(SHAPES):
                stored = Fp8(0.02 * rng.standard_normal(shape)).stored(f"m{number}.weight")
                for shard, (name, tensor) in zip(shards.values(), stored.items()):
                    shard[name] = tensor
            checkpoint.write_directory(self.directory / side, shards, files={"config.json": config()})
        self.lox(*WORDS)
        self.expected = checkpoint.tree(self.directory / "out")
        self.remove()

    def remove(self):
        shutil.rmtree(self.directory / "out")
        (self.directory / "out.report.json").unlink()

    def test_every_sync(self):
        kills = 0
        while True:
            job = Job(self.directory, *WORDS, fault=f"sync:0:{kills + 1}:kill")
            code = job.wait()
            if code == 0:
                break
            self.assertEqual(code, -signal.SIGKILL, job.output())
            kills += 1
            with self.subTest(kill=kills):
                self.lox(*WORDS, ranks=2 * (kills % 2))
                self.assertEqual(checkpoint.tree(self.directory / "out"), self.expected)
                self.remove()
        self.assertGreater(kills, 8)

    def test_other_scales_are_another_model(self):
        job = Job(self.directory, *WORDS, fault="item:0:3:kill")
        self.assertNotEqual(job.wait(), 0)
        path = self.directory / "aligned" / "b.safetensors"
        tensors = checkpoint.decode(path.read_bytes())[0]
        name = "m0.weight_scale_inv"
        path.write_bytes(checkpoint.encode(tensors | {name: Tensor("F32", tensors[name].stored * 2)}))
        said = self.lox(*WORDS, code=BAD_INPUT).err
        self.assertIn("belongs to another job", said)
        self.assertIn("aligned", said)


if __name__ == "__main__":
    unittest.main()
