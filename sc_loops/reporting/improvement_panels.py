"""What the report says of models that are improved before they are sampled: the search for ω, and what was found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sc_loops.reporting.figures import GENERATIONS, Curve, curves
from sc_loops.reporting.history import picked, series
from sc_loops.reporting.motion_panels import Drawn
from sc_loops.reporting.wording import symbol
from sc_loops.run import Row

LOOKS: tuple[tuple[str, Literal["samples", "curated"]], ...] = (("base", "samples"), ("improved", "curated"))
MAX_SEARCHES = 3  # as many as a legend has in a row

TEXT = (
    "The model is sampled as (1 + ω) base - ω auxiliary, where the auxiliary is the base, fine-tuned on its samples. "
    "ω = 0 is the base. Where ω was searched, the one with the lowest distance was taken. Of what it gains here a "
    "little is due to the choice; the metrics of the generation are of other samples."
)


def improvement_panels(rows: Sequence[Row]) -> list[Drawn]:
    """The curves over ω of some generations, ω itself, and how far the classes are from the shares wanted of them."""
    words = {
        "search": ("Search for ω", "What the search wants low, by default a distance to held-out real data"),
        "precision": ("Precision over ω", "Share of samples that look real"),
        "recall": ("Recall over ω", "Share of real data that samples cover"),
    }
    drawn: list[Drawn] = []
    for quantity, (title, caption) in words.items():
        if lines := _over_omega(rows, f"improvement/{quantity}/"):
            drawn.append((title, _figure(lines, symbol(f"improvement/{quantity}")), f"{caption}, over ω."))
    omega = Curve(*series(rows, "improvement/omega"))
    if drawn and len(omega.x) > 1:
        drawn.append(("ω of each generation", curves([omega], "ω"), "The one that was taken."))
    apart = [Curve(*series(rows, f"improvement/total_variation/{of}"), of, look) for of, look in LOOKS]
    if len(apart[0].x):
        caption = "Between the shares of the classes and the wanted ones: 0 where they are the same."
        drawn.append(("Distance to the wanted shares", curves(apart, "total variation"), caption))
    return drawn


def _figure(lines: Sequence[Curve], label: str) -> Figure:
    figure = curves(lines, label, x_label="ω")
    figure.axes[0].xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))  # ω is no whole number
    return figure


def _over_omega(rows: Sequence[Row], prefix: str) -> list[Curve]:
    """One curve for each generation that is shown, the later the darker."""
    searched = {int(row["generation"]): row for row in rows if any(key.startswith(prefix) for key in row)}
    shown = picked(list(searched), MAX_SEARCHES)
    lines = []
    for i, t in enumerate(shown):
        values = {float(k.removeprefix(prefix)): v for k, v in searched[t].items() if k.startswith(prefix)}
        finite = sorted((omega, value) for omega, value in values.items() if math.isfinite(value))
        if finite:
            x, y = np.array(finite, dtype=float).T
            colour = to_hex(GENERATIONS(i / (len(shown) - 1) if len(shown) > 1 else 0.5))
            lines.append(Curve(x, y, f"t = {t}", colour=colour))
    return lines
