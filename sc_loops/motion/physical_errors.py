"""How far a motion is from one that a body could make: its distance from the floor, its sliding, its overlaps.

Penetration, floating and skating are those of PhysDiff (Yuan et al. 2023), on joints instead of a mesh.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sc_loops.motion.body_shape import RADII, SELF_PAIRS
from sc_loops.motion.skeleton import FPS, PARENTS

Array = NDArray[np.float64]

TOLERANCE = 0.005  # metres from the floor that count as on it
TOES, NEAR_FLOOR = (10, 11), 0.03


@dataclass(frozen=True)
class PhysicalErrors:
    """Of one motion. Real ones are not at 0: their lowest joint is inside a foot, and they jump.

    Attributes:
        penetration: mm, mean over the frames of the depth of the lowest joint where it is more than 5 mm below the
            floor, else 0.
        floating: mm, mean over the frames of the height of the lowest joint where it is more than 5 mm above, else 0.
        skating: mm a frame, mean horizontal step of the toes that are below 30 mm in a frame and the one before; 0
            without any.
        jerk: m/s³, mean over joints and frames of the third derivative's length.
        self_penetration: mm, mean over the frames of the deepest overlap of two capsules that should not.
    """

    penetration: float
    floating: float
    skating: float
    jerk: float
    self_penetration: float

    @property
    def error(self) -> float:
        """Penetration + floating + skating, PhysDiff's physical error, mm."""
        return self.penetration + self.floating + self.skating


def physical_errors(joints: Array) -> PhysicalErrors:
    """Of ``joints (T, 22, 3)``, metres, y up, 20 frames a second, floor y = 0, T >= 4."""
    lowest = joints[..., 1].min(axis=1)
    off = np.abs(lowest) > TOLERANCE
    steps, near = _toe_steps(joints, NEAR_FLOOR)
    jerk = np.diff(joints, n=3, axis=0) * FPS**3
    return PhysicalErrors(
        penetration=1000 * float(np.mean(np.where(off & (lowest < 0), -lowest, 0.0))),
        floating=1000 * float(np.mean(np.where(off & (lowest > 0), lowest, 0.0))),
        skating=1000 * float(steps[near].mean()) if near.any() else 0.0,
        jerk=float(np.linalg.norm(jerk, axis=-1).mean()),
        self_penetration=1000 * float(deepest_overlap(joints).mean()),
    )


def _toe_steps(joints: Array, height: float) -> tuple[Array, NDArray[np.bool_]]:
    """Horizontal steps ``(T-1, 2)`` of the toes, and where these are below ``height`` before and after."""
    toes = joints[:, TOES]
    low = toes[..., 1] < height
    step = np.diff(toes, axis=0)
    return np.hypot(step[..., 0], step[..., 2]), low[1:] & low[:-1]


_A, _B = np.array(SELF_PAIRS).T
_REACH = np.array(RADII)[_A] + np.array(RADII)[_B]


def deepest_overlap(joints: Array) -> Array:
    """``(T,)``, metres: by how much the two capsules overlap that overlap most; 0 where none do."""
    *_, gap = nearest_points(joints, _A, _B)
    return np.maximum(_REACH - np.sqrt(_dot(gap, gap)), 0.0).max(axis=1)


def nearest_points(joints: Array, first: NDArray[np.intp], second: NDArray[np.intp]) -> tuple[Array, Array, Array]:
    """Where P pairs of bones are nearest (Ericson 2004, Real-Time Collision Detection, 5.1.9).

    Args:
        joints: ``(T, 22, 3)``.
        first, second: ``(P,)``, bones, named by the joints that they end in.

    Returns:
        s, t: ``(T, P)`` in [0, 1], how far along its bone, from the parent on, the nearest point is.
        gap: ``(T, P, 3)``, from the point of the second bone to that of the first.
    """
    p, q = joints[:, _PARENTS[first]], joints[:, _PARENTS[second]]
    u, v, w = joints[:, first] - p, joints[:, second] - q, p - q
    a, b, c = _dot(u, u), _dot(u, v), _dot(v, v)
    d, e = _dot(u, w), _dot(v, w)
    a, c = np.maximum(a, _TINY), np.maximum(c, _TINY)
    across = a * c - b * b
    s = np.where(across > _TINY, np.clip((b * e - c * d) / np.maximum(across, _TINY), 0, 1), 0.0)
    t = np.clip((b * s + e) / c, 0, 1)
    s = np.clip((b * t - d) / a, 0, 1)
    return s, t, w + s[..., None] * u - t[..., None] * v


_PARENTS, _TINY = np.array(PARENTS), 1e-12


def _dot(x: Array, y: Array) -> Array:
    return np.einsum("...i,...i->...", x, y)
