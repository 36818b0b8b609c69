# SPDX-License-Identifier: MIT
"""A Llama of half a million parameters, as a function of its named weights."""

import math

import torch
from torch.nn import functional as F

from . import language

WIDTH, LAYERS, HEADS, HIDDEN, EPSILON, THETA = 128, 3, 4, 256, 1e-6, 10000.0

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "vocab_size": language.VOCABULARY,
    "max_position_embeddings": 64,
    "hidden_act": "silu",
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "pad_token_id": language.PAD,
    "bos_token_id": language.BOS,
    "eos_token_id": language.EOS,
    "torch_dtype": "bfloat16",
}


def initial(seed):
    """Random weights under the names of a Hugging Face Llama."""
    generator = torch.Generator().manual_seed(seed)

    def normal(rows, columns, scale):
        return torch.randn(rows, columns, generator=generator) * scale

    residual = 1 / math.sqrt(2 * LAYERS)
    weights = {"model.embed_tokens.weight": normal(language.VOCABULARY, WIDTH, 0.05)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj"):
            weights[f"{at}self_attn.{name}.weight"] = normal(WIDTH, WIDTH, WIDTH**-0.5)
        weights[f"{at}self_attn.o_proj.weight"] = normal(WIDTH, WIDTH, WIDTH**-0.5 * residual)
        for name in ("gate_proj", "up_proj"):
            weights[f"{at}mlp.{name}.weight"] = normal(HIDDEN, WIDTH, WIDTH**-0.5)
        weights[f"{at}mlp.down_proj.weight"] = normal(WIDTH, HIDDEN, HIDDEN**-0.5 * residual)
        weights[f"{at}input_layernorm.weight"] = torch.ones(WIDTH)
        weights[f"{at}post_attention_layernorm.weight"] = torch.ones(WIDTH)
    weights["model.norm.weight"] = torch.ones(WIDTH)
    weights["lm_head.weight"] = normal(language.VOCABULARY, WIDTH, 0.05)
    return weights


def logits(weights, rows):
    """Logits that predict the answer tokens of `rows` (prompt and answer, see language.row)."""
    tokens = rows[:, :-1]
    count, length = tokens.shape
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    seen = (seen & (tokens != language.PAD)[:, None, :]) | torch.eye(length, dtype=torch.bool)
    mask = torch.zeros(count, 1, length, length).masked_fill(~seen[:, None], -1e9)
    cosine, sine = _rotation(length)

    def heads(x):
        return x.view(count, length, HEADS, -1).transpose(1, 2)

    x = F.embedding(tokens, weights["model.embed_tokens.weight"])
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        h = _norm(x, weights[f"{at}input_layernorm.weight"])
        q, k, v = (heads(F.linear(h, weights[f"{at}self_attn.{n}_proj.weight"])) for n in "qkv")
        q, k = _rotate(q, cosine, sine), _rotate(k, cosine, sine)
        share = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS) + mask, -1)
        h = (share @ v).transpose(1, 2).reshape(count, length, WIDTH)
        x = x + F.linear(h, weights[f"{at}self_attn.o_proj.weight"])
        h = _norm(x, weights[f"{at}post_attention_layernorm.weight"])
        h = F.silu(F.linear(h, weights[f"{at}mlp.gate_proj.weight"])) * F.linear(h, weights[f"{at}mlp.up_proj.weight"])
        x = x + F.linear(h, weights[f"{at}mlp.down_proj.weight"])
    x = _norm(x[:, language.PROMPT - 1 :], weights["model.norm.weight"])
    return F.linear(x, weights["lm_head.weight"])


def token_log_probability(weights, rows):
    """Log-probability of every answer token of `rows`, zero at padding, and where there is a token."""
    target = rows[:, language.PROMPT :]
    there = target != language.PAD
    scores = torch.log_softmax(logits(weights, rows), -1).gather(2, target[:, :, None])[:, :, 0]
    return scores * there, there


def _norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def _rotation(length):
    half = WIDTH // HEADS // 2
    angle = torch.arange(length)[:, None] * THETA ** (-torch.arange(half) / half)
    return torch.cos(angle).repeat(1, 2), torch.sin(angle).repeat(1, 2)


def _rotate(x, cosine, sine):
    a, b = x.chunk(2, -1)
    return x * cosine + torch.cat((-b, a), -1) * sine
