"""Several runs side by side, for a document: a table of numbers, their curves, a strip of pictures."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sc_loops.data.pixels import as_float
from sc_loops.reporting.figures import PALETTE, STYLE
from sc_loops.reporting.history import expected_rewards, generation_rows, series
from sc_loops.reporting.pictures import Pixels, image_grid
from sc_loops.reporting.sections import picked_generations
from sc_loops.reporting.wording import number, symbol
from sc_loops.run import Run

DPI = 100  # of a saved figure, in which one pixel of a strip is then one pixel of the file
MARGIN, GAP = 28, 16  # pixels: for the labels, and between two runs
LETTER, LINE = 8, 16  # pixels: about the width of a letter of a label, and the height of each further line of it
LEGEND = (0.085, 0.6, 0.2)  # inches: of a letter of the legend, of what is beside a label, of a line
MARKERS = "os^D"  # of the runs of one colour, one after the other


def table(run: Run, keys: Sequence[str]) -> str:
    """Markdown: one line for each of ``keys`` that ``run`` recorded, one column for each generation."""
    rows, names = generation_rows(run), run.facts().get("class_names", [])
    head = ["generation", *(str(row["generation"]) for row in rows)]
    lines = [head, ["---"] * len(head)]
    lines += [
        [symbol(key, names), *(number(row.get(key)) for row in rows)]
        for key in keys
        if any(row.get(key) is not None for row in rows)
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


@matplotlib.rc_context(STYLE)
def curves(runs: Mapping[str, Run], keys: Sequence[str], *, columns: int = 3) -> Figure:
    """A panel for each of ``keys`` that any of ``runs``, by label, recorded; a line for each run.

    Dashed, where the theory knows it: the exact recursion of K-choice curation from generation 0's samples.
    """
    rows = {label: generation_rows(run) for label, run in runs.items()}
    last = {label: int(found[-1]["generation"]) if found else 0 for label, found in rows.items()}
    theory = {label: expected_rewards(run, last[label]) for label, run in runs.items()}
    shown = [key for key in keys if any(len(series(found, key)[0]) for found in rows.values())]
    names: list[str] = next((run.facts().get("class_names", []) for run in runs.values()), [])
    columns = max(1, min(columns, len(shown)))
    height = max(1, -(-len(shown) // columns))
    letter, beside, line = LEGEND
    longest = max(map(len, runs), default=0)
    across = max(1, min(len(runs), int(3.5 * columns / (letter * longest + beside))))
    above = 0.1 + line * -(-len(runs) // across)
    figure = Figure(figsize=(3.5 * columns, 2.4 * height + above), layout="constrained")
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    for axes, key in zip(panels, shown, strict=False):
        for i, (label, found) in enumerate(rows.items()):
            colour, marker = PALETTE[i % 10], MARKERS[i // 10 % len(MARKERS)]
            axes.plot(*series(found, key), f"{marker}-", color=colour, markersize=4, label=label)
            if key in theory[label]:
                expected = theory[label][key]
                axes.plot(np.arange(len(expected)), expected, color=colour, linestyle=(0, (4, 2.5)), linewidth=1.0)
        axes.set_title(symbol(key, names), loc="left", fontsize=9.5)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axes.margins(x=0.04, y=0.12)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(shown) - columns) : len(shown)]:
        axes.set_xlabel("generation t")
    if shown:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=across)
    return figure


@matplotlib.rc_context(STYLE)
def film_strip(runs: Mapping[str, Run], *, columns: int = 8, scale: int = 2) -> Figure:
    """For each of ``runs``, by label, one row a generation: the first ``columns`` images of its preview, which are
    the same noise in every generation, each pixel ``scale`` pixels wide. Save it with ``DPI`` to keep them so.

    Runs without previews of images are left out.
    """
    strips = {label: rows for label, run in runs.items() if (rows := _rows(run, columns, scale))}
    generations = sorted({t for rows in strips.values() for t in rows})
    heights = [max(rows[t].shape[0] for rows in strips.values() if t in rows) + 2 * scale for t in generations]
    widths = [max(row.shape[1] for row in rows.values()) + GAP for rows in strips.values()]
    labels = [textwrap.fill(label, max(1, width // LETTER)) for label, width in zip(strips, widths, strict=True)]
    above = MARGIN + LINE * max((label.count("\n") for label in labels), default=0)
    tops, lefts = np.cumsum([above, *heights]), np.cumsum([MARGIN, *widths])
    height, width = int(tops[-1]), int(lefts[-1])
    picture = np.full((height, width, 3), 255, np.uint8)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for left, label, rows in zip(lefts, labels, strips.values(), strict=False):
        figure.text(left / width, 1 - (above - MARGIN / 4) / height, label, va="bottom", fontsize=9.5)
        for t, row in rows.items():
            top = tops[generations.index(t)]
            picture[top : top + row.shape[0], left : left + row.shape[1]] = row
    for t, top, row_height in zip(generations, tops, heights, strict=False):
        middle = 1 - (top + row_height / 2) / height
        figure.text((MARGIN - 8) / width, middle, str(t), ha="right", va="center", fontsize=9)
    figure.figimage(picture, zorder=-1)
    return figure


def _rows(run: Run, columns: int, scale: int) -> dict[int, Pixels]:
    """By generation the first images of its preview, side by side."""
    found = {}
    for t in picked_generations(generation_rows(run)):
        preview = run.pool(t).preview
        if preview is not None and preview.x.ndim == 4:
            picture = image_grid(as_float(preview.x[:columns]).double().numpy(), columns)
            found[t] = picture.repeat(scale, axis=0).repeat(scale, axis=1)
    return found
