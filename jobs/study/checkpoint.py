# SPDX-License-Identifier: MIT
"""Hugging Face model directories: config.json and model.safetensors in bf16."""

import json
from pathlib import Path

import numpy as np


def to_bf16(values):
    """float32 to the 16 bits of bf16, to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    """The 16 bits of bf16 to float32, exactly."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def round_bf16(values):
    """float32 values on the bf16 grid."""
    return from_bf16(to_bf16(values))


def save(directory, weights, config):
    """Write a model; the directory appears whole or not at all."""
    partial = Path(f"{directory}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name in sorted(weights):
        piece = to_bf16(weights[name]).tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(weights[name].shape),
            "data_offsets": [len(data), len(data) + len(piece)],
        }
        data += piece
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (partial / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    partial.rename(directory)


def load(directory):
    """Read the weights of a model as float32 arrays, from every shard of the directory."""
    weights = {}
    for path in sorted(Path(directory).glob("*.safetensors")):
        raw = path.read_bytes()
        start = 8 + int.from_bytes(raw[:8], "little")
        for name, info in json.loads(raw[8:start]).items():
            if name != "__metadata__":
                first, last = info["data_offsets"]
                bits = np.frombuffer(raw[start + first : start + last], np.uint16)
                weights[name] = from_bf16(bits).reshape(info["shape"])
    return weights
