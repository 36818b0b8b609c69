# SPDX-License-Identifier: MIT
"""Result rows as Markdown tables: means over seeds, and every seed where it matters."""

from statistics import mean


def label(row):
    """A start in words: `k6 c0.5`, `full c0.5`, `random k6 c1`."""
    if row["start"] == "aligned":
        return "aligned"
    rank = f"k{row['k']}" if row["k"] else "full"
    prefix = "" if row["start"] == "lox" else row["start"] + " "
    return f"{prefix}{rank} c{row['coef']:g}"


def select(results, **wanted):
    """Rows whose columns have the wanted values."""
    return [row for row in results if all(row[name] == value for name, value in wanted.items())]


def last_step(results, attack):
    """The step at which an attack ends."""
    return max(row["step"] for row in results if row["attack"] == attack)


def everything(results):
    """All tables of a run."""
    parts = []
    for align in dict.fromkeys(row["align"] for row in results):
        rows = select(results, align=align)
        parts.append(f"### {align.upper()}: benign attack `mix`, {last_step(rows, 'mix')} steps\n\n{_mix(rows)}")
        parts.append(f"### {align.upper()}: every attack, ASR / not refused\n\n{_attacks(rows)}")
        if any(row["start"] == "rank" for row in rows):
            parts.append(f"### {align.upper()}: base + Delta_k, no attack\n\n{_ranks(rows)}")
    return "\n\n".join(parts) + "\n"


def _mix(rows):
    before, after = select(rows, attack="mix", step=0), select(rows, attack="mix", step=last_step(rows, "mix"))
    table = [["start", "over-refusal before", "benign before", "ASR before", "ASR after", "seeds", "not refused", "new task", "benign after"]]
    for name in dict.fromkeys(map(label, after)):
        first, end = _named(before, name), _named(after, name)
        figures = [_mean(first, "over_refusal"), _mean(first, "benign"), _mean(first, "asr"), _mean(end, "asr")]
        seeds = " ".join(f"{row['asr']:.0f}" for row in end)
        table.append([name, *figures, seeds, *(_mean(end, c) for c in ("not_refused", "new_task", "benign"))])
    return _markdown(table)


def _attacks(rows):
    attacked = [row for row in rows if row["step"]]
    names = dict.fromkeys(row["attack"] for row in attacked)
    starts = [n for n in dict.fromkeys(map(label, rows)) if {r["attack"] for r in _named(attacked, n)} == set(names)]
    table = [["attack, step", *starts]]
    for attack in names:
        for step in sorted({row["step"] for row in select(attacked, attack=attack)}):
            found = [_named(select(rows, attack=attack, step=step), name) for name in starts]
            table.append([f"{attack}, {step}", *(f"{_mean(f, 'asr')} / {_mean(f, 'not_refused')}" for f in found)])
    return _markdown(table)


def _ranks(rows):
    rows = select(rows, start="rank")
    table = [["k", "ASR", "seeds", "benign"]]
    for k in sorted({row["k"] for row in rows}):
        found = select(rows, k=k)
        table.append([str(k), _mean(found, "asr"), " ".join(f"{r['asr']:.0f}" for r in found), _mean(found, "benign")])
    return _markdown(table)


def _named(rows, name):
    return [row for row in rows if label(row) == name]


def _mean(rows, column):
    return f"{mean(row[column] for row in rows):.1f}"


def _markdown(table):
    lines = ["| " + " | ".join(cells) + " |" for cells in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]])
