# SPDX-License-Identifier: MIT
"""The parts of jobs/bench.sh: each measures, and returns a section of docs/benchmarks.md."""
import argparse
import json
import os
import platform
import re
import statistics
import sys
import textwrap
from pathlib import Path

import numpy as np

from bench import adapter, apply, factor, grid, quantised
from bench.runs import (LOX, copy, harden, make_pair, middle, predict, python, ratio, remove, shards, size, stream,
                        timed)

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/benchmarks.md"


def speed(options):
    """Hardening against copying, full SVDs and Python."""
    layers = 4
    folder = options.work / "speed"
    pair = make_pair(folder, "llama-2-7b", "--layers", layers)
    output, copied, streamed = (folder / name for name in ("hardened", "copy", "stream"))
    tolerance = 1e-4
    choice = json.loads(timed(*python("stream", "choose", *pair, tolerance, 6), threads=2)[1])
    full = json.loads(timed(*python("stream", "full", *pair), threads=2)[1])

    times = {name: [] for name in ("copy", "lox", "copy cold", "lox cold", "stream")}
    reports = []
    for _ in range(options.repeats):
        for suffix in ("", " cold"):
            times["copy" + suffix].append(copy(pair, copied, cold=bool(suffix)))
            remove(copied)
            seconds, report = harden(pair, output, cold=bool(suffix))
            times["lox" + suffix].append(seconds)
            reports.append(report)
        times["stream"].append(stream(pair, streamed, choice))
    tensors = [tensor for tensor in reports[0]["tensors"] if tensor["action"] == "edited"]
    counts = {}
    for tensor in tensors:
        shape = "x".join(map(str, tensor["shape"]))
        counts[shape] = counts.get(shape, 0) + 1
    authors = sum(full[shape] * count for shape, count in counts.items())
    largest = max(np.prod(tensor["shape"]) * 2 for tensor in tensors)
    peak = [report["totals"]["peak_rss_bytes"] / largest for report in reports]
    busy, solving = [], []
    for report in reports[::2]:
        parts, ranks = report["totals"]["rank_seconds"], report["totals"]["ranks"]
        at_work = (parts["solving"] + parts["waiting"] + parts["idle"]) / ranks
        busy.append((at_work - parts["idle"]) / report["totals"]["seconds"])
        solving.append(parts["solving"] / ranks / report["totals"]["seconds"])
    lines = [
        f"Pair: llama-2-7b, {layers} layers and embeddings, {size(pair[0]) / 1e9:.2f} GB each; {moved(reports[0]['totals']):.2f} GB read and written. "
        f"lox on 2 ranks of one thread, k = 6, {options.repeats} runs in turn with the others; median (lowest to highest).\n",
        "| measure | figure | bar | aim |", "| --- | --- | --- | --- |",
        f"| wall time / copying, inputs not in the page cache | {ratio(times['lox cold'], times['copy cold'])} | 2.0 | 1.3 |",
        f"| wall time / copying, inputs in the page cache | {ratio(times['lox'], times['copy'])} | 2.0 | 1.3 |",
        f"| full SVDs / lox | {authors / statistics.median(times['lox']):.0f} | 100 | 300 |",
        f"| streaming Python / lox | {ratio(times['stream'], times['lox'])} | 2 | 4 |",
        f"| peak memory of a rank / bf16 bytes of the largest tensor | {middle(peak)} | 8 | 5 |",
        f"| share of the run's time in which both ranks are at work | {middle(busy)} | 0.9 | 0.95 |",
        f"| the same, solving only | {middle(solving)} | | |",
        "\nSeconds:\n", "| program | cached | not cached |", "| --- | --- | --- |",
        f"| copy (read both, write one, sync) | {middle(times['copy'])} | {middle(times['copy cold'])} |",
        f"| lox harden | {middle(times['lox'])} | {middle(times['lox cold'])} |",
        f"| streaming Python | {middle(times['stream'])} | |",
        f"| full SVDs (torch.linalg.svd, 2 threads), {len(tensors)} matrices | {authors:.0f} | |",
        "\nFull SVDs: one of each shape was timed and multiplied by their number: "
        + ", ".join(f"{shape} {full[shape]:.0f} s x {count}" for shape, count in counts.items())
        + ". Reading and writing are not counted.\n",
        f"Streaming Python: one tensor at a time, k + 10 columns, 2 threads; by shape the faster of `torch.svd_lowrank` and scikit-learn's "
        f"`randomized_svd` with the fewest iterations that reach lox's tolerance ({tolerance:g}): "
        + ", ".join(f"{shape} {how['method'].split('.')[-1]}, {how['iterations']}" for shape, how in choice.items()) + ".\n",
        f"Results: {agreement(output, streamed)}; worst certificate of lox {max(t['certificate'] for t in tensors):.1e}.",
    ]
    return "\n".join(lines)


