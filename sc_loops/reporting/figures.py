"""The figures of the report: small single panels, drawn without pyplot, as SVG for the page."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from sc_loops.reporting.history import Array

INK, MUTED, HAIRLINE = "#1f2933", "#616e7c", "#e4e7eb"
SAMPLES, CURATED, THEORY = "#2f6690", "#d08c3c", "#1f2933"
PALETTE = (
    "#2f6690", "#d08c3c", "#5b8e7d", "#bc4b51", "#7768ae", "#8c6d46",
    "#4fa3c7", "#c97b9d", "#93a83f", "#5c6b7a", "#c8ccd2",
)  # fmt: skip
GENERATIONS = LinearSegmentedColormap.from_list("generations", ["#b9cfdf", "#2f6690", "#12324a"])

STYLE: Any = {
    "font.size": 9,
    "text.parse_math": False,  # names from users may hold a $
    "svg.fonttype": "none",  # real text: it scales, can be searched and takes the page's typeface
    "axes.edgecolor": "#cbd2d9",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.labelcolor": MUTED,
    "lines.linewidth": 1.8,
    "path.simplify": True,
}
WIDTH, HEIGHT = 4.4, 2.7  # inches; 100 units of the SVG are one


@dataclass(frozen=True)
class Curve:
    """One line of a panel. ``look``: of the samples, of the curated ones, of the theory, or plain."""

    x: Array
    y: Array
    label: str = ""
    look: Literal["samples", "curated", "theory", "plain"] = "samples"
    colour: str | None = None


@matplotlib.rc_context(STYLE)
def curves(lines: Sequence[Curve], y_label: str, *, x_label: str = "generation t", log: bool = False) -> Figure:
    """Lines over generations (or steps). Points are marked unless there are many, so that one is visible."""
    figure, axes = _panel(y_label, x_label)
    looks: dict[str, Any] = {
        "samples": {"color": SAMPLES, "marker": "o", "markersize": 4},
        "curated": {"color": CURATED, "marker": "o", "markersize": 4, "markerfacecolor": "white"},
        "theory": {"color": THEORY, "linestyle": (0, (4, 2.5)), "linewidth": 1.3, "zorder": 5},
        "plain": {"color": SAMPLES, "linewidth": 1.2},
    }
    for line in lines:
        look = {**looks[line.look], **({"color": line.colour} if line.colour else {})}
        if len(line.x) > 40:
            look.pop("marker", None)
        axes.plot(line.x, line.y, label=line.label, **look)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")  # the default writes mathematics
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.04, y=0.12)
    if any(len(np.unique(line.x)) > 1 for line in lines):
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    else:
        axes.set_xticks(sorted({x for line in lines for x in line.x}))
    if len(lines) > 1:
        _legend_above(axes)
    return figure


@matplotlib.rc_context(STYLE)
def stacked(
    x: Array, layers: Sequence[tuple[str, Array]], y_label: str, *, colours: Sequence[str] = PALETTE, share: bool
) -> Figure:
    """Stacked columns, one a generation, each layer ``(name, heights)``; ``share`` writes heights as %."""
    figure, axes = _panel(y_label, "generation t", right=1.35)
    edges = np.append(x - 0.5, x[-1] + 0.5)
    bottom = np.zeros(len(x))
    patches = []
    for i, (_, heights) in enumerate(layers):
        colour = colours[i % len(colours)]
        top = bottom + np.nan_to_num(heights)
        patches.append(axes.stairs(top, edges, baseline=bottom, fill=True, color=colour, linewidth=0))
        bottom = top
    # White seams between columns, as long as the columns are wide enough to need them.
    if len(x) <= 30:
        axes.vlines(edges[1:-1], 0, bottom.max(), color="white", linewidth=1.2)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, 1 if share else (bottom.max() * 1.05 or 1))
    axes.xaxis.set_major_locator(
        FixedLocator(list(x)) if len(x) == 1 else MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
    )
    axes.grid(False, axis="x")
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    names = [name if len(name) <= 18 else f"{name[:17]}…" for name, _ in layers]
    figure.legend(
        patches[::-1],
        # matplotlib leaves out labels that start with an underscore
        [f"\u200b{name}" for name in names[::-1]],
        loc="center left",
        bbox_to_anchor=(1 - 1.3 / WIDTH, 0.52),
        handlelength=0.9,
        handleheight=0.9,
        labelspacing=0.25,
    )
    return figure


@matplotlib.rc_context(STYLE)
def ridgeline(values: Sequence[tuple[int, Array]], x_label: str) -> Figure:
    """One histogram a generation ``(t, values)`` over common bins, first on top, each on its own baseline."""
    rows = len(values)
    figure, axes = _panel("generation t", x_label, height=1.15 + 0.24 * rows, left=0.4)
    everything = np.concatenate([v for _, v in values])
    low, high = np.quantile(everything, [0.002, 0.998])
    margin = 0.04 * (high - low) or 0.5
    edges = np.linspace(low - margin, high + margin, 61)
    for i, (_, v) in enumerate(values):
        base, colour = rows - 1 - i, GENERATIONS(i / max(1, rows - 1))
        counts = np.histogram(v, edges)[0]
        heights = 1.25 * np.sqrt(counts / max(1, counts.max()))
        axes.stairs(base + heights, edges, baseline=base, fill=True, color=colour, alpha=0.8, zorder=2 + i)
        axes.hlines(base, edges[0], edges[-1], color=colour, linewidth=0.8, zorder=2 + i)
        axes.plot([v.mean()], [base], "^", color=INK, markersize=5, markeredgecolor="white", zorder=50)
    axes.set_yticks(range(rows), [str(t) for t, _ in values][::-1])
    axes.set_ylim(-0.25, rows + 0.3)
    axes.set_xlim(edges[0], edges[-1])
    axes.grid(False, axis="y")
    axes.spines["bottom"].set_visible(False)
    return figure


def svg(figure: Figure, name: str) -> Markup:
    """``figure`` as an ``<svg>`` element to put into a page. ``name`` is unique there and describes it."""
    out = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(out, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*">', "<g>", text)  # such ids would repeat from figure to figure
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    return Markup(text)


def _panel(
    y_label: str, x_label: str, *, height: float = HEIGHT, left: float = 0.58, right: float = 0.12
) -> tuple[Figure, Axes]:
    """A figure with one axes, margins in inches. The y label stands, upright, above the axis."""
    figure = Figure(figsize=(WIDTH, height))
    box = (left / WIDTH, 0.5 / height, 1 - (left + right) / WIDTH, 1 - (0.5 + 0.36) / height)
    axes = figure.add_axes(box)
    axes.set_xlabel(x_label)
    axes.text(
        (0.05 - left) / (WIDTH - left - right), 1 + 0.1 / (height - 0.86), y_label,
        transform=axes.transAxes, fontsize=9.5, va="bottom",
    )  # fmt: skip
    return figure, axes


def _legend_above(axes: Axes) -> None:
    axes.legend(
        loc="lower right", bbox_to_anchor=(1.02, 1.0), ncols=3, borderpad=0.25,
        columnspacing=1.2, handlelength=1.6, handletextpad=0.5,
    )  # fmt: skip
