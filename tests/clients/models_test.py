# SPDX-License-Identifier: MIT
"""Models of lox in transformers: the shapes that lox knows, and a BF16 output made of an FP8 pair."""
import json
import unittest
from pathlib import Path

import torch
from client import ClientTest
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, DeepseekV3Config, DeepseekV3ForCausalLM
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import revert_weight_conversion

SHAPES = ("llama-3.2-1b", "llama-3-8b", "mixtral-8x7b", "qwen2.5-72b", "qwen3-4b", "qwen3-8b", "qwen3-30b-a3b", "gemma-3-1b",
          "olmo-2-7b", "olmo-2-32b", "apertus-8b", "apertus-70b")
BLOCK, K, COEF = 128, 3, 1.25


def shapes_of(folder):
    shapes = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            shapes |= {name: list(file.get_slice(name).get_shape()) for name in file.keys()}
    return shapes


class ModelsTest(ClientTest):
    def test_shapes_are_those_of_its_classes(self):
        """Built without memory from the config.json that lox writes: the same names and shapes, all of them."""
        for shape in SHAPES:
            with self.subTest(shape):
                self.lox("synth", shape, "--shape", shape, "--headers-only", "--quiet")
                config = AutoConfig.from_pretrained(self.directory / shape)
                with torch.device("meta"):
                    model = AutoModelForCausalLM.from_config(config)
                model._weight_conversions = get_model_conversion_mapping(model)  # experts apart, as they are published
                state = revert_weight_conversion(model, model.state_dict())
                if config.tie_word_embeddings:
                    del state["lm_head.weight"]
                self.assertEqual({name: list(tensor.shape) for name, tensor in state.items()},
                                 shapes_of(self.directory / shape))

    def quantise(self, name, dense):
        """A model's matrices as DeepSeek stores them; returns what they stand for."""
        stored, values = {}, {}
        for key, tensor in dense.items():
            values[key] = tensor.float()
            if not key.endswith("_proj.weight") and "kv_a_proj_with_mqa" not in key:
                stored[key] = tensor
                continue
            rows, cols = tensor.shape
            padded = torch.zeros(-(-rows // BLOCK) * BLOCK, -(-cols // BLOCK) * BLOCK)
            padded[:rows, :cols] = tensor.float()
            blocks = padded.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK))
            scales = blocks.abs().amax((1, 3)).clamp(min=1e-12) / 448
            wide = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)[:rows, :cols]
            stored[key] = (tensor.float() / wide).to(torch.float8_e4m3fn)
            stored[f"{key}_scale_inv"] = scales
            values[key] = stored[key].float() * wide
        self.assertEqual(sum(key.endswith("_scale_inv") for key in stored), 2 * 5 + 3 + (4 + 1) * 3)
        folder = self.directory / name
        save_file({key: tensor.contiguous() for key, tensor in stored.items()}, folder / "model.safetensors",
                  {"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
        config["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                         "weight_block_size": [BLOCK, BLOCK]}
        (folder / "config.json").write_text(json.dumps(config))
        return values

    def test_the_output_of_an_fp8_pair(self):
        """A DeepSeek-V3 in miniature. The output loads as a BF16 model, every tensor of it, and is what torch makes."""
        torch.manual_seed(0)
        config = DeepseekV3Config(vocab_size=96, hidden_size=136, intermediate_size=200, moe_intermediate_size=72,
                                  num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4, n_routed_experts=4,
                                  num_experts_per_tok=2, n_group=2, topk_group=1, first_k_dense_replace=1, q_lora_rank=48,
                                  kv_lora_rank=32, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16,
                                  max_position_embeddings=64)
        model = DeepseekV3ForCausalLM(config).to(torch.bfloat16)
        values = {}  # 5 of attention and 3 of the feed-forward part, and of each expert
        for name in ("base", "aligned"):
            model.save_pretrained(self.directory / name)
            values[name] = self.quantise(name, load_file(self.directory / name / "model.safetensors"))
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.dim() >= 2:
                        parameter += 5e-3 * torch.randn_like(parameter)
        self.lox("harden", "--base", "base", "--aligned", "aligned", "--k", K, "--coef", COEF, "--output", "out")
        found = load_file(self.directory / "out" / "model.safetensors")
        self.assertEqual(set(found), set(values["aligned"]))
        edited = 0
        for name, tensor in found.items():
            aligned = values["aligned"][name]
            expected = aligned
            if aligned.dim() >= 2:
                u, s, vt = torch.linalg.svd((aligned - values["base"][name]).double(), full_matrices=False)
                expected = (aligned.double() + COEF * (u[:, :K] * s[:K]) @ vt[:K]).float()
                edited += 1
            self.assertEqual(tensor.dtype, torch.bfloat16, name)
            same = (tensor.float() == expected.to(tensor.dtype).float()).float().mean().item()
            self.assertGreaterEqual(same, 0.99, name)
        self.assertEqual(edited, 28 + 3)  # and router, embeddings, head
        loaded, told = AutoModelForCausalLM.from_pretrained(self.directory / "out", output_loading_info=True)
        self.assertEqual((len(told["missing_keys"]), len(told["unexpected_keys"]), len(told["mismatched_keys"])), (0, 0, 0))
        self.assertEqual(loaded.dtype, torch.bfloat16)
        self.assertIsNone(getattr(loaded.config, "quantization_config", None))
        with torch.no_grad():
            self.assertTrue(torch.isfinite(loaded((torch.arange(24) % 96)[None]).logits).all())
        embeddings = loaded.get_input_embeddings().weight
        self.assertTrue(torch.equal(embeddings, found["model.embed_tokens.weight"]))


if __name__ == "__main__":
    unittest.main()