def agreement(ours, theirs):
    """Share of 16-bit entries that two outputs have in common."""
    equal = total = 0
    for path in shards(ours):
        a, b = (np.fromfile(folder / path.name, dtype="<u2") for folder in (ours, theirs))
        equal, total = equal + np.count_nonzero(a == b), total + len(a)
    return f"{100 * equal / total:.2f}% of the entries of lox's and the streaming output are identical"


def kernels(options):
    """The loops over weights."""
    program = Path(os.environ["LOX_BENCHMARKS"]) / "kernels_benchmark"
    told = json.loads(timed(program, "--benchmark_format=json", "--benchmark_repetitions=5", "--benchmark_report_aggregates_only")[1])
    lines = ["One thread; GB/s of weights and deltas that pass through, GFLOP/s for products. Median of 5.\n",
             "| loop | ms | GB/s | GFLOP/s |", "| --- | --- | --- | --- |"]
    for run in told["benchmarks"]:
        if run["aggregate_name"] == "median":
            flops = f"{run['flops'] / 1e9:.1f}" if "flops" in run else ""
            lines.append(f"| {run['run_name'].replace('_', ' ')} | {run['real_time'] / 1e6:.2f} | {run['bytes_per_second'] / 1e9:.1f} | {flops} |")
    return "\n".join(lines)


