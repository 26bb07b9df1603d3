"""``Recording``: what every reader of motion capture makes of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CMU_UNIT = 0.0254 / 0.45
"""Metres in a unit of CMU's skeletons, which are in inches divided by 0.45."""


class Unusable(Exception):
    """A clip that is left out.

    Args:
        reason: what clips with the same trouble have in common; they are counted together.
        detail: of this clip.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


@dataclass(frozen=True, eq=False)
class Recording:
    """Where the joints of a recording are.

    Attributes:
        names: of J joints; the end of a chain is called ``<its parent>/end``.
        positions: ``(F, J, 3)`` in the source's own units and axes.
        fps: frames a second, or None where the file does not say.
        unit: metres in a unit, or None where the file does not say.
    """

    names: tuple[str, ...]
    positions: Array
    fps: float | None
    unit: float | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.positions).all():
            raise Unusable("numbers that are NaN or infinite")


def rotation(axis: str, degrees: Array) -> Array:
    """``(..., 3, 3)``: the rotation of column vectors about ``axis`` ("x", "y" or "z") by ``degrees (...)``."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.zeros((*np.shape(degrees), 3, 3))
    matrix[..., range(3), range(3)] = 1.0
    matrix[..., first, first] = matrix[..., second, second] = cosine
    matrix[..., second, first], matrix[..., first, second] = sine, -sine
    return matrix


def composed(axes: Sequence[str], degrees: Array) -> Array:
    """``(..., 3, 3)``: R = R_1 R_2 ... for rotations about ``axes`` by ``degrees (..., len(axes))``: the last is
    the first that a vector goes through."""
    matrix = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for position, axis in enumerate(axes):
        matrix = matrix @ rotation(axis, degrees[..., position])
    return matrix
