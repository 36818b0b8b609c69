# SPDX-License-Identifier: MIT
"""A store of many triplets against full SVDs and against what one would write in Python."""
import json
import statistics

from bench.runs import make_layer, make_pair, middle, mpirun, predict, python, remove, settle, size, timed

K = 64


def factor(pair, output):
    """Factors the pair on two ranks; returns wall seconds and the report."""
    remove(output)
    settle(pair, cold=False)
    seconds, _ = timed(*mpirun(2, "factor", "--base", pair[0], "--aligned", pair[1], "--k", K, "--output", output))
    return seconds, json.loads(output.with_name(f"{output.name}.report.json").read_text())


def seconds_of(pair, k, ranks):
    return predict(("plan", "factor"), pair, ranks, "--k", k)["seconds"]


def measure(options):
    folder = options.work / "factor"
    pair = make_layer(folder)
    large = make_pair(folder / "llama-3-70b", "llama-3-70b", "--headers-only")
    runs = [factor(pair, folder / "factors") for _ in range(options.repeats)]
    seconds = [wall for wall, _ in runs]
    tensors = runs[0][1]["tensors"]
    certificate = max(tensor["certificate"] for tensor in tensors)
    choice = json.loads(timed(*python("stream", "choose", *pair, certificate, K), threads=2)[1])
    full = json.loads(timed(*python("stream", "full", *pair), threads=2)[1])
    counts = {}
    for tensor in tensors:
        shape = "x".join(map(str, tensor["shape"]))
        counts[shape] = counts.get(shape, 0) + 1
    whole = sum(full[shape] * count for shape, count in counts.items())
    lowrank = sum(choice[shape]["seconds"] * count for shape, count in counts.items())
    parts = [statistics.median(report["totals"]["rank_seconds"][part] / 2 for _, report in runs) for part in ("solving", "idle")]
    return "\n".join([
        f"One layer of the shapes of Llama-2-7B, {size(pair[0]) / 1e9:.2f} GB each; singular values of Delta fall like i^-0.75 down to rank 512, then "
        f"rounding. lox factor --k {K} on 2 ranks of one thread, reading and writing counted, {options.repeats} runs; the others on 2 threads, solving only, "
        "one matrix of each shape timed.\n",
        "| program | seconds | times lox | bar |", "| --- | --- | --- | --- |",
        f"| lox factor --k {K} | {middle(seconds)} | | |",
        f"| the faster of torch.svd_lowrank and randomized_svd | {lowrank:.1f} | {lowrank / statistics.median(seconds):.1f} | 3 |",
        f"| torch.linalg.svd | {whole:.0f} | {whole / statistics.median(seconds):.0f} | 10 |",
        f"\nOf lox's seconds a rank solves {parts[0]:.1f} and has nothing to do for {parts[1]:.1f}. Worst certificate of the store {certificate:.1e}; the "
        "fewest iterations that reach it too: "
        + ", ".join(f"{shape} {how['method'].split('.')[-1]} {how['iterations']}" for shape, how in choice.items())
        + ". Full SVDs: " + ", ".join(f"{shape} {full[shape]:.0f} s x {count}" for shape, count in counts.items()) + ".",
        f"\nPredicted by `lox plan factor` for this layer {seconds_of(pair, K, 2):.1f} s; for all of llama-3-70b on 64 ranks as fast as these "
        f"{seconds_of(large, K, 64):.0f} s at k = {K} and {seconds_of(large, 2 * K, 64):.0f} s at k = {2 * K}.",
    ])
