# SPDX-License-Identifier: MIT
"""Adapters of lox loaded by PEFT on transformers: the same model as `lox apply` writes."""
import unittest
from pathlib import Path

import torch
from client import ClientTest, tensors_of
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

DATA = Path(__file__).resolve().parents[1] / "data"
K = 4


class AdaptersTest(ClientTest):
    def make(self, base, aligned):
        self.lox("factor", "--base", base, "--aligned", aligned, "--k", K, "--output", "store.h5")
        self.lox("adapter", "--factors", "store.h5", "--coef", "0.5,1.25", "--output", "adapter-{coef}")
        self.lox("apply", "--aligned", aligned, "--factors", "store.h5", "--coef", "0.5,1.25", "--output",
                 "hardened-{coef}")

    def logits(self, model):
        with torch.no_grad():
            return model((torch.arange(24) % 96)[None]).logits

    def test_merged_is_the_applied_model(self):
        """Tensor by tensor: every entry, rounded once, and the logits."""
        self.make(DATA / "base", DATA / "aligned")
        for coef in (0.5, 1.25):
            model = AutoModelForCausalLM.from_pretrained(DATA / "aligned", dtype=torch.float32)
            merged = PeftModel.from_pretrained(model, self.directory / f"adapter-{coef}").merge_and_unload()
            state = merged.state_dict()
            applied = tensors_of(self.directory / f"hardened-{coef}")
            aligned = tensors_of(DATA / "aligned")
            edited = 0
            for name, tensor in applied.items():
                same = (state[name].to(tensor.dtype) == tensor).float().mean().item()
                self.assertGreaterEqual(same, 0.998, name)
                edited += not torch.equal(tensor, aligned[name])
            self.assertEqual(edited, 23)
            with torch.no_grad():
                for name, parameter in merged.named_parameters():
                    parameter.copy_(parameter.to(torch.bfloat16))
            hardened = AutoModelForCausalLM.from_pretrained(self.directory / f"hardened-{coef}", dtype=torch.float32)
            expected = self.logits(hardened)
            self.assertLess((self.logits(merged) - expected).norm(), 1e-2 * expected.norm())

    def test_a_hardened_adapter(self):
        """A LoRA that PEFT has saved, hardened without its base, and loaded again."""
        torch.manual_seed(0)

        def load():
            return AutoModelForCausalLM.from_pretrained(DATA / "base", dtype=torch.float32)

        config = LoraConfig(r=K, lora_alpha=6, target_modules=["q_proj", "up_proj", "embed_tokens"],
                            rank_pattern={"layers.1.self_attn.q_proj": 2}, init_lora_weights=False)
        get_peft_model(load(), config).save_pretrained(self.directory / "lora")
        self.lox("harden", "--aligned", "lora", "--as-adapter", "--k", 2, "--coef", 1.25, "--output", "hard")
        before = load().state_dict()
        merged = {name: PeftModel.from_pretrained(load(), self.directory / name).merge_and_unload().state_dict()
                  for name in ("lora", "hard")}
        changed = 0
        for name, weight in before.items():
            delta = (merged["lora"][name] - weight).double()
            if delta.norm() == 0:
                self.assertTrue(torch.equal(merged["hard"][name], weight))
                continue
            changed += 1
            u, s, vt = torch.linalg.svd(delta, full_matrices=False)
            s[:2] *= 2.25
            expected = (u * s) @ vt
            self.assertLess((merged["hard"][name] - weight - expected).norm(), 1e-5 * expected.norm(), name)
        self.assertEqual(changed, 7)

    def test_a_mixture_of_experts(self):
        """In float32, where nothing is rounded away: the model beside its adapter is the hardened one."""
        torch.manual_seed(0)
        config = MixtralConfig(vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=2,
                               num_attention_heads=4, num_key_value_heads=2, num_local_experts=3,
                               num_experts_per_tok=2, max_position_embeddings=64)
        model = MixtralForCausalLM(config)
        model.save_pretrained(self.directory / "base")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() >= 2:
                    parameter += 1e-3 * torch.randn_like(parameter)
        model.save_pretrained(self.directory / "aligned")
        self.make("base", "aligned")

        def load(name):
            return AutoModelForCausalLM.from_pretrained(self.directory / name, dtype=torch.float32)

        aligned = self.logits(load("aligned"))
        for coef in (0.5, 1.25):
            beside = self.logits(PeftModel.from_pretrained(load("aligned"), self.directory / f"adapter-{coef}"))
            hardened = self.logits(load(f"hardened-{coef}"))
            self.assertLess((beside - hardened).norm(), 1e-3 * (hardened - aligned).norm())

    def merged(self, base, adapter):
        """What PEFT makes of a base and an adapter, in float32."""
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        return PeftModel.from_pretrained(model, self.directory / adapter).merge_and_unload().state_dict()

    def check_hardened(self, base, k, coef):
        """`lox harden` of the adapter `lora` against PEFT's merge, its Delta being hardened by torch in double."""
        self.lox("harden", "--base", base, "--aligned", "lora", "--coef", 0, "--k", k, "--output", "merged")
        self.lox("harden", "--base", base, "--aligned", "lora", "--coef", coef, "--k", k, "--output", "hardened")
        self.lox("verify", "--base", base, "--aligned", "lora", "--coef", coef, "--k", k, "--hardened", "hardened",
                 "--sample", 0)
        before, plain, hardened = (tensors_of(self.directory / folder) for folder in (base, "merged", "hardened"))
        state = self.merged(self.directory / base, "lora")
        changed = set()
        for name, tensor in plain.items():
            with self.subTest(tensor=name):
                weight = before[name].double()
                if tensor.dtype == torch.bfloat16:
                    self.assertGreaterEqual((state[name].to(tensor.dtype) == tensor).float().mean().item(), 0.998)
                else:  # PEFT's own sum is rounded more than once
                    self.assertLess((state[name] - tensor).norm(), 1e-6 * tensor.norm())
                delta = state[name].double() - weight
                if delta.norm() == 0 or delta.dim() < 2:
                    self.assertTrue(torch.equal(hardened[name], tensor))
                    continue
                changed.add(name)
                u, sigma, vt = torch.linalg.svd(delta, full_matrices=False)
                edit = coef * (u[..., :k] * sigma[..., None, :k]) @ vt[..., :k, :]
                off = (hardened[name].double() - (weight + delta + edit)).norm()
                rounding = torch.finfo(tensor.dtype).eps * (weight + delta + edit).norm()
                self.assertLess(off, rounding + 1e-4 * edit.norm())
        return changed

    def test_an_adapter_as_the_aligned_model(self):
        torch.manual_seed(0)
        config = LoraConfig(r=K, lora_alpha=6, target_modules=["q_proj", "up_proj", "embed_tokens"], use_rslora=True,
                            modules_to_save=["lm_head"], rank_pattern={"layers.1.self_attn.q_proj": 2},
                            init_lora_weights=False)
        tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(DATA / "base", dtype=torch.float32), config)
        with torch.no_grad():
            for name, parameter in tuned.named_parameters():
                if "modules_to_save" in name:
                    parameter += 1e-3 * torch.randn_like(parameter)
        tuned.to(torch.bfloat16).save_pretrained(self.directory / "lora")
        (self.directory / "base").symlink_to(DATA / "base")
        self.assertEqual(len(self.check_hardened("base", 2, 1.25)), 2 * 3 + 2)

    def test_experts_in_one_parameter(self):
        """target_parameters: two wrappers around one module."""
        torch.manual_seed(0)
        config = MixtralConfig(vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=2,
                               num_attention_heads=4, num_key_value_heads=2, num_local_experts=3, num_experts_per_tok=2)
        MixtralForCausalLM(config).save_pretrained(self.directory / "base", save_original_format=False)
        model = AutoModelForCausalLM.from_pretrained(self.directory / "base", dtype=torch.float32)
        lora = LoraConfig(r=K, lora_alpha=6, target_modules=["o_proj"], init_lora_weights=False,
                          target_parameters=["experts.gate_up_proj", "experts.down_proj"])
        get_peft_model(model, lora).save_pretrained(self.directory / "lora")
        self.assertEqual(len(self.check_hardened("base", 2, 1.25)), 2 * 3)

    def test_tied_embeddings(self):
        """Of a model whose head is its embedding, one tensor changes, and with it both."""
        torch.manual_seed(0)
        config = LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=48, num_hidden_layers=1,
                             num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)
        model = LlamaForCausalLM(config)
        model.save_pretrained(self.directory / "base")
        self.assertNotIn("lm_head.weight", tensors_of(self.directory / "base"))
        lora = LoraConfig(r=K, lora_alpha=6, target_modules=["q_proj", "embed_tokens"], init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(self.directory / "lora")
        self.assertEqual(len(self.check_hardened("base", 2, 1.25)), 2)


if __name__ == "__main__":
    unittest.main()
