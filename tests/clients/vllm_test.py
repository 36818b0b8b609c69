# SPDX-License-Identifier: MIT
"""Adapters of lox in vLLM on the CPU: loaded at run time, two coefs side by side in one batch."""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

os.environ.update(VLLM_CPU_KVCACHE_SPACE="1", VLLM_LOGGING_LEVEL="ERROR", VLLM_NO_USAGE_STATS="1",
                  VLLM_ENABLE_V1_MULTIPROCESSING="0")

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

LOX = os.environ["LOX"]
DATA = Path(__file__).resolve().parents[1] / "data"
K, VOCABULARY = 4, 128
COEFS = ("0.5", "1.25")


class VllmTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.directory = Path(folder.name)
        self.lox("factor", "--base", DATA / "base", "--aligned", DATA / "aligned", "--k", K, "--output", "store.h5")
        self.lox("adapter", "--factors", "store.h5", "--coef", ",".join(COEFS), "--for", "vllm", "--output",
                 "adapter-{coef}")

    def lox(self, *words):
        done = subprocess.run([LOX, *map(str, words)], cwd=self.directory, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def expected(self, adapter, prompt):
        """Of the aligned model with scale B A added to its weights."""
        model = AutoModelForCausalLM.from_pretrained(DATA / "aligned", dtype=torch.float32)
        state = dict(model.named_parameters())
        if adapter:
            config = json.loads((self.directory / adapter / "adapter_config.json").read_text())
            factors = load_file(self.directory / adapter / "adapter_model.safetensors")
            scale = config["lora_alpha"] / config["r"]
            for name, a in factors.items():
                module = name.removeprefix("base_model.model.")
                with torch.no_grad():
                    if name.endswith(".lora_A.weight"):
                        weight = state[module.replace(".lora_A", "")]
                        weight += scale * factors[name.replace("_A.", "_B.")] @ a
                    elif name.endswith(".lora_embedding_A"):
                        weight = state[module.replace(".lora_embedding_A", ".weight")]
                        weight += scale * (factors[name.replace("_A", "_B")] @ a).T
        with torch.no_grad():
            return torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1], dim=-1)

    def test_side_by_side(self):
        llm = LLM(str(DATA / "aligned"), skip_tokenizer_init=True, enable_lora=True, max_loras=2, max_lora_rank=8,
                  enforce_eager=True, dtype="float32", max_model_len=64, max_num_seqs=4, max_logprobs=VOCABULARY)
        prompt = list(range(4, 28))
        asked = SamplingParams(max_tokens=1, temperature=0, logprobs=VOCABULARY, detokenize=False)
        adapters = [None, *(f"adapter-{coef}" for coef in COEFS)]
        expected = [self.expected(adapter, prompt) for adapter in adapters]

        def ask(*names):
            requests = [name and LoRARequest(name, adapters.index(name), str(self.directory / name)) for name in names]
            return llm.generate([{"prompt_token_ids": prompt}] * len(names), [asked] * len(names),
                                lora_request=requests, use_tqdm=False)

        # The plain model is asked before there is an adapter: vLLM 0.32.0 on the CPU gives a request without one the
        # weights of the last adapter that it has loaded.
        answers = [*ask(None), *ask(*adapters[1:])]
        for adapter, answer, wanted in zip(adapters, answers, expected):
            found = answer.outputs[0].logprobs[0]
            off = max(abs(found[token].logprob - wanted[token].item()) for token in range(VOCABULARY))
            with self.subTest(adapter=adapter):
                self.assertLess(off, 2e-3)
        for one in range(3):
            for other in range(one):
                self.assertGreater((expected[one] - expected[other]).abs().max(), 0.02)


if __name__ == "__main__":
    unittest.main()
