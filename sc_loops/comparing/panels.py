"""A panel for each metric: mean over seeds with its band, a line for each setting, the theory's mean dashed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from sc_loops.comparing.settings import MISSING, Setting, Settings
from sc_loops.comparing.statistics import means
from sc_loops.reporting.figures import HEIGHT, MUTED, PALETTE, STYLE, WIDTH, svg
from sc_loops.reporting.history import Array, picked

MAX_POINTS, ALL_POINTS = 300, 40_000  # of one curve, and of all curves of a page
WIDE = 20  # largest over smallest mean from which on the axis is logarithmic
DECADES = 300  # top over bottom of a logarithmic axis from which on only powers of ten are written
# From light to dark, so that the order of the settings is seen, also in grey.
VALUES = LinearSegmentedColormap.from_list("values", ["#dba43f", "#5f9e82", "#2f6690", "#1b2440"])
_DASHES: tuple[Any, ...] = ("-", (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_DASHED = (0, (4, 2.5))


@dataclass(frozen=True)
class Look:
    """How the line of a setting is drawn."""

    colour: str
    dashes: Any = "-"


@dataclass(frozen=True)
class Line:
    """One setting in one metric: the mean over ``n`` seeds in each generation ``t``, half the width of its band (nan
    where one seed is left), of ``seeds`` in all; ``theory`` in the generations from 0 on, empty where unknown. Arrays
    are ``(T,)``."""

    t: Array
    mean: Array
    half: Array
    n: Array
    seeds: int
    theory: Array

    @staticmethod
    def of(setting: Setting, key: str, theory: Sequence[Array] = ()) -> Line:
        """``key`` over the seeds of ``setting``, in the generations where any has it."""
        last = max(record.last for record in setting.records)
        values = np.full((len(setting.records), last + 1), np.nan)
        for row, record in zip(values, setting.records, strict=True):
            row[record.generations] = record.values(key)
        mean, half, n = means(values)
        kept = n > 0
        expected = np.full((len(theory), last + 1), np.nan)
        for row, path in zip(expected, theory, strict=True):
            row[: len(path)] = path[: last + 1]
        curve = means(expected)[0] if len(theory) else np.zeros(0)
        return Line(np.arange(last + 1.0)[kept], mean[kept], half[kept], n[kept], len(setting.records), curve)

    def thinned(self, points: int) -> Line:
        """At most ``points`` of it, as they are: nothing is averaged."""
        i = np.array(picked(range(len(self.t)), points), dtype=int)
        return Line(self.t[i], self.mean[i], self.half[i], self.n[i], self.seeds, self.theory)


def looks(settings: Settings) -> list[Look]:
    """One for each setting: shades in order where one number tells them apart, otherwise the palette."""
    if not settings.numeric:
        colours = PALETTE[:10]
        return [Look(colours[i % 10], _DASHES[i // 10 % len(_DASHES)]) for i in range(len(settings.all))]
    numbers = [s for s in settings.all if s.values[settings.telling[0]] != MISSING]
    shades = iter(VALUES(np.linspace(0, 1, len(numbers)) if len(numbers) > 1 else [0.66]))
    return [
        Look(MUTED if s.values[settings.telling[0]] == MISSING else to_hex(next(shades)), "-") for s in settings.all
    ]


def points_of(curves: int) -> int:
    """How many points each of ``curves`` curves of a page may have."""
    return max(60, min(MAX_POINTS, ALL_POINTS // max(1, curves)))


@matplotlib.rc_context(STYLE)
def panel(lines: Sequence[Line], styles: Sequence[Look], *, points: int = MAX_POINTS) -> Figure:
    """The curves of one metric. Where a seed has ended before the others, its setting's line goes on paler."""
    figure = Figure(figsize=(WIDTH, HEIGHT - 0.25))
    height = HEIGHT - 0.25
    axes = figure.add_axes((0.58 / WIDTH, 0.5 / height, 1 - 0.7 / WIDTH, 1 - 0.6 / height))
    axes.set_xlabel("generation t")
    log = is_wide(lines)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    for line, look in zip(lines, styles, strict=True):
        _draw(axes, line.thinned(points), look, points, log)
    bottom, top = _limits(lines, log)
    axes.set_ylim(bottom, top)
    if log:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if top < DECADES * bottom else (1,)))
    axes.margins(x=0.03)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    return figure


def is_wide(lines: Sequence[Line]) -> bool:
    """Whether the means are positive and span more than a factor of ``WIDE``."""
    found = np.concatenate([line.mean for line in lines] or [np.zeros(0)])
    return bool(len(found) and found.min() > 0 and found.max() > WIDE * found.min())


def has_open_band(lines: Sequence[Line]) -> bool:
    """Whether the axis is logarithmic and a band reaches 0 or below, which has no place there. Such a band is drawn
    above its mean only: being symmetric in the metric itself, it is told by one half, and nothing covers the other
    curves."""
    return is_wide(lines) and any((line.half >= line.mean).any() for line in lines)


def markup(figure: Figure, name: str) -> Markup:
    """``figure`` as SVG, ``name`` being its own on the page. Empty groups, whose ids would repeat from figure to
    figure, are left out, and paths have hundredths of a point: fewer bytes, the same to the eye."""
    whole = re.sub(r'<g id="[^"]*"/>', "", svg(figure, name))
    return Markup(re.sub(r' d="[^"]*"', lambda d: re.sub(r"(\.\d\d)\d+", r"\1", d[0]), whole))


def _draw(axes: Axes, line: Line, look: Look, points: int, log: bool) -> None:
    full = line.n == line.seeds
    dots = {"marker": "o", "markersize": 3.5} if len(line.t) <= 25 else {}
    style: Any = {"color": look.colour, "linestyle": look.dashes, "linewidth": 1.5, **dots}
    banded = np.isfinite(line.half)
    if banded.any():
        low, high = line.mean - line.half, line.mean + line.half
        if log:
            low = np.where(low > 0, low, line.mean)
        axes.fill_between(line.t, low, high, where=banded, color=look.colour, alpha=0.14, linewidth=0)
    axes.plot(line.t, np.where(full, line.mean, np.nan), **style)
    if not full.all():  # the paler part starts where the other ends
        beside = ~full | np.append(~full[1:], False) | np.insert(~full[:-1], 0, False)
        axes.plot(line.t, np.where(beside, line.mean, np.nan), **{**style, "alpha": 0.4})
    if len(line.theory):
        t = np.array(picked(range(len(line.theory)), points))
        expected = np.where(line.theory[t] > 0, line.theory[t], np.nan) if log else line.theory[t]
        axes.plot(t, expected, color=look.colour, linestyle=_DASHED, linewidth=1.0)


def _limits(lines: Sequence[Line], log: bool) -> tuple[float, float]:
    """A frame in which the means fill at least a third of the height, however wide the bands of few seeds are."""
    scale, back = (np.log, np.exp) if log else (np.asarray, np.asarray)
    mean = scale(np.concatenate([np.append(x.mean, x.theory[x.theory > 0] if log else x.theory) for x in lines]))
    half = np.concatenate([np.nan_to_num(line.half) for line in lines])
    centre = np.concatenate([line.mean for line in lines])
    edges = centre - half
    low, high = np.nanmin(mean), np.nanmax(mean)
    span = high - low or 2 * half.max() or abs(high) or 1.0
    bottom = max(low - span, float(np.min(scale(edges[edges > 0] if log else edges), initial=low)))
    top = min(high + span, float(np.max(scale(centre + half), initial=high)))
    air = 0.06 * (top - bottom) or 0.06 * span
    return float(back(bottom - air)), float(back(top + air))
