"""What the report says of choices that do not all follow one reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sc_loops.reporting.figures import PALETTE, Curve, curves
from sc_loops.reporting.history import Array, keys_of, series
from sc_loops.reporting.motion_panels import Drawn
from sc_loops.reporting.wording import number, symbol
from sc_loops.run import Row


def contested(facts: Row) -> str:
    """A sentence on the choices that are flipped or of several rewards, if there are any."""
    if "flipped" in facts:
        return f" A share of {facts['flipped']:g} of the choices is flipped: they follow -r."
    if "shares" in facts:
        shares = ", ".join(map(number, facts["shares"]))
        return f" The choices follow several rewards, numbered from 0; their shares of the choices are {shares}."
    return ""


def plural_panels(rows: Sequence[Row], theory: Mapping[str, Array]) -> list[Drawn]:
    """The rewards that decide a share of the choices each, with the theory of all."""
    words = {
        "plural_reward": ("Mean of each reward", "E[r]", "All that decide a share of the choices"),
        "plural_exp_reward": ("Mean of e to each reward", "E[eʳ]", "All that decide a share of the choices"),
        "nash_welfare": (
            "Nash welfare",
            symbol("nash_welfare"),
            "Σ w log E[eʳ], w being a reward's share of the choices. Without real data, choices among very many "
            "candidates never lower it in theory",
        ),
    }
    drawn: list[Drawn] = []
    for name, (title, label, caption) in words.items():
        lines: list[Curve] = []
        for i, key in enumerate(keys_of(rows, name)):
            found, colour = series(rows, key), PALETTE[i % len(PALETTE)]
            which = key[len(name) + 1 :]
            if len(found[0]):
                lines.append(Curve(*found, f"reward {which}" if which else "samples", colour=colour))
            if key in theory:
                expected = theory[key]
                x = np.arange(len(expected), dtype=float)
                lines.append(Curve(x, expected, "" if which else "theory", "theory", colour if which else None))
        if lines:
            dashed = ". Dashed: theory" if any(line.look == "theory" and not line.label for line in lines) else ""
            drawn.append((title, curves(lines, label), f"{caption}{dashed}."))
    return drawn
