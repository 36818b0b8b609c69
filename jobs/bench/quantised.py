# SPDX-License-Identifier: MIT
"""A pair in FP8 against the same weights in BF16."""
import sys

from bench.runs import harden, make_pair, middle, mpirun, ratio, remove, size, timed

SHAPE, LAYERS = "mistral-7b", 4


def make_bf16(folder, pair):
    """The values of FP8 models rounded to BF16, so that both Deltas have the same spectrum; made once."""
    folder.mkdir(exist_ok=True)
    for this, other, name in ((*pair, "base"), (*reversed(pair), "aligned")):
        if not (folder / name).exists():
            timed(*mpirun(2, "harden", "--base", other, "--aligned", this, "--k", 1, "--tolerance", 0.1, "--coef", 0, "--output", folder / name, "--quiet"))
    return folder / "base", folder / "aligned"


def measure(options):
    fp8 = make_pair(options.work / "quantised-FP8", SHAPE, "--layers", LAYERS, "--quantised", "fp8")
    pairs = {"BF16": make_bf16(options.work / "quantised-BF16", fp8), "FP8": fp8}
    seconds, peaks, read = {}, {}, {}
    for _ in range(options.repeats):  # in turn
        for cold in (False, True):
            for name, pair in pairs.items():
                output = pair[0].with_name("hardened")
                taken, report = harden(pair, output, cold=cold)
                remove(output)
                seconds.setdefault((name, cold), []).append(taken)
                peaks.setdefault(name, []).append(report["totals"]["peak_rss_bytes"])
                read[name] = report["totals"]["bytes_read"]
                print(f"{name}, {'not ' if cold else ''}cached: {taken:.2f} s", file=sys.stderr, flush=True)
    lines = [
        f"Pair: {SHAPE}, {LAYERS} layers and embeddings, {size(pairs['BF16'][0]) / 1e9:.2f} GB each in BF16, {size(pairs['FP8'][0]) / 1e9:.2f} GB with the "
        f"matrices of the layers in FP8, blocks of 128 x 128. lox harden on 2 ranks of one thread, k = 6, {options.repeats} runs in turn; median (lowest to "
        "highest). The BF16 pair has the values of the FP8 pair, rounded, so that both Deltas have the same spectrum: that of FP8's rounding, which is harder "
        "to solve than a trained Delta.\n",
        "| | BF16 | FP8 | FP8 / BF16 | bar |", "| --- | --- | --- | --- | --- |",
    ]
    for cold in (True, False):
        lines.append(f"| seconds, inputs {'not ' if cold else ''}in the page cache | {middle(seconds['BF16', cold])} | {middle(seconds['FP8', cold])} | "
                     f"{ratio(seconds['FP8', cold], seconds['BF16', cold])} | {'1.0' if cold else ''} |")
    lines += [f"| GB read | {read['BF16'] / 1e9:.2f} | {read['FP8'] / 1e9:.2f} | {read['FP8'] / read['BF16']:.2f} | |",
              f"| peak memory of a rank, GB | {max(peaks['BF16']) / 1e9:.2f} | {max(peaks['FP8']) / 1e9:.2f} | "
              f"{max(peaks['FP8']) / max(peaks['BF16']):.2f} | |"]
    return "\n".join(lines)
