"""Arms that do not go through the body, and legs that do not go through one another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from sc_loops.correction.physics.legs import forward_direction
from sc_loops.correction.physics.outcome import Array
from sc_loops.motion.body_shape import RADII, SELF_PAIRS
from sc_loops.motion.bones import LENGTHS, unit
from sc_loops.motion.physical_errors import deepest_overlap, nearest_points

_ARMS = ((16, 18, 20), (17, 19, 21))  # shoulder, elbow and wrist
_NEGLIGIBLE = 0.001  # metres, mean overlap that is let be
_SIDE_BY_SIDE = 0.003  # metres, mean overlap of the legs that is let be
_ROUNDS, _MARGIN = 25, 0.004
_REACH = np.array(RADII)


def _pairs(bone: int) -> NDArray[np.intp]:
    """``(2, P)``: ``bone`` and each of the bones that it should not overlap."""
    return np.array([(i, j) if i == bone else (j, i) for i, j in SELF_PAIRS if bone in (i, j)]).T


_FOREARMS = tuple(_pairs(wrist) for *_, wrist in _ARMS)
_UPPER_ARMS = tuple(_pairs(elbow) for _, elbow, _ in _ARMS)
_BETWEEN_LEGS = np.array([pair for pair in SELF_PAIRS if {*pair} <= {4, 5, 7, 8, 10, 11}]).T


def legs_apart(joints: Array) -> Array:
    """``joints (T, 22, 3)`` with knees and feet moved sideways where the legs overlap; bones change their lengths.

    Motions in which they hardly do are returned as they are: people put their feet side by side.
    """
    if _depth(joints, _BETWEEN_LEGS).max(axis=1).clip(0).mean() < _SIDE_BY_SIDE:
        return joints
    result = joints.copy()
    across = unit((joints[:, 1] - joints[:, 2]) * [1.0, 0.0, 1.0])  # to the left
    for _ in range(_ROUNDS):
        deep = (_depth(result, _BETWEEN_LEGS).max(axis=1) + _MARGIN).clip(0)
        if deep.max() < _MARGIN:
            break
        half = 0.5 * gaussian_filter1d(maximum_filter1d(deep, 5, mode="nearest"), 2.0, mode="nearest")
        for side, leg in ((1, (4, 7, 10)), (-1, (5, 8, 11))):
            for joint, share in zip(leg, (0.5, 1.0, 1.0), strict=True):
                result[:, joint] += side * share * half[:, None] * across
    return result


def separated(joints: Array) -> Array:
    """``joints (T, 22, 3)`` with arms pushed out of what they overlap; bones keep their lengths.

    A motion that hardly overlaps is returned as it is. What else overlaps (the two legs) stays.
    """
    if deepest_overlap(joints).mean() < _NEGLIGIBLE:
        return joints
    result = joints.copy()
    forward = forward_direction(joints)
    for side, arm in enumerate(_ARMS):
        outward = 0.6 * forward + 0.8 * unit(joints[:, arm[0]] - joints[:, _ARMS[1 - side][0]])
        for _ in range(_ROUNDS):
            upper = _push(result, _UPPER_ARMS[side], arm, outward)
            if not _push(result, _FOREARMS[side], arm, outward) and not upper:
                break
    return result


def _push(joints: Array, pairs: NDArray[np.intp], arm: tuple[int, int, int], outward: Array) -> bool:
    """Move an arm out of what its bone ``pairs[0]`` overlaps most in each frame, in place; whether there was
    anything to do."""
    part, _, gap = nearest_points(joints, *pairs)
    depth = _REACH[pairs].sum(axis=0) + _MARGIN - np.linalg.norm(gap, axis=-1)
    frames, worst = np.arange(len(joints)), depth.argmax(axis=1)
    deep = np.maximum(depth[frames, worst], 0.0)
    if deep.max() < _MARGIN:
        return False
    # Bones that cross have no gap to tell the way out.
    way = unit(gap[frames, worst] + 0.02 * outward) * deep[:, None]
    along = part[frames, worst][:, None]
    shoulder, elbow, wrist = arm
    if pairs[0, 0] == elbow:
        at_elbow = at_wrist = _eased(way / np.maximum(along, 0.3))
    else:
        scale = along**2 + (1 - along) ** 2
        at_elbow, at_wrist = _eased((1 - along) / scale * way), _eased(along / scale * way)
    start, middle, end = joints[:, shoulder], joints[:, elbow] + at_elbow, joints[:, wrist] + at_wrist
    joints[:, elbow] = start + LENGTHS[elbow] * unit(middle - start)
    joints[:, wrist] = joints[:, elbow] + LENGTHS[wrist] * unit(end - joints[:, elbow])
    return True


def _depth(joints: Array, pairs: NDArray[np.intp]) -> Array:
    """``(T, P)`` metres, by how much each of the ``pairs (2, P)`` overlaps; negative where there is room."""
    *_, gap = nearest_points(joints, *pairs)
    return _REACH[pairs].sum(axis=0) - np.linalg.norm(gap, axis=-1)


def _eased(push: Array) -> Array:
    """``push (T, 3)`` without jumps from frame to frame."""
    return gaussian_filter1d(push, 1.5, axis=0, mode="nearest")
