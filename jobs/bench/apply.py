# SPDX-License-Identifier: MIT
"""Models from a store of factors against plain copies of the aligned model; several coefs in one reading."""
import json
import resource
import statistics
import sys
from pathlib import Path

from bench.runs import LOX, make_pair, middle, mpirun, python, ratio, remove, settle, size, timed

LAYERS = 4
COEFS = ("0.5", "1", "1.25")


def make_factors(folder, pair):
    """A store of the pair, made once; by harden's methods, but for what is written."""
    store = folder / "factors"
    if not store.exists():
        timed(*mpirun(2, "factor", "--base", pair[0], "--aligned", pair[1], "--output", store, "--quiet"))
    return store


def spent():
    """Processor seconds of all programs that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(inputs, outputs, cold, *command):
    """Wall and processor seconds of a program, and its first output's report if there is one."""
    settle(inputs, cold)
    before = spent()
    seconds, _ = timed(*command)
    report = Path(f"{outputs[0]}.report.json")
    found = seconds, spent() - before, json.loads(report.read_text()) if report.exists() else None
    for output in outputs:
        remove(output)
    return found


def measure(options):
    folder = options.work / "apply"
    pair = make_pair(folder, "llama-2-7b", "--layers", LAYERS)
    aligned, store, output = pair[1], make_factors(folder, pair), folder / "copy"
    copies = {
        "copy (read, write, sync)": python("plain_copy", aligned, output),
        "cp -r, then sync": ["sh", "-c", 'cp -r "$0" "$1" && sync "$1"/*', aligned, output],
        "cp -r": ["cp", "-r", aligned, output],
        "lox convert": [LOX, "convert", aligned, output],
    }
    times, work = {}, {}
    reports = {False: [], True: []}

    def note(name, cold, *runs):
        times.setdefault((name, cold), []).append(sum(seconds for seconds, _, _ in runs))
        work.setdefault((name, cold), []).append(sum(seconds for _, seconds, _ in runs))
        print(f"{name}, {'not ' if cold else ''}cached: {times[name, cold][-1]:.2f} s, {work[name, cold][-1]:.2f} s of processors",
              file=sys.stderr, flush=True)

    def applied(cold, *coefs):
        return run((aligned, store), [folder / f"hardened-{coef}" for coef in coefs], cold,
                   *mpirun(2, "apply", "--aligned", aligned, "--factors", store, "--coef", ",".join(coefs), "--output", folder / "hardened-{coef}"))

    for _ in range(options.repeats):  # in turn
        for cold in (False, True):
            for name, command in copies.items():
                note(name, cold, run((aligned,), [output], cold, *command))
            singles = [applied(cold, coef) for coef in COEFS]
            note("lox apply, one coef", cold, singles[0])
            note("three runs of one coef each", cold, *singles)
            reports[cold].append(singles[0][2])
            note("three coefs in one reading", cold, applied(cold, *COEFS))

    def cells(over, under):
        return " | ".join(ratio(times[over, cold], times[under, cold]) for cold in (False, True))

    lines = [
        f"Model: llama-2-7b, {LAYERS} layers and embeddings, {size(aligned) / 1e9:.2f} GB; store of k = 6, {size(store) / 1e6:.0f} MB. lox apply on 2 ranks "
        f"of one thread; {options.repeats} runs in turn; median (lowest to highest). Not cached: the files were dropped from the page cache of this machine "
        "(posix_fadvise); what its host keeps is not known.\n",
        "| measure | cached | not cached | bar |", "| --- | --- | --- | --- |",
    ]
    lines += [f"| lox apply / {name} | {cells('lox apply, one coef', name)} | {'1.2' if 'sync' in name else ''} |" for name in copies]
    lines += [f"| three coefs in one reading / three runs | {cells('three coefs in one reading', 'three runs of one coef each')} | 0.75 |",
              "\nSeconds, and seconds of processors, which depend less on what else the machine does:\n",
              "| program | cached | not cached | processors, cached | not cached |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {name} | {middle(times[name, False])} | {middle(times[name, True])} | {middle(work[name, False])} | {middle(work[name, True])} |"
              for name, cold in times if not cold]
    lines += ["\nWhere a rank's time goes in lox apply, seconds, mean of both ranks, median of the runs. Reading and writing go on beside the rest:\n",
              "| | cached | not cached |", "| --- | --- | --- |"]
    for part in ("solving", "waiting", "idle", "reading", "writing"):
        parts = [statistics.median(report["totals"]["rank_seconds"][part] / report["totals"]["ranks"] for report in reports[cold])
                 for cold in (False, True)]
        lines.append(f"| {part} | {parts[0]:.2f} | {parts[1]:.2f} |")
    whole = [statistics.median(report["totals"]["seconds"] for report in reports[cold]) for cold in (False, True)]
    lines.append(f"| all, without the start of the ranks | {whole[0]:.2f} | {whole[1]:.2f} |")
    return "\n".join(lines)
