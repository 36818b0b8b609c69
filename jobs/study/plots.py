# SPDX-License-Identifier: MIT
"""The plots of the study, from result rows and trained pairs."""

import csv
from io import BytesIO
from statistics import mean

import matplotlib
import numpy as np
from PIL import Image

from . import edit, tables

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 (after the choice of backend)

# Start, colour, line: the same in every plot.
LINES = {
    "aligned": ("#c0392b", "-"),
    "random k6 c0.5": ("#222222", "--"),
    "tail k6 c0.5": ("#b8860b", ":"),
    "k6 c0.5": ("#1f77b4", "-"),
    "k6 c1": ("#8e44ad", "-"),
    "k6 c1.25": ("#0b3d91", "-"),
    "full c0.5": ("#2ca02c", "--"),
}
SUMMARY = ("aligned", "random k6 c0.5", "k6 c0.5", "k6 c1")
BANDS = ("aligned", "k6 c0.5", "k6 c1.25")
WORDS = {"aligned": "aligned", "random k6 c0.5": "random rank-6 edit, same norm", "tail k6 c0.5": "tail (Delta - Delta_6), same norm"}
WORDS |= {"k6 c0.5": "LoX k 6, coef 0.5", "k6 c1": "LoX k 6, coef 1", "k6 c1.25": "LoX k 6, coef 1.25 (the paper's)", "full c0.5": "full rank, coef 0.5"}
TITLES = {
    "mix": "mix (benign: new task + ordinary)",
    "new": "new task only (benign)",
    "id": "identity shifting",
    "bad10": "10 harmful examples",
    "bad100": "100 harmful examples",
}
MEASURES = {"asr": "ASR, %", "not_refused": "not refused, %"}
# What is paid before any attack.
PRICES = {
    "over-refusal before the attack, %": lambda row: row["over_refusal"],
    "benign requests not answered rightly before the attack, %": lambda row: 100 - row["benign"],
}
LAYERS = "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj embed_tokens lm_head".split()

STYLE = {
    "figure.dpi": 100,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


def draw(out, results, pairs):
    """All plots into a directory; `pairs` holds (base, aligned) weights by (seed, align). Without any: all but the spectrum."""
    with plt.rc_context(STYLE):
        summary(out / "asr.png", results)
        attacks(out / "attacks.png", results)
        if len({row["k"] for row in results if row["start"] == "lox"}) > 1:
            grid(out / "grid.png", results)
        rank(out / "rank.png", results)
        if pairs:
            spectrum(out, pairs)


def attacks(path, results):
    """ASR and not-refused rate over attack steps; mean over seeds, band from the lowest to the highest."""
    for align in dict.fromkeys(row["align"] for row in results):
        rows = tables.select(results, align=align)
        names = [a for a in TITLES if tables.select(rows, attack=a)]
        figure, axes = plt.subplots(2, len(names), figsize=(1 + 2.6 * len(names), 5.2), sharey=True, sharex="col", squeeze=False)
        for column, attack in enumerate(names):
            for axis, measure in zip(axes[:, column], MEASURES):
                _curves(axis, tables.select(rows, attack=attack), measure)
            axes[0, column].set_title(TITLES[attack], fontsize=9)
            axes[1, column].set_xlabel("attack steps")
        for axis, words in zip(axes[:, 0], MEASURES.values()):
            axis.set(ylabel=words, ylim=(-3, 103))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncol=min(3, len(names)))
        figure.suptitle(f"{align.upper()} alignment under attack{_spread(rows)}")
        figure.tight_layout(rect=(0, 0.1, 1, 1))
        _save(figure, path.with_name(f"{path.stem}-{align}.png"))


def summary(path, results):
    """ASR under the attack `mix` alone, for whoever looks at one picture."""
    aligns = [a for a in ("sft", "dpo") if tables.select(results, align=a, attack="mix")]
    figure, axes = plt.subplots(1, len(aligns), figsize=(1 + 3.6 * len(aligns), 3.4), sharey=True, squeeze=False)
    for axis, align in zip(axes[0], aligns):
        rows = [row for row in tables.select(results, align=align, attack="mix") if tables.label(row) in SUMMARY]
        _curves(axis, rows, "asr")
        axis.set(title=f"aligned by {align.upper()}", xlabel="steps of benign fine-tuning", ylim=(-3, 103))
    axes[0, 0].set_ylabel("harmful requests carried out, %")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncol=len(SUMMARY) // 2 + 1)
    figure.tight_layout(rect=(0, 0.13, 1, 1))
    _save(figure, path)


def _curves(axis, rows, measure):
    for name, (colour, style) in LINES.items():
        found = [row for row in rows if tables.label(row) == name]
        if found:
            steps = sorted({row["step"] for row in found})
            values = [[row[measure] for row in found if row["step"] == step] for step in steps]
            width = 3 if name == "aligned" else 1.5
            means = [mean(v) for v in values]
            axis.plot(steps, means, style, color=colour, linewidth=width, marker="o", markersize=3, label=WORDS[name])
            if name in BANDS:
                axis.fill_between(steps, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.12, linewidth=0)


