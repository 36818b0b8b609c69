# SPDX-License-Identifier: MIT
"""A job whose aligned model is an adapter, killed at every sync and at random: what resumes ends with the same bytes.

LOX_KILLS: kills at random moments of each task (default 4). LOX_SEED: of the moments.
"""
import json
import os
import random
import unittest

import numpy as np

import checkpoint
from checkpoint import Tensor
from jobs import KilledTasks

KILLS = int(os.environ.get("LOX_KILLS", "4"))
SEED = int(os.environ.get("LOX_SEED", "1"))
PREFIX = "base_model.model."


class AdapterKillTest(KilledTasks):
    """Factors of linears and of experts, a bias, and a weight that the adapter brings whole."""

    def setUp(self):
        super().setUp()
        rng = np.random.default_rng(1)

        def values(*shape):
            return 0.1 * rng.standard_normal(shape)

        base = {"q.weight": values(60, 50), "q.bias": values(60), "o.weight": values(50, 60), "norm": values(50),
                "experts.down": values(3, 30, 20), "head.weight": values(40, 50)}
        adapter = {"q.lora_A.weight": values(4, 50), "q.lora_B.weight": values(60, 4), "q.lora_B.bias": values(60),
                   "o.lora_A.weight": values(4, 60), "o.lora_B.weight": values(50, 4),
                   "experts.lora_A.weight": values(12, 20), "experts.lora_B.weight": values(30, 12),
                   "head.weight": base["head.weight"] + values(40, 50)}
        checkpoint.write_directory(
            self.directory / "base", {"model.safetensors": {name: Tensor.of("BF16", v) for name, v in base.items()}},
            index=False, files={"config.json": b"{}"})
        folder = self.directory / "adapter"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps(
            {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_parameters": ["experts.down"], "lora_bias": True}))
        (folder / "adapter_model.safetensors").write_bytes(checkpoint.encode(
            {PREFIX + name: Tensor.of("BF16", v) for name, v in adapter.items()}))
        inputs = ["--base", "base", "--aligned", "adapter", "--k", 2]
        self.tasks = {"harden": (["harden", *inputs, "--output", "out"], ["out"]),
                      "factor": (["factor", *inputs, "--output", "out.h5"], ["out.h5"])}
        self.make_expected()

    def test_syncs(self):
        for task in self.tasks:
            self.every(task, "sync")

    def test_at_random(self):
        rng = random.Random(SEED)
        for task in self.tasks:
            self.at_random(task, rng, KILLS)


if __name__ == "__main__":
    unittest.main()
