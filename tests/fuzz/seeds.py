#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the seed corpora and dictionaries of the fuzz targets: seeds.py FOLDER."""
import json
import sys
from pathlib import Path

import h5py
import numpy as np

HEADERS = [
    {},
    {"__metadata__": {"format": "pt"}},
    {"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}},
    {"__metadata__": {"a": "b"}, "a/b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [2, 10]},
     "\u00e9": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}},
    {"e": {"dtype": "F64", "shape": [0, 7], "data_offsets": [0, 0]},
     "s": {"dtype": "I64", "shape": [], "data_offsets": [0, 8]},
     "x": {"dtype": "F8_E4M3", "shape": [1, 1, 1, 1], "data_offsets": [8, 9]}},
    {"f4": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]},
     "b": {"dtype": "BOOL", "shape": [1], "data_offsets": [2, 3]}},
    {"w": {"dtype": "BF16", "shape": [2**40, 2**40], "data_offsets": [0, 2**53]}},
    {"w": {"shape": [1], "dtype": "F16", "data_offsets": [0, 2], "more": {"deep": [[[1.5, None, True, -1]]]}}},
]
INDEXES = [
    {"metadata": {"total_size": 10},
     "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}},
    {"weight_map": {"": "x.safetensors"}},
    {"weight_map": {"a": "../x.safetensors"}},
    {"weight_map": {"a": "/etc/x.safetensors"}},
    {"weight_map": {}},
]


def part(begin, shape, dtype="BF16", width=2):
    """The header of a file with a part of tensor w."""
    size = width * int(np.prod(shape))
    return {"__metadata__": {"DCP_SHARDING_INFO": json.dumps({"w": {"saved_offsets": begin}})},
            "w": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


SHARDINGS = [
    [part([0, 0], [2, 3]), part([2, 0], [1, 3])],
    [part([0, 0], [2, 3]), part([0, 3], [2, 1]), part([2, 0], [2, 3]), part([2, 3], [2, 1])],
    [part([0, 0, 0], [1, 2, 2], "F64", 8), part([1, 0, 0], [1, 2, 2], "F64", 8), part([2, 0, 0], [0, 2, 2], "F64", 8)],
    [part([], [], "F32", 4), {"v": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}],
    [part([0], [3]), part([2], [3])],
    [part([0], [3]), part([9007199254740992], [3])],
    [part([0, 0], [300, 40], "U8", 1), part([0, 40], [300, 5000], "U8", 1)],
]
SPECTRUM = {"where": "grid", "method": "krylov", "k": 3, "sigma": [3.5, 2.25, 1e-7], "certificate": [1e-5, 1e-7],
            "missed": [0.3, 1e-9], "settled": True, "iterations": 5, "delta_norm": 4.0}
COPIED = {"name": "model.norm.weight", "matrix": 0, "action": "copied", "entries": 32,
          "spectrum": {**SPECTRUM, "k": 0, "sigma": [], "delta_norm": 0}, "edits": [], "seconds": [0.5, 0, 1e-3],
          "bytes": [64, 64], "pieces": [[0, 4, 0, 64, 12345678901234567890]]}
EDITED = {**COPIED, "name": "layers.0.q.weight", "matrix": 1, "action": "edited", "spectrum": SPECTRUM,
          "edits": [[5.0, 24.5, 17]], "pieces": [[0, 7, 0, 32, 1], [0, 7, 32, 32, 2]]}
JOBS = [
    "base = Llama-2-7b-hf\naligned = Llama-2-7b-chat-hf\noutput = out\n",
    "base=b\naligned=a\noutput=o.h5\nk = 6\ncoef=1.25\nsvd = krylov\ntolerance = 1e-4\ngrid=auto\nmemory = 8GiB\n"
    "include = ^model\\.layers\\.\nexclude = embed|lm_head\nseed = 7\nreport = r.json\noverwrite = yes\n"
    "time-limit = 1:30:00\nrecheck = 1\nquiet = true\n",
    "# a comment\n[section]\nk = 0\n",
    "base=b\naligned=a\noutput=o\nk=-1\n",
    "base=b\naligned=a\noutput=o\ncoef=nan\nsvd=exact\ngrid=never\ntime-limit=90s\n",
    "base=b\naligned=a\noutput=o\ninclude=([a-z]+){3,5}?\\d\n",
]
PAIRS = [  # a line a tensor: base or aligned, dtype, shape, name; or a rule
    "bB23model.norm\naB23model.norm\nbI3n\naI3n\n",
    "bB32model.embed_tokens.weight\naB32model.language_model.embed_tokens.weight\naB32lm_head.weight\n",
    "bF32x\nbF32lm_head.weight\nbF32embed_tokens.weight\naF32x\naF32embed_tokens.weight\nt1\n",
    "bB42x\naB62x\ne\naB232y\nu\n",
    "bB32a.q\naB32b.q\nra\\.(.*)=b.\\1\n",
    "bB22x\nbB22model.x\naB22x\nu\n",
    "bB412h.conv1d.weight\naB412h.conv1d.weight\nxnorm\ni.\naB3norm\n",
]
WORDS = {
    "header": ['"__metadata__"', '"dtype"', '"shape"', '"data_offsets"', '"BF16"', '"F32"', '"F4"', '"F6_E3M2"',
               '"C64"', '"DCP_SHARDING_INFO"', "9007199254740992", "\\u0000", "\\ud83d"],
    "sharding": ['\\"saved_offsets\\"', '"DCP_SHARDING_INFO"', '"__metadata__"', '"shape"', '"data_offsets"', "[0,0]",
                 "9007199254740992", "\n"],
    "index": ['"weight_map"', '"metadata"', ".safetensors", "../", "\\u0000", "\\u002f"],
    "hdf5": ["TREE", "SNOD", "HEAP", "OHDR", "FRHP", "BTHD", "lox_format", "tensors", "files", "layout",
             "dtype", "name"],
    "journal": [f'"{key}"' for key in (*EDITED, *SPECTRUM)] + ['"exact"', '"full"', '"local"', "18446744073709551615", "1e308", "\n"],
    "pairing": ["model.", "model.language_model.", "language_model.", "language_model.model.", "embed_tokens.weight",
                "lm_head.weight", "conv1d.weight", "\nbB22", "\naB22", "\nr", "\nu", "\ne", "\nt1", "\nx", "\ni"],
    "job": ["base=", "aligned=", "output=", "k=", "coef=", "svd=", "tolerance=", "grid=", "memory=", "include=",
            "exclude=", "seed=", "report=", "overwrite=", "recheck=", "time-limit=", "config=", "help=", "inf",
            "1e999"],
}


def write_hdf5(path, make):
    with h5py.File(path, "w", libver=("earliest", "v108")) as file:
        make(file)


def bf16():
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def add(group, name, dtype, values, kind=None):
    """A dataset as lox writes it."""
    values = np.asarray(values)
    created = h5py.h5d.create(group.id, name.encode(), kind or h5py.h5t.py_create(values.dtype),
                              h5py.h5s.create_simple(values.shape))
    if values.size:
        created.write(h5py.h5s.ALL, h5py.h5s.ALL, values)
    h5py.Dataset(created).attrs.create("dtype", np.bytes_(dtype))
    return h5py.Dataset(created)


def own(file, layout=True):
    file.attrs["lox_format"] = 1
    tensors = file.create_group("tensors")
    add(tensors, "w", "BF16", np.ones((2, 3), np.float32), bf16())
    add(tensors, "a%2Fb", "F32", np.ones((1, 2), np.float32)).attrs.create("name", np.bytes_("a/b"))
    files = file.create_group("files")
    files["config.json"] = np.frombuffer(b"{}\n", np.uint8)
    if layout:
        header = json.dumps({"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
                             "a/b": {"dtype": "F32", "shape": [1, 2], "data_offsets": [12, 20]}})
        text = json.dumps({"made_up": False, "shards": [{"name": "model.safetensors", "header": header}]})
        file["layout"] = np.frombuffer(text.encode(), np.uint8)


def foreign(file):
    file["net/block/w"] = np.arange(12, dtype=np.float32).reshape(3, 4)
    file["net/bias"] = np.arange(3, dtype=">f8")
    file.create_dataset("chunked", data=np.arange(64, dtype=np.float16).reshape(8, 8), chunks=(4, 4),
                        compression="gzip", shuffle=True, fletcher32=True)


def links(file):
    file["w"] = np.ones((2, 2), np.float32)
    file["soft"] = h5py.SoftLink("/w")
    file["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
    file.create_group("round")["self"] = file["/"]


def write_seeds(folder):
    folder = Path(folder)
    texts = {
        "header": [json.dumps(header) for header in HEADERS] + [' {"w":{}} ', "[]", '{"a":1,"a":2}'],
        "index": [json.dumps(index) for index in INDEXES],
        "sharding": ["\n".join(json.dumps(header) for header in files) for files in SHARDINGS],
        "journal": [json.dumps(COPIED) + "\n", json.dumps(EDITED) + "\n" + json.dumps(COPIED) + "\n",
                    json.dumps(EDITED) + "\n" + json.dumps(EDITED)[:40]],
        "job": JOBS,
        "pairing": PAIRS,
    }
    for target, seeds in texts.items():
        (folder / target).mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds):
            (folder / target / f"seed-{i}").write_text(seed)
    (folder / "hdf5").mkdir(exist_ok=True)
    for make in (own, lambda file: own(file, layout=False), foreign, links):
        write_hdf5(folder / "hdf5" / f"seed-{len(list((folder / 'hdf5').iterdir()))}", make)
    for target, words in WORDS.items():
        quoted = ["".join(c if c.isalnum() else f"\\x{ord(c):02x}" for c in word) for word in words]
        (folder / f"{target}.dict").write_text("".join(f'"{word}"\n' for word in quoted))


if __name__ == "__main__":
    write_seeds(sys.argv[1])
