# SPDX-License-Identifier: MIT
"""Writes a model as torch.distributed.checkpoint's HuggingFaceStorageWriter does: each rank's parts in files of its
own, and where they begin in the files' DCP_SHARDING_INFO. Shares no code with lox, nor with torch."""
import itertools
import json
from pathlib import Path

import numpy as np

import checkpoint
from checkpoint import Tensor

INFO = "DCP_SHARDING_INFO"


def name_of(rank, number=1, count=1):
    """Files count from 1, ranks too."""
    return f"shard-{rank + 1:05}-model-{number:05}-of-{count:05}.safetensors"


def chunks(size, count):
    """[(begin, end)] as torch.chunk cuts; empty where nothing is left for a rank."""
    step = -(-size // count)
    return [(min(i * step, size), min((i + 1) * step, size)) for i in range(count)]


def cut(tensor, cuts):
    """[(offsets, part)] for a grid of cuts {dimension: pieces or [(begin, end)]}, the first dimension slowest."""
    pieces = [cuts.get(d, [(0, size)]) for d, size in enumerate(tensor.shape)]
    pieces = [each if isinstance(each, list) else chunks(size, each) for each, size in zip(pieces, tensor.shape)]
    return [([begin for begin, _ in box], Tensor(tensor.dtype, tensor.stored[tuple(slice(*edges) for edges in box)]))
            for box in itertools.product(*pieces)]


def parts_of(tensors, ranks, cuts):
    """[{name: (offsets, part)}] of each rank. `cuts`: {name: as in cut()}, {} for a tensor that is not cut, which one
    rank has; else all are cut along dimension 0. There are more ranks if a tensor has more parts."""
    parts = {name: cut(tensor, cuts.get(name, {0: ranks} if tensor.shape else {})) for name, tensor in tensors.items()}
    files = [{} for _ in range(max(ranks, *map(len, parts.values())))]
    for number, (name, each) in enumerate(parts.items()):
        for place, part in enumerate(each):
            files[place if len(each) > 1 else number % ranks][name] = part
    return files


def encode(parts, info=None):
    """The bytes of a file of {name: (offsets, part)}; `info` instead of the right sharding info."""
    right = json.dumps({name: {"saved_offsets": offsets} for name, (offsets, _) in parts.items()})
    metadata = {INFO: right if info is None else info, "DCP_VERSION": "1.0", "format": "pt"}
    return checkpoint.encode({name: part for name, (_, part) in parts.items()}, metadata)


def write(path, tensors, ranks, cuts=None, files_each=1, others=None):
    """A folder; of each rank `files_each` files, if it has tensors enough. `others`: {other file: bytes}."""
    path = Path(path)
    path.mkdir()
    names = list(tensors)
    for rank, parts in enumerate(parts_of(tensors, ranks, cuts or {})):
        for number in range(files_each):
            mine = {name: part for name, part in parts.items() if names.index(name) % files_each == number}
            if mine:
                (path / name_of(rank, number + 1, files_each)).write_bytes(encode(mine))
    for name, content in (others or {}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def random_cuts(rng, shape, most=4):
    """Uneven cuts of any dimensions, some pieces empty."""
    cuts = {}
    for d, size in enumerate(shape):
        if rng.random() < 0.6:
            edges = sorted(rng.integers(0, size + 1, rng.integers(0, most)).tolist())
            cuts[d] = list(itertools.pairwise([0, *edges, size]))
    return cuts


def random_values(rng, dtype, shape):
    """A tensor of any bits."""
    stored = np.dtype(checkpoint.STORAGE[dtype])
    return Tensor(dtype, np.frombuffer(rng.bytes(stored.itemsize * int(np.prod(shape))), stored).reshape(shape))
