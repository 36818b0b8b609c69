# SPDX-License-Identifier: MIT
"""FP8 weights in numpy: codes of E4M3 and scales, as DeepSeek and compressed-tensors store them."""
import json

import numpy as np

import checkpoint
from checkpoint import Tensor

NAN = (0x7F, 0xFF)


def _table():
    """The value of each code, by the OCP specification: bias 7, no infinity, one NaN of each sign."""
    code = np.arange(256)
    exponent, mantissa = code >> 3 & 15, code & 7
    size = np.ldexp(mantissa / 8 + (exponent > 0), np.maximum(exponent, 1) - 7)
    values = np.where(code & 0x80, -size, size)
    values[list(NAN)] = np.nan
    return values.astype(np.float32)


VALUES = _table()
SPACINGS = np.ldexp(1.0, np.maximum(np.arange(256) >> 3 & 15, 1) - 10)


def spread(scales, shape, block):
    """The scale of each value: those of ragged blocks at the ends are cut."""
    rows, cols = shape[-2:]
    wide = np.repeat(np.repeat(scales, block[0], axis=-2), block[1], axis=-1)
    return wide[..., :rows, :cols]


def values_of(codes, scales, block):
    """code * scale in float32."""
    return VALUES[codes] * spread(scales.astype(np.float32), codes.shape, block)


def noise_of(codes, scales, block):
    """The estimated |rounding|_F: uniform over the spacing at each code."""
    return np.sqrt(np.sum((SPACINGS[codes] * spread(scales.astype(np.float64), codes.shape, block)) ** 2 / 12))


def quantise(values, block):
    """(codes, scales): each block's largest value becomes 448, the others the nearest code."""
    rows, cols = values.shape[-2:]
    down, across = -(-rows // block[0]), -(-cols // block[1])
    padded = np.zeros((*values.shape[:-2], down * block[0], across * block[1]))
    padded[..., :rows, :cols] = np.abs(values)
    largest = padded.reshape(*values.shape[:-2], down, block[0], across, block[1]).max(axis=(-3, -1))
    scales = (np.where(largest > 0, largest, 1) / 448).astype(np.float32)
    positive = VALUES[:0x7F].astype(np.float64)
    scaled = np.abs(values) / spread(scales.astype(np.float64), values.shape, block)
    codes = np.searchsorted((positive[1:] + positive[:-1]) / 2, scaled).astype(np.uint8)
    return codes | np.where(values < 0, 0x80, 0).astype(np.uint8), scales


class Fp8:
    """A quantised tensor: what it stands for, and the two tensors that a file holds. `form`: how scales are called
    and shaped, "block" (DeepSeek), "tensor" or "row" (compressed-tensors)."""

    def __init__(self, values, form="block", block=(128, 128), scale_dtype="F32"):
        self.shape = values.shape
        self.form = form
        self.block = {"block": block, "row": (1, values.shape[-1]), "tensor": values.shape[-2:]}[form]
        self.codes, self.scales = quantise(values, self.block)
        if scale_dtype == "BF16":
            self.scales = checkpoint.from_bf16(checkpoint.to_bf16(self.scales))
        self.scale_dtype = scale_dtype

    dtype = "F32"  # in which a Delta is formed

    @property
    def values(self):
        return values_of(self.codes, self.scales, self.block)

    @property
    def noise(self):
        return noise_of(self.codes, self.scales, self.block)

    @property
    def rounded(self):
        """The tensor of an output that only copies it."""
        return Tensor.of("BF16", self.values)

    def stored(self, name):
        """{name: Tensor} of codes and scales."""
        scales = self.scales
        if self.form == "tensor" and scales.ndim == 2:
            scales = scales.reshape(())
        ending = "_scale_inv" if self.form == "block" else "_scale"
        return {name: Tensor("F8_E4M3", self.codes), name + ending: Tensor.of(self.scale_dtype, scales)}


def config(block=(128, 128), **more):
    """config.json of a model that is quantised as DeepSeek's are."""
    return json.dumps({"hidden_size": 64, "torch_dtype": "bfloat16", "rms_norm_eps": 1e-06,
                       "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                               "weight_block_size": list(block)}, **more}).encode()
