# SPDX-License-Identifier: MIT
"""Programs under the clock, and the state of the machine before each."""
import json
import mmap
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LOX = os.environ.get("LOX", "lox")
HERE = Path(__file__).resolve().parent


def timed(*command, threads=1, codes=(0,)):
    """Wall seconds of a program and what it prints, which is shown if it ends with another code."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    start = time.monotonic()
    done = subprocess.run([str(word) for word in command], env=environment, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    seconds = time.monotonic() - start
    if done.returncode not in codes:
        sys.exit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return seconds, done.stdout


def mpirun(ranks, *arguments):
    return ["mpirun", "-n", ranks, LOX, *arguments]


def python(module, *arguments):
    return [sys.executable, HERE / f"{module}.py", *arguments]


def make_pair(folder, shape, *options):
    """A base and an aligned checkpoint of random weights, made once."""
    folder.mkdir(exist_ok=True)
    for role in ("base", "aligned"):
        if not (folder / role).exists():
            timed(*mpirun(2, "synth", folder / role, "--shape", shape, "--role", role, "--quiet", *options))
    return folder / "base", folder / "aligned"


def shards(folder):
    return sorted(folder.glob("*.safetensors"))


def size(folder):
    return sum(path.stat().st_size for path in shards(folder))


def settle(inputs, cold):
    """The same state before every run: nothing to be written left over, inputs in the page cache or not, and memory that
    the machine really has (a virtual machine gets it from its host on first touch, which takes longer than copying)."""
    os.sync()
    for folder in inputs:
        for path in shards(folder):
            with open(path, "rb", buffering=0) as file:
                if cold:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                else:
                    buffer = bytearray(32 << 20)
                    while file.readinto(buffer):
                        pass
    free = int(next(line for line in open("/proc/meminfo") if line.startswith("MemFree")).split()[1]) << 10
    with mmap.mmap(-1, max(1 << 30, min(8 << 30, free * 3 // 4))) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(memory), 1 << 21):
            memory[at:at + (1 << 21)] = bytes(min(1 << 21, len(memory) - at))


def harden(pair, output, cold=False):
    """Hardens the pair on two ranks; returns wall seconds and the report."""
    base, aligned = pair
    remove(output)
    settle(pair, cold)
    seconds, _ = timed(*mpirun(2, "harden", "--base", base, "--aligned", aligned, "--output", output))
    return seconds, json.loads(Path(f"{output}.report.json").read_text())


def predict(command, pair, ranks, *options):
    """The totals that `lox plan` or `lox plan TASK` tells, which ends with 5 where the disk is too small for the output."""
    base, aligned = pair
    told = timed(LOX, *command, "--base", base, "--aligned", aligned, "--output", base.with_name("planned"),
                 "--ranks", ranks, "--json", *options, codes=(0, 5))[1]
    return json.JSONDecoder().raw_decode(told)[0]["totals"]  # a complaint may follow


def copy(pair, output, cold=False):
    """Reads both, writes a copy of the second and syncs it; returns wall seconds."""
    remove(output)
    settle(pair, cold)
    return timed(*python("plain_copy", *pair, output))[0]


def stream(pair, output, choice):
    """The streaming Python program on two threads; returns wall seconds."""
    remove(output)
    settle(pair, cold=False)
    return timed(*python("stream", "run", *pair, output, json.dumps(choice)), threads=2)[0]


def remove(output):
    for path in (output, Path(f"{output}.partial"), Path(f"{output}.journal")):
        shutil.rmtree(path, ignore_errors=True)
    Path(f"{output}.report.json").unlink(missing_ok=True)


def middle(values):
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratio(over, under):
    """Of runs in turn: the median of the ratios of neighbours."""
    return middle([a / b for a, b in zip(over, under)])


def bf16(values):
    """float32 to the bits of bfloat16, to nearest even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def make_layer(folder):
    """One layer of the shapes of Llama-2-7B whose Delta has a power law of singular values, made once."""
    folder.mkdir(exist_ok=True)
    pair = folder / "base", folder / "aligned"
    if all(half.exists() for half in pair):
        return pair
    random = np.random.default_rng(1)
    shapes = {"q": (4096, 4096), "k": (4096, 4096), "v": (4096, 4096), "o": (4096, 4096),
              "gate": (11008, 4096), "up": (11008, 4096), "down": (4096, 11008)}
    names = [(f"model.layers.0.{name}_proj.weight", shape) for name, shape in shapes.items()]
    header, at = {}, 0
    for name, shape in names:
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + 2 * shape[0] * shape[1]]}
        at = header[name]["data_offsets"][1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    files = []
    for half in pair:
        half.mkdir()
        files.append(open(half / "model.safetensors", "wb"))
        files[-1].write(len(text).to_bytes(8, "little") + text)
    for _, (rows, cols) in names:
        base = np.float32(0.02) * random.standard_normal((rows, cols), dtype=np.float32)
        left, right = (random.standard_normal((size, 512), dtype=np.float32) for size in (rows, cols))
        sigma = np.arange(1, 513, dtype=np.float32) ** -0.75
        delta = (left * sigma) @ right.T
        delta *= np.float32(1e-3) / delta.std()
        for file, values in zip(files, (base, base + delta)):
            bf16(values).tofile(file)
    for file in files:
        file.close()
    return pair
