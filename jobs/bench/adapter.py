# SPDX-License-Identifier: MIT
"""A LoRA made of two checkpoints: lox factor and adapter against mergekit-extract-lora, at the same rank."""
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.runs import LOX, make_pair, mpirun, remove, settle, size

LAYERS, RANK = 2, 32
MERGEKIT, TORCH = "0.1.5", "2.13.0"
CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008,
          "num_hidden_layers": LAYERS, "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000,
          "torch_dtype": "bfloat16", "tie_word_embeddings": False}
# Peak memory of a program, in a process of its own: a child's count begins with its parent's.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
print(1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def measured(*command, threads):
    """Wall seconds and peak resident bytes of the largest process."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", MEASURE, *map(str, command)], env=environment, stdout=subprocess.PIPE, text=True,
                          check=True)
    return time.monotonic() - start, int(done.stdout.split()[-1])


def mergekit(folder):
    """The program, from a virtual environment of its own; MERGEKIT may name another."""
    if "MERGEKIT" in os.environ:
        return os.environ["MERGEKIT"]
    venv = folder / "mergekit"
    program = venv / "bin/mergekit-extract-lora"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "-q", f"mergekit=={MERGEKIT}", f"torch=={TORCH}"], check=True)
    return program


def versions(program):
    """Of mergekit and torch, as they are installed beside the program."""
    asked = "import importlib.metadata as m; print('mergekit', m.version('mergekit') + ', torch', m.version('torch'))"
    return subprocess.run([Path(program).parent / "python", "-c", asked], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def tensors(folder):
    """{name: matrix in double} of a folder's safetensors, one after the other."""
    for path in sorted(folder.glob("*.safetensors")):
        with open(path, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            start = file.tell()
            for name, entry in header.items():
                if name == "__metadata__" or len(entry["shape"]) != 2:
                    continue
                first, last = entry["data_offsets"]
                file.seek(start + first)
                raw = file.read(last - first)
                values = np.frombuffer(raw, "<f4") if entry["dtype"] == "F32" else (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
                yield name, values.reshape(entry["shape"]).astype(np.float64)


def error(pair, folder):
    """|Delta - scale B A| / |Delta|, all matrices of the adapter together."""
    config = json.loads((folder / "adapter_config.json").read_text())
    factors = dict(tensors(folder))
    aligned = tensors(pair[1])
    beside = squares = count = 0
    for (name, base), (again, tuned) in zip(tensors(pair[0]), aligned):
        assert name == again
        module = f"base_model.model.{name.removesuffix('.weight')}"
        if module + ".lora_A.weight" not in factors:
            continue
        delta = tuned - base
        product = factors[module + ".lora_B.weight"] @ factors[module + ".lora_A.weight"]
        beside += np.sum((delta - config["lora_alpha"] / config["r"] * product) ** 2)
        squares += np.sum(delta**2)
        count += 1
    assert count == 7 * LAYERS, count
    return np.sqrt(beside / squares)


def measure(options):
    folder = options.work / "adapter"
    pair = make_pair(folder, "llama-2-7b", "--layers", LAYERS)
    for path in pair:
        (path / "config.json").write_text(json.dumps(CONFIG))
    program = mergekit(folder)
    skip = "embed_tokens|lm_head"
    extracted, store = folder / "extracted", folder / "store"
    subprocess.run(["rm", "-rf", extracted], check=True)
    settle(pair, cold=False)
    theirs = measured(program, "--model", pair[1], "--base-model", pair[0], "--out-path", extracted, "--max-rank", RANK, "-e", skip,
                      threads=2)
    rows = [("mergekit-extract-lora", *theirs, size(extracted), error(pair, extracted))]
    for dtype in ("F32", "BF16"):
        ours = folder / f"lox-{dtype}"
        for path in (store, ours):
            remove(path)
        settle(pair, cold=False)
        first = measured(*mpirun(2, "factor", "--base", pair[0], "--aligned", pair[1], "--k", RANK, "--exclude", skip, "--output", store),
                         threads=1)
        second = measured(LOX, "adapter", "--factors", store, "--coef", 1, "--onto", "base", "--dtype", dtype, "--output", ours, threads=1)
        peak = max(2 * json.loads(Path(f"{store}.report.json").read_text())["totals"]["peak_rss_bytes"], second[1])
        rows.append((f"lox factor and adapter, {dtype}", first[0] + second[0], peak, size(ours), error(pair, ours)))
    lines = [
        f"Pair: {LAYERS} layers of llama-2-7b, 7 matrices each (4096 x 4096, 11008 x 4096, 4096 x 11008), rank {RANK}; embeddings are left out by all. "
        f"{versions(program)}, 2 threads; lox on 2 ranks of one thread, their memory together. Files in the page cache; once each.\n",
        "| program | seconds | peak memory | adapter | \\|Delta - BA\\| / \\|Delta\\| |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {name} | {seconds:.1f} | {peak / 1e9:.2f} GB | {bytes_ / 1e6:.0f} MB | {off:.5f} |" for name, seconds, peak, bytes_, off in rows]
    lines.append(f"\nmergekit / lox (F32): {rows[0][1] / rows[1][1]:.1f} times the time, {rows[0][2] / rows[1][2]:.1f} times the memory. Aim: 30, 10, "
                 "and an error no larger.")
    return "\n".join(lines)
