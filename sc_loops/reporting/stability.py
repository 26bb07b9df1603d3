"""The admissible region of a self-correcting loop, and where runs lie in it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from sc_loops.correction.theory import is_stable, largest_synthetic_ratio
from sc_loops.reporting.figures import CURATED, PALETTE, SAMPLES, STYLE, Curve, curves

ASSUMPTIONS = (
    "Filled: where a theorem of Gillman et al. 2024 makes a loop stable, λ C < (1+γ)\u00a0/\u00a0(2+γ), at its best. "
    "It assumes infinite samples, a start near the optimum, retraining from the last weights, on real data and the "
    "newest pool alone (a fading memory trains on more synthetic data than λ says), and the ideal corrector; what is "
    "left of the distance from the optimum then shrinks by ρ(λ)\u00a0/\u00a0(1+γ) a generation. "
    "C = 1 + εL/α ≥ 1 is not known for a network, and C = 1 the best case. Outside of the region nothing is "
    "claimed: such a loop may be stable or not."
)
LIPSCHITZ_RATIOS = (1.0, 1.5, 2.0)
COLOURS = (SAMPLES, PALETTE[2], PALETTE[4])
SMALLEST, END = 0.01, 5.0  # γ up to which the axis is about linear; where γ = inf lies on it


@matplotlib.rc_context(STYLE)
def admissible_region(points: Sequence[tuple[float, float]]) -> Figure:
    """λ over γ: the region for C = 1, its border for C = 1.5 and 2, and a dot for each ``(γ, λ)`` of ``points``.

    Dots outside of the region are hollow. γ and λ are in [0, inf]; λ = inf has no place and is left out.
    """
    shown = [(strength, ratio) for strength, ratio in points if math.isfinite(ratio)]
    x = np.linspace(0, END, 201)
    strengths = SMALLEST * (10**x - 1)
    borders = [
        np.array([largest_synthetic_ratio(strength, lipschitz_ratio=c) for strength in strengths])
        for c in LIPSCHITZ_RATIOS
    ]
    lines = [
        Curve(x, border, f"C = {c:g}", "plain", colour)
        for c, border, colour in zip(LIPSCHITZ_RATIOS, borders, COLOURS, strict=True)
    ]
    figure = curves(lines, "synthetic ratio λ", x_label="correction strength γ")
    axes = figure.axes[0]
    axes.fill_between(x, borders[0], color=SAMPLES, alpha=0.12, linewidth=0)
    for strength, ratio in shown:
        face = CURATED if is_stable(ratio, strength) else "white"
        axes.plot(position(strength), ratio, "o", color=CURATED, markerfacecolor=face, markersize=6, clip_on=False)
    ticks = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0, math.inf)
    axes.set_xticks([position(tick) for tick in ticks], [f"{tick:g}" if tick < math.inf else "∞" for tick in ticks])
    axes.set_xlim(0, END)
    axes.set_ylim(0, 1.1 * max([1.0, *(ratio for _, ratio in shown)]))
    return figure


def position(strength: float) -> float:
    """Where γ lies on the axis: logarithmic, but 0 is on it, and all γ above 1000 lie at its end, with inf."""
    return min(END, math.log10(1 + strength / SMALLEST)) if strength < math.inf else END
