# SPDX-License-Identifier: MIT
"""Low-rank extrapolation in numpy as the authors' script does it, and how far a result is from it."""
from collections import namedtuple

import numpy as np

from checkpoint import FLOATS, Tensor, from_bf16, to_bf16

BATCH = (-2, -1)  # the axes of a matrix; axes before them are a batch


def delta(aligned, base):
    """W_aligned - W_base as float32."""
    if "F64" in (aligned.dtype, base.dtype):
        return (aligned.values.astype(np.float64) - base.values.astype(np.float64)).astype(np.float32)
    return aligned.values - base.values


def round_to_bf16(values):
    return from_bf16(to_bf16(values))


class Svd:
    """The LAPACK SVD of a float32 matrix, or of each matrix of a batch, truncated at any rank. In float32, as the
    authors' script forms it, or in double."""

    def __init__(self, matrix, precision=np.float32):
        self.matrix = matrix
        self.u, self.sigma, self.vt = np.linalg.svd(matrix.astype(precision), full_matrices=False)

    def truncated(self, k):
        """The best rank-k approximation; k = 0 means full rank, which is the matrix itself."""
        if k == 0:
            return self.matrix
        sigma = self.sigma.copy()
        sigma[..., k:] = 0
        return ((self.u * sigma[..., np.newaxis, :]) @ self.vt).astype(np.float32)


def harden(aligned, low_rank, coef):
    """W_aligned + coef * low_rank in float32 (float64 for F64), rounded once to the aligned dtype."""
    return Tensor.of(aligned.dtype, aligned.values + np.float32(coef) * low_rank)


def ulp(dtype, values):
    """The spacing of the dtype's numbers around each value."""
    mantissa, lowest = FLOATS[dtype]
    exponents = np.frexp(np.abs(values.astype(np.float64)))[1] - 1
    exponents = np.where(values == 0, lowest, np.maximum(exponents, lowest))
    return np.ldexp(1.0, exponents - mantissa)


# Share of identical entries, and the largest difference as a multiple of what is allowed.
Agreement = namedtuple("Agreement", "identical worst")


def agreement(found, expected, edit):
    """Compares two tensors: no entry may be off by more than one unit in the last place or 1e-3 of the edit's rms."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    x = found.values.astype(np.float64)
    y = expected.values.astype(np.float64)
    rms = np.sqrt(np.mean(np.square(edit, dtype=np.float64)))
    allowed = np.maximum(ulp(found.dtype, np.maximum(np.abs(x), np.abs(y))), 1e-3 * rms)
    return Agreement(np.mean(x == y), np.max(np.abs(x - y) / allowed))


def spectrum(kind, count):
    """Singular values of a test matrix, largest first."""
    i = np.arange(count)
    if kind == "power":
        return 1 / (i + 1)
    if kind == "gap":
        return np.where(i < 6, 1 - 0.1 * i, 0.01)
    if kind == "rank 3":
        return np.where(i < 3, 1 / (i + 1), 0)
    raise ValueError(kind)


def random_matrix(rng, shape, kind, rms):
    """A matrix (or a batch) of a named spectrum: power, gap, rank 3, noise, or alignment (decay in noise)."""
    if len(shape) < 2:
        return rms * rng.standard_normal(shape)
    rows, cols = shape[-2:]
    if len(shape) > 2:
        return np.stack([random_matrix(rng, shape[1:], kind, rms * (1 + i)) for i in range(shape[0])])
    if kind == "noise":
        matrix = rng.standard_normal((rows, cols))
    elif kind == "alignment":
        left = rng.standard_normal((rows, 24)) / np.arange(1, 25)
        matrix = rng.standard_normal((rows, cols)) + left @ rng.standard_normal((24, cols)) * 2
    else:
        least = min(rows, cols)
        left = np.linalg.qr(rng.standard_normal((rows, least)))[0]
        right = np.linalg.qr(rng.standard_normal((cols, least)))[0]
        matrix = left * spectrum(kind, least) @ right.T
    return matrix * (rms / np.sqrt(np.mean(matrix**2)))


def random_pair(rng, shape, kind="alignment", rms=5e-4, dtype="BF16", base_dtype=None):
    """(base, aligned) with weights of deviation 0.02 and a delta of a named spectrum."""
    weights = 0.02 * rng.standard_normal(shape)
    return Tensor.of(base_dtype or dtype, weights), Tensor.of(dtype, weights + random_matrix(rng, shape, kind, rms))
