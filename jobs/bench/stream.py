# SPDX-License-Identifier: MIT
"""What a skilled user would write in Python: one tensor at a time, a randomised SVD, bf16 out.

    stream.py choose BASE ALIGNED CERTIFICATE K   prints as JSON, by shape, the faster of torch.svd_lowrank and sklearn's
                                                  randomized_svd with the fewest iterations that reach the certificate
    stream.py run BASE ALIGNED OUTPUT CHOICE      hardens with that choice, k = 6
    stream.py full BASE ALIGNED                   prints as JSON, by shape, seconds of one full SVD as the authors' script does
"""
import json
import mmap
import os
import sys
import time
from pathlib import Path

import torch
from sklearn.utils.extmath import randomized_svd

K, COEF, OVERSAMPLING, MOST = 6, 1.25, 10, 128


def tensors(folder):
    """(shard, name, shape, bytes' position) of every tensor, in file order."""
    for path in sorted(Path(folder).glob("*.safetensors")):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items(), key=lambda pair: pair[1]["data_offsets"]):
            yield path, name, entry["shape"], 8 + length + entry["data_offsets"][0]


class Reader:
    """Tensors out of mapped shards."""

    def __init__(self, folder):
        self.places = {name: (path, shape, at) for path, name, shape, at in tensors(folder)}
        self.maps = {}

    def __getitem__(self, name):
        path, shape, at = self.places[name]
        if path not in self.maps:
            with open(path, "rb") as file:
                self.maps[path] = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_PRIVATE)
        return torch.frombuffer(self.maps[path], dtype=torch.bfloat16, count=torch.Size(shape).numel(), offset=at).view(shape)


def lowrank(method, delta, k, iterations):
    if method == "torch.svd_lowrank":
        u, s, v = torch.svd_lowrank(delta, q=k + OVERSAMPLING, niter=iterations)
        return u[:, :k], s[:k], v[:, :k].T
    u, s, vt = randomized_svd(delta.numpy(), k, n_oversamples=OVERSAMPLING, n_iter=iterations, random_state=0)
    return map(torch.from_numpy, (u, s, vt))


def certificate(delta, u, s, vt):
    left = (delta @ vt.T - u * s).norm(dim=0)
    right = (delta.T @ u - vt.T * s).norm(dim=0)
    return float((torch.maximum(left, right) / s).max())


def delta_of(base, aligned, name):
    return aligned[name].float() - base[name].float()


def by_shape(folder):
    """The first matrix of every shape."""
    found = {}
    for _, name, shape, _ in tensors(folder):
        if len(shape) == 2:
            found.setdefault("x".join(map(str, shape)), name)
    return found


def fewest(method, delta, wanted, k):
    """Iterations that reach the certificate, and the seconds that they take; nothing if MOST do not."""
    def tried(iterations):
        start = time.monotonic()
        found = tuple(lowrank(method, delta, k, iterations))
        seconds = time.monotonic() - start
        return seconds if certificate(delta, *found) <= wanted else None

    below, enough, seconds = 0, 1, tried(1)
    while seconds is None:
        below, enough = enough, 2 * enough
        if enough > MOST:
            return None
        seconds = tried(enough)
    while enough - below > 1:
        middle = (below + enough) // 2
        found = tried(middle)
        if found is None:
            below = middle
        else:
            enough, seconds = middle, found
    return {"method": method, "iterations": enough, "seconds": seconds}


def choose(base, aligned, wanted, k):
    base, models, choice = Reader(base), Reader(aligned), {}
    for shape, name in by_shape(aligned).items():
        delta = delta_of(base, models, name)
        found = [fewest(method, delta, wanted, k) for method in ("torch.svd_lowrank", "randomized_svd")]
        choice[shape] = min((how for how in found if how), key=lambda how: how["seconds"])
    print(json.dumps(choice))


def run(base, aligned, output, choice):
    base, models, output = Reader(base), Reader(aligned), Path(output)
    output.mkdir()
    for path in sorted(Path(aligned).glob("*.safetensors")):
        with open(path, "rb") as source:
            length = int.from_bytes(source.read(8), "little")
            source.seek(0)
            header = source.read(8 + length)
        with open(output / path.name, "wb") as target:
            target.write(header)
            for shard, name, shape, _ in tensors(aligned):
                if shard != path:
                    continue
                weights = models[name]
                if len(shape) == 2:
                    how = choice["x".join(map(str, shape))]
                    u, s, vt = lowrank(how["method"], delta_of(base, models, name), K, how["iterations"])
                    weights = torch.addmm(weights.float(), u * s, vt, alpha=COEF).bfloat16()
                target.write(weights.contiguous().view(torch.int16).numpy())
            target.flush()
            os.fsync(target.fileno())


def full(base, aligned):
    base, models, seconds = Reader(base), Reader(aligned), {}
    for shape, name in by_shape(aligned).items():
        delta = delta_of(base, models, name)
        start = time.monotonic()
        torch.linalg.svd(delta, full_matrices=False)
        seconds[shape] = time.monotonic() - start
    print(json.dumps(seconds))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if sys.argv[1] == "choose":
        choose(*sys.argv[2:4], float(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1] == "run":
        run(*sys.argv[2:5], json.loads(sys.argv[5]))
    else:
        full(*sys.argv[2:4])
