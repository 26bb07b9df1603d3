"""Bones of the skeleton's lengths, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sc_loops.motion.skeleton import BONE_LENGTHS, PARENTS

Array = NDArray[np.float64]

LENGTHS: Array = BONE_LENGTHS.double().numpy()
"""``(22,)`` metres, from the parent; 0 for the pelvis."""


def unit(x: Array) -> Array:
    """``x (..., 3)`` of length 1."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def bone_errors(joints: Array) -> Array:
    """``(T, 21)`` metres: by how much the bones of ``joints (T, 22, 3)`` differ from the skeleton's lengths."""
    return np.abs(np.linalg.norm(joints[:, 1:] - joints[:, list(PARENTS[1:])], axis=-1) - LENGTHS[1:])


def with_bone_lengths(joints: Array) -> Array:
    """``joints (T, 22, 3)`` with the directions of their bones, from the pelvis on, and the skeleton's lengths."""
    result = joints.copy()
    for j, parent in enumerate(PARENTS[1:], start=1):  # parents come before their children
        result[:, j] = result[:, parent] + LENGTHS[j] * unit(joints[:, j] - joints[:, parent])
    return result
