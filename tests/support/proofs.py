# SPDX-License-Identifier: MIT
"""Matrices that a truncated SVD may get wrong without a sign of it, against numpy in double."""
import numpy as np

import checkpoint
import reference
from program import LoxTest

USAGE, BAD_INPUT, NOT_CERTIFIED, STOPPED = 2, 3, 4, 75
WAYS = {"krylov": ((), 0), "exact": (("--svd", "exact"), 0), "grid": (("--grid", "always"), 2)}
IDENTICAL = 0.998


def rounded(dtype, values):
    """Doubles rounded once to the dtype's numbers, to nearest, ties to even."""
    mantissa, lowest = checkpoint.FLOATS[dtype]
    exponents = np.maximum(np.frexp(values)[1] - 1, lowest) - mantissa
    return np.ldexp(np.rint(np.ldexp(values, -exponents)), exponents)


def orthonormal(columns):
    for _ in range(2):
        for j in range(columns.shape[1]):
            columns[:, j] -= columns[:, :j] @ (columns[:, :j].T @ columns[:, j])
            columns[:, j] /= np.sqrt(columns[:, j] @ columns[:, j])
    return columns


def largest_part(delta, k):
    """(Delta_k, all singular values). LAPACK's vectors are good to 1e-16 s_1: steps of subspace iteration in extended
    precision bring those of small triplets beside a large one to where F32 needs them."""
    u, sigma, _ = np.linalg.svd(delta, full_matrices=False)
    a = delta.astype(np.longdouble)
    left = u[:, :k].astype(np.longdouble)
    for _ in range(8):
        left = orthonormal(a @ orthonormal(a.T @ left))
    return (left @ (left.T @ a)).astype(np.float64), sigma


def random_orthonormal(rng, rows, cols):
    return np.linalg.qr(rng.standard_normal((rows, cols)))[0]


class ProofTest(LoxTest):
    def solve(self, pairs, *options, ranks=0, **more):
        """Hardens {name: (base, aligned)}; keeps the report's entries and the output."""
        self.write(pairs)
        (self.directory / "out.safetensors").unlink(missing_ok=True)
        report = self.harden(*options, base="base.safetensors", aligned="aligned.safetensors",
                             output="out.safetensors", ranks=ranks, **more)
        self.entries = {entry["name"]: entry for entry in report["tensors"]}
        self.hardened = checkpoint.read(self.directory / "out.safetensors")
        return report

    def write(self, pairs):
        for side, name in enumerate(("base", "aligned")):
            (self.directory / f"{name}.safetensors").write_bytes(
                checkpoint.encode({tensor: pair[side] for tensor, pair in pairs.items()}))

    def asked(self, *options):
        return ("harden", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--output",
                "out.safetensors", *options)

    def verify(self, *options):
        return self.lox("verify", "--base", "base.safetensors", "--aligned", "aligned.safetensors", "--hardened",
                        "out.safetensors", "--sample", 0, *options)

    def identical(self, name, expected):
        return np.mean(self.hardened[name].values == expected)

    def assert_proved(self, entry):
        self.assertLessEqual(entry["certificate"], 1e-4)
        self.assertLessEqual(entry["orthogonality"], 1e-4)
        self.assertLessEqual(entry["missed"]["epsilon"], 0.5)
        self.assertLessEqual(entry["missed"]["probability"], 1e-9)


def expected_output(pair, k=6, coef=1.25):
    """(what each entry should be, singular values of Delta)."""
    base, aligned = pair
    edit, sigma = largest_part(reference.delta(aligned, base).astype(np.float64), k)
    return rounded(aligned.dtype, aligned.values.astype(np.float64) + coef * edit), sigma