def grid(path, results):
    """Protection against its prices: ASR after `mix` over what is paid before it, for every k and coef; bars span the seeds."""
    aligns = [a for a in ("sft", "dpo") if tables.select(results, align=a)]
    size = (1 + 4.6 * len(aligns), 1 + 3.6 * len(PRICES))
    figure, axes = plt.subplots(len(PRICES), len(aligns), figsize=size, sharex=True, sharey=True, squeeze=False)
    for column, align in enumerate(aligns):
        rows = tables.select(results, align=align, attack="mix")
        for axis, (words, price) in zip(axes[:, column], PRICES.items()):
            _price(axis, rows, price)
            axis.set(xlabel=words, ylim=(-3, 103))
            axis.tick_params(labelbottom=True)
        axes[0, column].set_title(align.upper())
    for axis in axes[:, 0]:
        axis.set_ylabel(f"ASR after {tables.last_step(results, 'mix')} steps of mix, %")
    axes[0, -1].legend()
    figure.suptitle(f"Protection against its price{_spread(results, 'bars')}; numbers: coef of k 6")
    figure.tight_layout()
    _save(figure, path)


def _price(axis, rows, price):
    """One alignment: a line for each k through its coefs."""
    last = tables.last_step(rows, "mix")

    def point(**start):
        before, after = (tables.select(rows, step=step, **start) for step in (0, last))
        return mean(map(price, before)), mean(r["asr"] for r in after)

    def bar(colour, **start):
        x, asr = point(**start)[0], [r["asr"] for r in tables.select(rows, step=last, **start)]
        axis.vlines(x, min(asr), max(asr), color=colour, alpha=0.45, linewidth=4)

    ranks = sorted({r["k"] for r in rows if r["start"] == "lox"}, key=lambda k: k or 1e9)
    colours = plt.cm.viridis(np.linspace(0, 0.9, len(ranks)))
    for k, colour in zip(ranks, colours):
        coefs = sorted({r["coef"] for r in rows if r["start"] == "lox" and r["k"] == k})
        points = [point(start="lox", k=k, coef=c) for c in coefs]
        axis.plot(*zip(*points), "o-", color=colour, markersize=4, linewidth=1, label=f"k {k}" if k else "full rank")
        if k == 6:
            for c, at in zip(coefs, points):
                axis.annotate(f"{c:g}", at, xytext=(6, 5), textcoords="offset points", color=colour, weight="bold")
                bar(colour, start="lox", k=6, coef=c)
    bar("#c0392b", start="aligned")
    axis.plot(*point(start="aligned"), "*", color="#c0392b", markersize=12, label="aligned")


def rank(path, results):
    """Effective rank: ASR of base + Delta_k over k."""
    rows = tables.select(results, start="rank")
    ranks = sorted({row["k"] for row in rows})
    figure, axis = plt.subplots(figsize=(5.6, 3.8))
    for align, colour in (("sft", "#1f77b4"), ("dpo", "#e67e22")):
        values = [[r["asr"] for r in tables.select(rows, align=align, k=k)] for k in ranks]
        if values[0]:
            axis.plot([mean(v) for v in values], "o-", color=colour, label=align.upper())
            axis.fill_between(range(len(ranks)), [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.15, linewidth=0)
    axis.set_xticks(range(len(ranks)), [str(k) for k in ranks[:-1]] + ["full"])
    axis.set(xlabel="k", ylabel="ASR of base + Delta_k, %", ylim=(-3, 103))
    axis.set_title(f"How many ranks hold the alignment\n{_spread(rows).strip()}", fontsize=10)
    axis.legend()
    figure.tight_layout()
    _save(figure, path)


def spectrum(out, pairs):
    """Singular values of Delta by layer type, as shares of the largest; plot and CSV."""
    aligns = list(dict.fromkeys(align for _, align in pairs))
    figure, axes = plt.subplots(1, len(aligns), figsize=(1 + 4.4 * len(aligns), 4), sharey=True, squeeze=False)
    rows = []
    for axis, align in zip(axes[0], aligns):
        factors = [edit.decompose(*pair) for (_, name), pair in pairs.items() if name == align]
        for layer, colour, style in zip(LAYERS, plt.cm.tab10.colors, "- -- - -- - -- - -- -".split()):
            sigmas = np.array([s for f in factors for name, (_, s, _) in f.items() if f".{layer}." in f".{name}"])
            shares = (sigmas / sigmas[:, :1]).mean(0)
            energy = np.cumsum(sigmas**2, 1) / np.sum(sigmas**2, 1, keepdims=True)
            rows += [(align, layer, i + 1, f"{s:.5f}", f"{e:.5f}") for i, (s, e) in enumerate(zip(shares, energy.mean(0)))]
            axis.semilogy(range(1, len(shares) + 1), shares, style, color=colour, label=layer)
        axis.axvline(6, color="#555555", linewidth=0.8, linestyle=":")
        axis.set(title=f"{align.upper()}: spectrum of Delta", xlabel="i (dotted: 6)", xscale="log", ylim=(1e-2, 1.1))
        axis.set_xticks((1, 2, 6, 20, 60, 128), ("1", "2", "6", "20", "60", "128"), minor=False)
        axis.set_xticks((), minor=True)
        axis.set_yticks((0.01, 0.1, 1), ("0.01", "0.1", "1"))
    axes[0, 0].set_ylabel("s_i / s_1, mean over layers and seeds")
    axes[0, 0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    _save(figure, out / "spectrum.png")
    with open(out / "spectrum.csv", "w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("align", "layer", "i", "share", "energy"))
        table.writerows(rows)


def _spread(rows, shape="band"):
    """For a title: how many seeds, and how their spread is drawn."""
    seeds = len({row["seed"] for row in rows})
    return f" (mean of {seeds} seeds; {shape}: lowest to highest)" if seeds > 1 else ""


def _save(figure, path):
    """A PNG of few colours, a third of the size."""
    picture = BytesIO()
    figure.savefig(picture)
    plt.close(figure)
    Image.open(picture).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(path, optimize=True)
