# SPDX-License-Identifier: MIT
"""Models of which only the headers are there: tables {name: (dtype, shape)}, read from safetensors files and written as
sparse ones, at full size and without a byte of weights on the disk."""
import json
import math
import struct
from pathlib import Path

import checkpoint

WIDTH = {"F64": 8, "F32": 4, "I32": 4, "I64": 8, "BF16": 2, "F16": 2, "F8_E4M3": 1, "U8": 1}
AT_ONCE = 2000  # tensors of a file


def read(path):
    """The table of a model."""
    table = {}
    for file in sorted(Path(path).glob("*.safetensors")):
        with open(file, "rb") as opened:
            length, = struct.unpack("<Q", opened.read(8))
            for name, entry in json.loads(opened.read(length)).items():
                if name != "__metadata__":
                    table[name] = entry["dtype"], entry["shape"]
    return table


def write(path, table, config=b"{}"):
    """A folder of sparse files with an index."""
    path = Path(path)
    path.mkdir()
    (path / "config.json").write_bytes(config)
    names = list(table)
    weight_map, total = {}, 0
    for number, start in enumerate(range(0, len(names), AT_ONCE)):
        header, end = {}, 0
        for name in names[start:start + AT_ONCE]:
            dtype, shape = table[name]
            begin, end = end, end + math.prod(shape) * WIDTH[dtype]
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
            weight_map[name] = f"model-{number}.safetensors"
        raw = checkpoint.frame(json.dumps(header).encode(), pad_to=8)
        with open(path / f"model-{number}.safetensors", "wb") as file:
            file.write(raw)
            file.truncate(len(raw) + end)
        total += end
    (path / checkpoint.INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
