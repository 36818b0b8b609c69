# SPDX-License-Identifier: MIT
"""A small reader and writer of safetensors checkpoints in numpy that shares no code with lox."""
import json
import struct
from pathlib import Path

import numpy as np

STORAGE = {
    "U64": "<u8", "I64": "<i8", "F64": "<f8", "F32": "<f4", "U32": "<u4", "I32": "<i4", "BF16": "<u2", "F16": "<f2",
    "U16": "<u2", "I16": "<i2", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1", "I8": "i1", "U8": "u1", "BOOL": "?",
}
INDEX = "model.safetensors.index.json"
# Explicit mantissa bits and exponent of the smallest normal number.
FLOATS = {"BF16": (7, -126), "F16": (10, -14), "F32": (23, -126), "F64": (52, -1022)}


def to_bf16(values):
    """float32 to the bits of bf16, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def from_bf16(bits):
    """The float32 values that bf16 bits stand for."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


class Tensor:
    """A tensor as a file holds it: the dtype's safetensors name and the stored elements."""

    def __init__(self, dtype, stored):
        self.dtype = dtype
        self.stored = np.ascontiguousarray(stored, dtype=STORAGE[dtype]).reshape(np.shape(stored))

    @classmethod
    def of(cls, dtype, values):
        """Rounds values to the dtype, once."""
        return cls(dtype, to_bf16(values) if dtype == "BF16" else np.asarray(values).astype(STORAGE[dtype]))

    @property
    def shape(self):
        return self.stored.shape

    @property
    def values(self):
        """Widened exactly: float64 for F64, float32 for the narrower floats."""
        if self.dtype == "BF16":
            return from_bf16(self.stored)
        return self.stored.astype(np.float32) if self.dtype == "F16" else self.stored

    def tobytes(self):
        return self.stored.tobytes()

    def __eq__(self, other):
        return (self.dtype, self.shape, self.tobytes()) == (other.dtype, other.shape, other.tobytes())


def encode(tensors, metadata=None, pad_to=8, data_order=None):
    """The bytes of a safetensors file. The header keeps the order of names; `data_order` may give the data another."""
    header = {} if metadata is None else {"__metadata__": metadata}
    offsets = {}
    data = bytearray()
    for name in data_order or tensors:
        raw = tensors[name].tobytes()
        offsets[name] = [len(data), len(data) + len(raw)]
        data += raw
    for name, tensor in tensors.items():
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets[name]}
    return frame(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode(), data, pad_to)


def frame(header, data=b"", pad_to=1):
    """Length, header (padded with spaces) and data, whatever they hold."""
    header += b" " * (-len(header) % pad_to)
    return b"".join((struct.pack("<Q", len(header)), header, data))


def split(raw):
    """A file's header bytes and data bytes."""
    length, = struct.unpack_from("<Q", raw)
    return raw[8:8 + length], raw[8 + length:]


def decode(raw):
    """(tensors in the header's order, metadata) of a file's bytes."""
    header_bytes, data = split(raw)
    header = json.loads(header_bytes)
    metadata = header.pop("__metadata__", None)
    tensors = {}
    covered = 0
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        stored = np.frombuffer(data[begin:end], dtype=STORAGE[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = Tensor(entry["dtype"], stored)
        covered += end - begin
    assert covered == len(data), "the tensors do not cover the file"
    return tensors, metadata


def write_directory(path, shards, index=True, files=None, metadata=None):
    """A model directory from {shard name: {tensor name: Tensor}} and {other file: bytes}."""
    path = Path(path)
    path.mkdir()
    for shard, tensors in shards.items():
        (path / shard).write_bytes(encode(tensors, metadata))
    if index:
        total = sum(len(tensor.tobytes()) for tensors in shards.values() for tensor in tensors.values())
        weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
        text = json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}, indent=2)
        (path / INDEX).write_text(text + "\n")
    for name, content in (files or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def read(path):
    """All tensors of a .safetensors file or a directory of them."""
    path = Path(path)
    tensors = {}
    for file in sorted(path.glob("*.safetensors")) if path.is_dir() else [path]:
        tensors.update(decode(file.read_bytes())[0])
    return tensors


def tree(path):
    """{relative path: bytes (None for a directory)} of everything below a directory but its report, which has a date."""
    path = Path(path)
    return {str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None
            for entry in sorted(path.rglob("*")) if entry != path / "lox_report.json"}
