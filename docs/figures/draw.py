#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Draws the figures of docs/ as SVG: python3 docs/figures/draw.py [FOLDER]. Standard library only."""
import sys
from html import escape
from pathlib import Path

FONT = "font-family='Helvetica, Arial, sans-serif'"
INK, GREY = "#222", "#777"
COLOURS = ["#cfe3f5", "#f9d9b8", "#d3ecd0", "#ecd3e8", "#fbf0b5", "#d9d9d9"]


class Figure:
    """A drawing of so many pixels; y grows downwards."""

    def __init__(self, width, height):
        self.width, self.height, self.parts = width, height, []

    def box(self, x, y, w, h, fill="white", text="", size=13, stroke=INK, bold=False, dash=False):
        dashed = " stroke-dasharray='5 3'" if dash else ""
        self.parts.append(f"<rect x='{x}' y='{y}' width='{w}' height='{h}' rx='3' fill='{fill}' stroke='{stroke}'{dashed}/>")
        if text:
            lines = text.split("\n")
            for i, line in enumerate(lines):
                self.text(x + w / 2, y + h / 2 + (i - (len(lines) - 1) / 2) * size * 1.25 + size * 0.35, line, size,
                          "middle", bold)

    def text(self, x, y, text, size=13, anchor="start", bold=False, fill=INK):
        weight = " font-weight='bold'" if bold else ""
        self.parts.append(f"<text x='{x:g}' y='{y:g}' font-size='{size}' text-anchor='{anchor}'{weight} "
                          f"fill='{fill}' {FONT}>{escape(text)}</text>")

    def arrow(self, x1, y1, x2, y2, dash=False):
        dashed = " stroke-dasharray='5 3'" if dash else ""
        self.parts.append(f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{INK}'{dashed} marker-end='url(#head)'/>")

    def line(self, x1, y1, x2, y2, stroke=INK):
        self.parts.append(f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' stroke='{stroke}'/>")

    def svg(self):
        head = ("<marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='7' markerHeight='7' "
                f"orient='auto-start-reverse'><path d='M0 0L10 5L0 10z' fill='{INK}'/></marker>")
        return (f"<svg xmlns='http://www.w3.org/2000/svg' width='{self.width}' height='{self.height}' "
                f"viewBox='0 0 {self.width} {self.height}'>\n<defs>{head}</defs>\n"
                f"<rect width='{self.width}' height='{self.height}' fill='white'/>\n" + "\n".join(self.parts) +
                "\n</svg>\n")


def house():
    """The layers, and the way of the data through them."""
    figure = Figure(860, 430)
    layers = [("cli", "words to calls; the only place that catches"),
              ("task", "harden, convert, verify, synth: prepare - work - conclude"),
              ("report", "what was found, as a struct; JSON and text"),
              ("run", "the engine: pipelines, steps, targets, journal, progress"),
              ("plan", "decides: pairing, items, costs, who does what; pure"),
              ("io", "checkpoints: tables, bytes, the life of an output"),
              ("linalg", "matrices, local and on a grid: delta, SVD, extrapolation"),
              ("base", "errors, files, MPI, the site; nothing of models or matrices")]
    y = 20
    for i, (name, what) in enumerate(layers):
        if name == "linalg":
            continue
        if name == "io":
            figure.box(20, y, 405, 40, COLOURS[i % 5])
            figure.text(32, y + 17, "io", 14, bold=True)
            figure.text(32, y + 33, layers[i][1], 11)
            figure.box(435, y, 405, 40, COLOURS[(i + 1) % 5])
            figure.text(447, y + 17, "linalg", 14, bold=True)
            figure.text(447, y + 33, layers[i + 1][1], 11)
        else:
            figure.box(20, y, 820, 40, COLOURS[i % 5])
            figure.text(32, y + 25, name, 14, bold=True)
            figure.text(130, y + 25, what, 12)
        y += 48
    figure.text(430, y + 14, "A folder is a layer is a library. Includes point down only.", 12, "middle", fill=GREY)
    y += 36
    names = ["tables", "items", "row slabs", "Delta", "Factors,\nSpectrum", "edited rows", "Record", "Report"]
    width = 92
    for i, name in enumerate(names):
        x = 20 + i * (width + 12)
        figure.box(x, y, width, 36, "white", name, 12)
        if i > 0:
            figure.arrow(x - 12, y + 18, x - 1, y + 18)
    return figure


def pipeline():
    """What a rank does alone: three threads, two queues, one memory gate."""
    figure = Figure(860, 210)
    boxes = [(20, "read\nrows of both models", COLOURS[0]), (300, "solve\nfactors, then edited rows", COLOURS[1]),
             (580, "write\nbytes, sync, journal line", COLOURS[2])]
    for x, text, colour in boxes:
        figure.box(x, 70, 180, 56, colour, text)
    figure.text(110, 150, "reader's thread", 12, "middle", fill=GREY)
    figure.text(390, 150, "the rank's own thread, all cores", 12, "middle", fill=GREY)
    figure.text(670, 150, "writer's thread", 12, "middle", fill=GREY)
    for x, places in ((200, 1), (480, 2)):
        figure.arrow(x, 98, x + 100, 98)
        figure.text(x + 50, 88, "1 waits" if places == 1 else "2 wait", 12, "middle")
    figure.arrow(760, 98, 838, 98)
    figure.text(800, 88, "done", 12, "middle")
    figure.box(20, 22, 740, 26, "white", "memory gate: the working sets of all items in flight stay below --memory", 12, dash=True)
    figure.text(20, 190, "What the Krylov method fails on waits for the end and is done again by the exact method.", 12, fill=GREY)
    return figure


def grid():
    """A matrix too big for one rank: read in strips, dealt block-cyclically, solved, written in strips."""
    figure = Figure(860, 330)
    top, size = 60, 190
    figure.text(20, 30, "1. read by strips of rows", 13, bold=True)
    bands, ranks = 2, 4
    step = size / (bands * ranks)
    for band in range(bands):
        for rank in range(ranks):
            figure.box(20, top + (band * ranks + rank) * step, 150, step, COLOURS[rank], f"rank {rank}", 11)
    figure.text(180, top + size / 4, "band 0", 12, fill=GREY)
    figure.text(180, top + 3 * size / 4, "band 1", 12, fill=GREY)
    figure.arrow(235, top + size / 2, 300, top + size / 2)
    figure.text(300, 30, "2. deal in blocks to a 2 x 2 grid", 13, bold=True)
    blocks = 6
    cell = size / blocks
    for i in range(blocks):
        for j in range(blocks):
            figure.box(310 + j * cell, top + i * cell, cell, cell, COLOURS[(i % 2) * 2 + j % 2])
    figure.text(310, top + size + 22, "W^T, n x m: what the bytes of W are, by columns", 12, fill=GREY)
    figure.arrow(515, top + size / 2, 580, top + size / 2)
    figure.text(590, 30, "3. solve, with thin panels", 13, bold=True)
    figure.box(590, top, 26, size, "white")
    for i in range(blocks):
        figure.box(590, top + i * cell, 26, cell, COLOURS[4] if i % 2 == 0 else COLOURS[5])
    figure.text(624, top + 60, "right vectors: dealt over grid rows,", 12)
    figure.text(624, top + 76, "the same in every process of a row", 12)
    for j in range(blocks):
        figure.box(640 + j * cell, top + 130, cell, 26, COLOURS[4] if j % 2 == 0 else COLOURS[5])
    figure.text(624, top + 176, "left vectors: dealt over grid columns", 12)
    figure.text(20, 300, "A product is one local product and one sum along a row or a column of the grid. 4. Afterwards each rank reads "
                "its stretch of aligned", 12, fill=GREY)
    figure.text(20, 318, "rows once more, adds its rows of coef * U S V^T, and writes them: factors are whole on every rank.", 12, fill=GREY)
    return figure


def output():
    """The life of an output."""
    figure = Figure(860, 230)
    figure.box(20, 90, 150, 50, COLOURS[0], "nothing")
    figure.box(260, 90, 190, 50, COLOURS[1], "O.partial, full size\nO.journal: sign, lock, lines", 12)
    figure.box(560, 90, 130, 50, COLOURS[2], "O\nO.journal", 12)
    figure.box(750, 90, 90, 50, COLOURS[2], "O", 13)
    figure.arrow(170, 115, 258, 115)
    figure.text(214, 106, "open", 12, "middle")
    figure.arrow(450, 115, 558, 115)
    figure.text(504, 106, "publish", 12, "middle")
    figure.arrow(690, 115, 748, 115)
    figure.text(719, 106, "close", 12, "middle")
    figure.arrow(300, 140, 95, 178, dash=True)
    figure.arrow(95, 178, 95, 142, dash=True)
    figure.text(150, 196, "discard: bad input, or another job with --overwrite", 12)
    figure.arrow(330, 88, 330, 52)
    figure.arrow(380, 52, 380, 88)
    figure.text(355, 44, "killed; open again: the same job goes on", 12, "middle")
    figure.arrow(625, 88, 625, 62, dash=True)
    figure.text(625, 54, "killed; open again: only close is left", 12, "middle")
    figure.text(20, 24, "The sign (job.json) is written last: a partial without it is never resumed.", 12, fill=GREY)
    return figure


def idea():
    """What is done to every weight matrix."""
    figure = Figure(860, 176)
    top, size = 46, 92

    def matrix(x, name, fill, note, width=size):
        figure.box(x, top, width, size, fill)
        figure.text(x + width / 2, top - 12, name, 13, "middle", bold=True)
        figure.text(x + width / 2, top + size + 20, note, 12, "middle", fill=GREY)

    def sign(x, text):
        figure.text(x, top + size / 2 + 6, text, 20, "middle")

    matrix(20, "W_aligned", COLOURS[0], "after alignment")
    sign(131, "\u2212")
    matrix(150, "W_base", COLOURS[5], "before it")
    sign(261, "=")
    matrix(280, "Delta", COLOURS[4], "what alignment did")
    sign(391, "\u2248")
    figure.box(410, top, 20, size, COLOURS[1])
    figure.box(436, top, 20, 20, COLOURS[1])
    figure.box(462, top, size, 20, COLOURS[1])
    figure.text(482, top - 12, "Delta_k = U S V\u1d40", 13, "middle", bold=True)
    figure.text(482, top + size + 20, "its k largest singular triplets", 12, "middle", fill=GREY)
    figure.arrow(568, top + size / 2, 596, top + size / 2)
    matrix(606, "W_aligned", COLOURS[0], "as it is")
    figure.text(723, top + size / 2 + 5, "+ coef \u00b7", 12, "middle")
    matrix(748, "Delta_k", COLOURS[1], "= W_hardened")
    return figure


FIGURES = {"idea": idea, "house": house, "pipeline": pipeline, "grid": grid, "output": output}


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, draw in FIGURES.items():
        (folder / f"{name}.svg").write_text(draw().svg())


if __name__ == "__main__":
    main()
