"""The panels that only motions have: how they fit their captions, how physical they are, what correction did."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sc_loops.correction.physics.outcome import STATUSES
from sc_loops.reporting.figures import CURATED, PALETTE, SAMPLES, Curve, curves, stacked
from sc_loops.reporting.history import REAL, keys_of, series
from sc_loops.reporting.wording import symbol
from sc_loops.run import Row

Drawn = tuple[str, Figure, str]
"""Title, figure, and what one sees in it."""

# Unchanged motions in greys, dark where that was right; corrected ones in colours.
_STATUS_COLOURS = dict(
    zip(STATUSES, ("#5c6b7a", PALETTE[0], PALETTE[6], PALETTE[4], PALETTE[1], "#c8ccd2", PALETTE[3]), strict=True)
)


def with_real(rows: Sequence[Row], key: str, label: str = "samples", colour: str | None = None) -> list[Curve]:
    """The curve of ``key`` and, dashed, the real data's own value where that is recorded; empty without the first."""
    own, real = series(rows, key), series(rows, key + REAL)
    if not len(own[0]):
        return []
    dashed = Curve(*real, "real data" if label == "samples" else "", "theory", colour)
    return [Curve(*own, label, colour=colour), *([dashed] if len(real[0]) else [])]


def caption_panels(rows: Sequence[Row]) -> list[Drawn]:
    """Fit to the captions, and diversity, in each evaluator's features."""
    words = {
        "matching_score": ("Matching score", "How far a motion is from its caption, on average. Lower is better"),
        "diversity": ("Diversity", "Mean distance between two motions. Best is the real data's own value"),
        "multimodality": ("Multimodality", "Mean distance between two motions of the same caption"),
    }
    spaces = {k.split("/")[1]: None for name in (*words, "r_precision_3") for k in keys_of(rows, name) if "/" in k}
    drawn: list[Drawn] = []
    for space in spaces:
        if lines := _precision(rows, space):
            caption = (
                "How often a motion's own caption is among the 1, 2 or 3 nearest of 32. Higher is better. "
                "Dashed: real motions."
            )
            drawn.append((f"R-precision ({space})", curves(lines, "share"), caption))
        for name, (title, caption) in words.items():
            if lines := with_real(rows, f"{name}/{space}"):
                drawn.append((f"{title} ({space})", curves(lines, symbol(f"{name}/{space}")), f"{caption}."))
    return drawn


def _precision(rows: Sequence[Row], space: str) -> list[Curve]:
    places = [(f"r_precision_{k}/{space}", f"R@{k}", colour) for k, colour in _PLACES]
    return [line for key, label, colour in places for line in with_real(rows, key, label, colour)]


_PLACES = ((1, SAMPLES), (2, CURATED), (3, PALETTE[2]))


def physical_panels(rows: Sequence[Row]) -> list[Drawn]:
    """Each physical error beside the real data's own."""
    words = {
        "error": ("Physical error", "mm", "Penetration, floating and skating added up"),
        "penetration": ("Penetration", "mm", "Depth of the lowest joint below the floor, mean over frames"),
        "floating": ("Floating", "mm", "Height of the lowest joint above the floor, mean over frames"),
        "skating": ("Skating", "mm a frame", "How far feet on the floor slide from frame to frame"),
        "jerk": ("Jerk", "m/s³", "Third derivative of the positions: trembling is high, blurred motion low"),
        "self_penetration": ("Self-penetration", "mm", "How deep limbs are inside one another, mean over frames"),
    }
    drawn: list[Drawn] = []
    for name, (title, unit, caption) in words.items():
        if lines := with_real(rows, f"physical/{name}"):
            drawn.append((title, curves(lines, unit), f"{caption}."))
    return drawn


def correction_panels(rows: Sequence[Row]) -> list[Drawn]:
    """What became of the motions that were picked for correction."""
    drawn: list[Drawn] = []
    known = [row for row in rows if keys_of([row], "correction/status")]
    shown = [s for s in STATUSES if any(row.get(f"correction/status/{s}", 0.0) for row in known)]
    if shown:
        layers = [(s, np.array([row.get(f"correction/status/{s}", 0.0) for row in known])) for s in shown]
        x = np.array([row["generation"] for row in known], dtype=float)
        figure = stacked(x, layers, "share", colours=[_STATUS_COLOURS[s] for s in shown], share=True)
        caption = (
            "Of the motions picked for correction. valid: good as they were; kept, rejected: no method did, so they "
            "are unchanged; the others name the method that corrected them."
        )
        drawn.append(("Status of correction", figure, caption))
    before, after = series(rows, "correction/error_before"), series(rows, "correction/error_after")
    if len(before[0]):
        lines = [Curve(*before, "before"), Curve(*after, "after", "curated")]
        caption = "Mean physical error of the motions picked for correction."
        drawn.append(("Physical error and correction", curves(lines, "mm"), caption))
    return drawn