def blocks(options):
    """The Krylov method by block size."""
    told = [json.loads(line) for line in timed(Path(os.environ["LOX_BENCHMARKS"]) / "blocks_benchmark")[1].splitlines()]
    sizes = sorted({run["block"] for run in told})
    lines = ["8192 x 4096, one thread, to the default tolerance; best of three. it: iterations.\n",
             "| spectrum | k | " + " | ".join(f"block {size}" for size in sizes) + " |", "| --- | --- |" + " --- |" * len(sizes)]
    for spectrum, k in dict.fromkeys((run["spectrum"], run["k"]) for run in told):
        row = [run for run in told if (run["spectrum"], run["k"]) == (spectrum, k)]
        cells = [f"{run['iterations']} it {run['seconds']:.2f} s" if run["converged"] else f"not in {run['iterations']} it" for run in row]
        lines.append(f"| {spectrum} | {k} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def whole(options):
    """A pair of the size of a 7B model, once."""
    folder = options.work / "whole"
    pair = make_pair(folder, "llama-2-7b")
    floor = copy(pair, folder / "copy", cold=True)
    remove(folder / "copy")
    seconds, report = harden(pair, folder / "hardened", cold=True)
    remove(folder / "hardened")
    totals = report["totals"]
    edited = [tensor for tensor in report["tensors"] if tensor["action"] == "edited"]
    return "\n".join([
        "Pair: llama-2-7b, all layers, random weights. 2 ranks of one thread, k = 6, once; inputs not in the page cache.\n",
        "| | |", "| --- | --- |",
        f"| matrices hardened, tensors copied | {totals['edited']}, {totals['copied']} |",
        f"| read, written | {totals['bytes_read'] / 1e9:.1f} GB, {totals['bytes_written'] / 1e9:.1f} GB |",
        f"| copying the same bytes | {floor:.1f} s |",
        f"| lox harden | {seconds:.1f} s, {seconds / floor:.2f} times as long |",
        f"| peak memory of a rank | {totals['peak_rss_bytes'] / 1e9:.2f} GB |",
        f"| iterations, worst certificate | {max(t['iterations'] for t in edited)} at most, {max(t['certificate'] for t in edited):.1e} |",
    ])


def plan(options):
    """Predicted against measured."""
    lines = ["llama-3-70b, random weights, 2 ranks of one thread; inputs not in the page cache; once each. Predicted by `lox plan`.\n",
             "| layers of 80 | read and written | predicted | measured | predicted / measured |", "| --- | --- | --- | --- | --- |"]
    for layers in (1, 4):
        folder = options.work / f"70b-{layers}"
        pair = make_pair(folder, "llama-3-70b", "--layers", layers)
        told = predict(("plan",), pair, 2)
        seconds, report = harden(pair, folder / "hardened", cold=True)
        lines.append(f"| {layers} | {moved(report['totals']):.1f} GB | {told['seconds']:.1f} s | {seconds:.1f} s | {told['seconds'] / seconds:.2f} |")
        for path in (folder / "hardened", *pair):
            remove(path)
    for shape, ranks in (("llama-3-70b", 16), ("llama-3.1-405b", 64)):
        folder = options.work / f"{shape}-headers"
        told = predict(("plan",), make_pair(folder, shape, "--headers-only"), ranks, "--memory", "32G")
        lines.append(f"| all of {shape}, {ranks} ranks | {moved(told):.0f} GB | {told['seconds']:.0f} s | | |")
    return "\n".join(lines)


def moved(totals):
    return (totals["bytes_read"] + totals["bytes_written"]) / 1e9


def machine():
    """What this ran on."""
    facts = dict(re.findall(r"^([^\t:]+)\t*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    memory = int(re.search(r"MemTotal: *(\d+)", Path("/proc/meminfo").read_text()).group(1)) / 1e6
    level = next((name for name in ("avx512f", "avx2") if name in facts.get("flags", "")), "no AVX2")
    version = timed(LOX, "--version")[1].strip().splitlines()
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return f"{os.cpu_count()} cores of {facts.get('model name', 'a processor')} ({level}), {memory:.0f} GB; {system}; " + "; ".join(version)


PARTS = {"speed": speed, "kernels": kernels, "blocks": blocks, "grid": grid.measure, "whole": whole, "plan": plan,
         "apply": apply.measure, "factor": factor.measure, "adapter": adapter.measure, "quantised": quantised.measure}


def wrapped(section):
    """Prose in lines of at most 120 columns; tables as they are."""
    return "\n".join(line if line.startswith("|") else textwrap.fill(line, 118, break_on_hyphens=False)
                     for line in section.split("\n"))


def main():
    parser = argparse.ArgumentParser(prog="jobs/bench.sh", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[], help="default: speed kernels blocks grid")
    parser.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("build/bench"))
    options = parser.parse_args()
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    for part in options.parts or ["speed", "kernels", "blocks", "grid"]:
        section = wrapped(f"Measured on {machine()}.\n\n{PARTS[part](options)}")
        print(f"## {part}\n\n{section}\n", flush=True)
        if options.write:
            text = DOCUMENT.read_text()
            begin, end = f"<!-- {part} -->", f"<!-- end of {part} -->"
            if begin not in text or end not in text:
                sys.exit(f"{DOCUMENT} has no place for {part}")
            DOCUMENT.write_text(text[:text.index(begin) + len(begin)] + f"\n{section}\n" + text[text.index(end):])


if __name__ == "__main__":
    main()
