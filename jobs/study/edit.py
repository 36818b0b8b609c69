# SPDX-License-Identifier: MIT
"""Edits of an aligned model made here in float32: the controls lox does not (and should not) offer."""

import numpy as np


def decompose(base, aligned):
    """The SVD of Delta = aligned - base for every tensor that lox edits."""
    return {
        name: np.linalg.svd(aligned[name] - base[name], full_matrices=False)
        for name in aligned
        if aligned[name].ndim > 1
    }


def low_rank(factors, k):
    """The best rank-k approximation; all of it for k = 0."""
    u, s, v = factors
    return (u * s)[:, : k or None] @ v[: k or None]


def top(base, aligned, k, coef):
    """What lox does, kept in float32."""
    return _add(aligned, {n: coef * low_rank(f, k) for n, f in decompose(base, aligned).items()})


def tail(base, aligned, k, coef):
    """What lox leaves alone, Delta - Delta_k, in place of Delta_k and as long as coef * Delta_k."""
    edits = {}
    for name, factors in decompose(base, aligned).items():
        wanted = low_rank(factors, k)
        rest = aligned[name] - base[name] - wanted
        edits[name] = _as_long_as(coef * wanted, rest)
    return _add(aligned, edits)


def random(base, aligned, k, coef, rng):
    """A random edit of the same rank and length."""
    edits = {}
    for name, factors in decompose(base, aligned).items():
        rows, columns = aligned[name].shape
        noise = rng.standard_normal((rows, k)) @ rng.standard_normal((k, columns))
        edits[name] = _as_long_as(coef * low_rank(factors, k), noise)
    return _add(aligned, edits)


def truncated(base, aligned, k):
    """base + Delta_k with the aligned norms; the base itself for k = 0 (its norms too, nothing of the alignment)."""
    if k == 0:
        return base
    edits = {n: base[n] - aligned[n] + low_rank(f, k) for n, f in decompose(base, aligned).items()}
    return _add(aligned, edits)


def _add(aligned, edits):
    return {n: (w + edits[n]).astype(np.float32) if n in edits else w for n, w in aligned.items()}


def _as_long_as(wanted, edit):
    return edit * (np.linalg.norm(wanted) / np.linalg.norm(edit))
