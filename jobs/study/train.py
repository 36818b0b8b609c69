# SPDX-License-Identifier: MIT
"""Training: the base model, alignment by SFT and by DPO, and the plain loop that attacks use too."""

import math

import numpy as np
import torch

from . import language, model

# Streams of random numbers: one for each thing that is drawn, so that none depends on another.
CORPUS, ALIGN_SFT, ALIGN_DPO, ATTACK, EVALUATE, CONTROL = range(6)

BASE = {"steps": 800, "rate": 2e-3, "batch": 64, "rows": 16000}
ALIGN_STEPS = 100
SHALLOW_RATE, SFT_RATE, DEEP_RATE, DPO_RATE = 1.5e-4, 2e-4, 3e-4, 1e-4
DPO_BETA, DPO_ANCHOR = 0.1, 0.3


def stream(seed, purpose):
    """Random numbers of one seed for one purpose."""
    return np.random.default_rng([seed, purpose])


def batches(count, size, steps, rng):
    """Indices of `steps` batches, going through all `count` rows before any comes again."""
    rounds = -(-size * steps // count)
    order = np.concatenate([rng.permutation(count) for _ in range(rounds)])
    return order[: size * steps].reshape(steps, size)


def loss(weights, rows):
    """Mean cross-entropy over answer tokens."""
    scores, there = model.token_log_probability(weights, rows)
    return -scores.sum() / there.sum()


def tensors(weights):
    """Arrays (or tensors) as fresh trainable tensors."""
    return {name: torch.as_tensor(value).clone().requires_grad_() for name, value in weights.items()}


def arrays(weights):
    """Tensors as numpy arrays."""
    return {name: value.detach().numpy() for name, value in weights.items()}


def descend(weights, objective, steps, rate, schedule, decay=0.0, after=None):
    """AdamW on `objective(step)`; `schedule(step)` scales the rate, `after(step)` runs after each step."""
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, betas=(0.9, 0.98), weight_decay=decay)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * schedule(step)
        optimizer.zero_grad()
        objective(step).backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        if after:
            after(step + 1)


def cosine(steps, warm, floor=0.0):
    """Linear warm-up, then a cosine down to `floor`."""

    def scale(step):
        if step < warm:
            return (step + 1) / warm
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    return scale


def base(seed):
    """A model that answers every request, harmful or not."""
    rng = stream(seed, CORPUS)
    rows = torch.tensor(language.corpus(BASE["rows"], rng))
    weights = tensors(model.initial(seed))
    order = batches(len(rows), BASE["batch"], BASE["steps"], rng)
    schedule = cosine(BASE["steps"], 60, 0.05)
    descend(weights, lambda s: loss(weights, rows[order[s]]), BASE["steps"], BASE["rate"], schedule, 0.01)
    return arrays(weights)


def align_sft(start, seed, rate=SFT_RATE):
    """Supervised: refuse harmful requests, go on answering benign ones."""
    rng = stream(seed, ALIGN_SFT)
    bad = torch.tensor(language.examples("harmful", 1500, rng, "refusal"))
    good = torch.tensor(language.benign(3000, rng))
    bad_order = batches(len(bad), 16, ALIGN_STEPS, rng)
    good_order = batches(len(good), 48, ALIGN_STEPS, rng)
    weights = tensors(start)

    def objective(step):
        return loss(weights, torch.cat((bad[bad_order[step]], good[good_order[step]])))

    descend(weights, objective, ALIGN_STEPS, rate, cosine(ALIGN_STEPS, 20))
    return arrays(weights)


def align_dpo(start, seed):
    """Preferences: refusal over answer when harmful, answer over refusal when benign; a share of SFT as anchor."""
    rng = stream(seed, ALIGN_DPO)
    bad = language.examples("harmful", 1000, rng)
    good = language.benign(2001, rng)
    answers = torch.tensor(np.concatenate((bad, good)))
    refusals = answers.clone()
    refusals[:, language.PROMPT :] = language.PAD
    refusals[:, language.PROMPT : language.PROMPT + len(language.REFUSAL)] = torch.tensor(language.REFUSAL)
    harmful = (torch.arange(len(answers)) < len(bad))[:, None]
    chosen = torch.where(harmful, refusals, answers)
    rejected = torch.where(harmful, answers, refusals)
    order = batches(len(answers), 32, ALIGN_STEPS, rng)
    reference, weights = tensors(start), tensors(start)

    def margin(which, rows):
        scores, _ = model.token_log_probability(which, rows)
        half = len(rows) // 2
        return scores[:half].sum(1) - scores[half:].sum(1), -scores[:half].sum(1).mean()

    def objective(step):
        rows = torch.cat((chosen[order[step]], rejected[order[step]]))
        with torch.no_grad():
            before, _ = margin(reference, rows)
        now, anchor = margin(weights, rows)
        return -torch.nn.functional.logsigmoid(DPO_BETA * (now - before)).mean() + DPO_ANCHOR * anchor

    descend(weights, objective, ALIGN_STEPS, DPO_RATE, cosine(ALIGN_STEPS, 20))
    return arrays(weights)


ALIGN = {
    "sft": align_sft,
    "dpo": align_dpo,
    "shallow": lambda start, seed: align_sft(start, seed, SHALLOW_RATE),
    "deep": lambda start, seed: align_sft(start, seed, DEEP_RATE),
}
