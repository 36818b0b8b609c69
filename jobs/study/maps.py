# SPDX-License-Identifier: MIT
"""The plots of the landscape: maps of ASR with the ways of the attacks in them, and R_ft beside ASR."""

import numpy as np

from . import landscape, plots, tables
from .plots import plt

COLOURS = {"aligned": "#c0392b", "hardened": "#0b3d91"}
LEVELS = (0, 1, 10, 25, 50, 75, 90, 100)


def draw(out, maps, ways):
    """A figure of maps for each alignment, and one of R_ft."""
    with plt.rc_context(plots.STYLE):
        for align in dict.fromkeys(row["align"] for row in ways):
            _maps(out / f"landscape-{align}.png", tables.select(maps, align=align), tables.select(ways, align=align))
        _ratios(out / "r-ft.png", ways)


def _maps(path, maps, ways):
    """A column for each seed, a row for each direction of the second axis."""
    seeds = sorted({int(row["seed"]) for row in ways})
    size = (max(7.5, 2 + 3.4 * len(seeds)), 7.2)
    figure, axes = plt.subplots(len(landscape.DIRECTIONS), len(seeds), figsize=size, squeeze=False, layout="constrained")
    for axis_row, direction in zip(axes, landscape.DIRECTIONS):
        for axis, seed in zip(axis_row, seeds):
            shades = _map(axis, tables.select(maps, seed=seed, direction=direction))
            _ways(axis, tables.select(ways, seed=seed), direction)
            axis.set_ylabel(f"b, {'along the attack' if direction == 'tuned' else 'random'}")
    for axis, seed in zip(axes[0], seeds):
        axis.set_title(f"seed {seed}")
    for axis in axes[-1]:
        axis.set_xlabel("a, along hardening")
    figure.colorbar(shades, ax=axes, label="ASR, %", ticks=LEVELS, shrink=0.6)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.get_layout_engine().set(rect=(0, 0.09, 1, 0.91))
    figure.legend(handles, labels, loc="lower center", ncol=3)
    figure.suptitle(f"{maps[0]['align'].upper()}: ASR in the plane of hardening and attack (above), and of a random direction (below)")
    plots._save(figure, path)


def _map(axis, points):
    across, up = (sorted({row[name] for row in points}) for name in "ab")
    values = {name: np.empty((len(up), len(across))) for name in ("asr", "benign")}
    for row in points:
        for name, grid in values.items():
            grid[up.index(row["b"]), across.index(row["a"])] = row[name]
    shades = axis.contourf(across, up, values["asr"], LEVELS, cmap="YlOrRd")
    axis.contour(across, up, values["benign"], (80,), colors="#555555", linestyles="dotted", linewidths=1)
    axis.plot([], [], ":", color="#555555", label="80% of benign requests answered rightly")
    axis.set_aspect("equal")
    axis.grid(False)
    return shades


def _ways(axis, ways, direction):
    for start, colour in COLOURS.items():
        way = sorted(tables.select(ways, start=start), key=lambda row: row["step"])
        if direction == "tuned":
            axis.plot([row["a"] for row in way], [row["b"] for row in way], "o-", color=colour, markersize=3, label=f"attack from the {start} model")
        axis.plot(way[0]["a"], way[0]["b"] if direction == "tuned" else 0, "*", color=colour, markersize=11, markeredgecolor="white",
                  label=f"the {start} model")


def _ratios(path, ways):
    """R_ft of every model along the attacks against what it does."""
    aligns = list(dict.fromkeys(row["align"] for row in ways))
    figure, axes = plt.subplots(1, len(aligns), figsize=(1 + 4 * len(aligns), 3.8), sharey=True, squeeze=False, layout="constrained")
    for axis, align in zip(axes[0], aligns):
        for start, colour in COLOURS.items():
            for number, seed in enumerate(sorted({row["seed"] for row in ways})):
                way = sorted(tables.select(ways, align=align, start=start, seed=seed), key=lambda row: row["step"])
                axis.plot([row["r_ft"] for row in way], [row["asr"] for row in way], "o-", color=colour, markersize=4, linewidth=0.8,
                          label="" if number else f"from the {start} model")
        axis.set(title=align.upper(), xlabel=f"R_ft, k {landscape.K}, mean over linear layers", ylim=(-3, 103))
    axes[0, 0].set_ylabel("ASR, %")
    axes[0, 0].legend()
    figure.suptitle("Along the attack mix: a line for each seed, from right to left")
    plots._save(figure, path)
