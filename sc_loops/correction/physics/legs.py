"""Legs that reach where the feet are to be."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from sc_loops.correction.physics.outcome import Array
from sc_loops.motion.bones import LENGTHS, unit

LEGS = ((1, 4, 7, 10), (2, 5, 8, 11))
"""Hip, knee, ankle and toe of the left and of the right leg."""

_STRAIGHT = 0.9995  # of a leg's length, the most that a hip is from its ankle


def reach_shift(hips: Array, ankles: Array) -> Array:
    """``(T, 3)``: how to move the pelvis, smoothly, so that both legs reach.

    Args:
        hips, ankles: ``(T, 2, 3)``, left and right.
    """
    longest = _STRAIGHT * np.array([LENGTHS[knee] + LENGTHS[ankle] for _, knee, ankle, _ in LEGS])
    shift = np.zeros((len(hips), 3))
    for _ in range(3):
        gap = ankles - hips - shift[:, None]
        distance = np.linalg.norm(gap, axis=-1)
        over = np.maximum(distance - longest, 0.0)
        if not over.any():
            break
        needed = (over[..., None] * unit(gap)).sum(axis=1)
        size = np.linalg.norm(needed, axis=-1)
        widened = gaussian_filter1d(maximum_filter1d(size, 5, mode="nearest"), 1.5, mode="nearest")
        direction = unit(gaussian_filter1d(needed, 2.0, axis=0, mode="nearest"))
        shift = shift + widened[:, None] * direction
    return shift


def bent(hip: Array, knee: Array, ankle: Array, upper: float, lower: float, forward: Array) -> tuple[Array, Array]:
    """The knee and the ankle ``(T, 3)`` of a leg with bones ``upper`` and ``lower`` whose ankle is at ``ankle`` or,
    where it does not reach, on the way there. It bends in the plane in which ``knee`` is; ``forward`` decides where
    that is hardly off the line.
    """
    gap = ankle - hip
    distance = np.linalg.norm(gap, axis=-1, keepdims=True)
    along = gap / np.maximum(distance, 1e-9)
    reached = np.clip(distance, 1.02 * abs(upper - lower) + 0.02, _STRAIGHT * (upper + lower))
    out = knee - hip + 0.02 * forward
    out = unit(out - (out * along).sum(axis=-1, keepdims=True) * along)
    cosine = (upper**2 + reached**2 - lower**2) / (2 * upper * reached)
    sine = np.sqrt(np.maximum(1 - cosine**2, 0.0))
    return hip + upper * (cosine * along + sine * out), hip + reached * along


def forward_direction(joints: Array) -> Array:
    """``(T, 3)``: where the pelvis faces."""
    across = joints[:, 1] - joints[:, 2]  # to the left
    return unit(np.cross(across, np.array([0.0, 1.0, 0.0])))
