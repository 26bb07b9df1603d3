"""The floor under a motion, and the wind that blows it along: both found from the joints that are at rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, median_filter

from sc_loops.correction.physics.contacts import ANKLE_HEIGHT, TOE_HEIGHT, low_passed, velocity
from sc_loops.correction.physics.outcome import STANCE_JOINTS, Array
from sc_loops.motion.skeleton import FPS

_SMOOTH = 6.0  # frames, sigma of the floor's curve
_CALM, _CALM_UP = 0.8, 0.4  # m/s, horizontal and vertical speed of a joint that may rest on the floor
_FALL = 5.0  # m/s², downward acceleration of a body that nothing holds, about half of g for the filter's sake
_DRIFT, _DRIFT_SURE = 0.06, 0.16  # m/s, sliding of the feet that is let be, and from which on all is removed

_REST = np.full(22, 0.10)  # metres, height of a joint inside the body when that lies on the floor there
_REST[[7, 8]], _REST[[10, 11]], _REST[[4, 5]] = ANKLE_HEIGHT, TOE_HEIGHT, 0.05
_REST[[18, 19]], _REST[[20, 21]] = 0.04, 0.035


def floor_curve(joints: Array) -> Array:
    """``(T,)`` metres: where the floor is, in each frame, if what rests does so on it. Constant 0 for a real motion
    up to a centimetre or two; no more than this follows from single steps."""
    height = joints[..., 1] - _REST
    speed = velocity(joints)
    calm = (np.hypot(speed[..., 0], speed[..., 2]) < _CALM) & (np.abs(speed[..., 1]) < _CALM_UP)
    lowest = height.min(axis=1)
    near = calm & (height < lowest[:, None] + 0.04)
    rests = near.any(axis=1) & ~_in_the_air(joints)
    if rests.sum() < 5:
        return np.full(len(joints), np.quantile(lowest, 0.1))
    support = np.where(near, height, np.inf).min(axis=1)
    frames = np.arange(len(joints))
    curve = np.interp(frames, frames[rests], support[rests])
    return gaussian_filter1d(median_filter(curve, 7, mode="nearest"), _SMOOTH, mode="nearest")


def _in_the_air(joints: Array) -> NDArray[np.bool_]:
    """Whether nothing holds the body: its middle falls."""
    middle = joints[:, [0, 9], 1].mean(axis=1)
    return velocity(velocity(low_passed(middle, 4.0))) < -_FALL


def drift(joints: Array, stance: NDArray[np.bool_]) -> Array:
    """``(T, 3)`` metres, horizontal: how far a motion has slid along with feet that stand.

    In each frame it is the slower of the standing joints that tells; what is slower than a rolling foot's is let be.
    """
    speed = velocity(joints[:, STANCE_JOINTS])
    speed[..., 1] = 0
    length = np.where(stance, np.linalg.norm(speed, axis=-1), np.inf)
    slowest = length.argmin(axis=1)
    stands = np.isfinite(length.min(axis=1))
    slip = np.where(stands[:, None], speed[np.arange(len(speed)), slowest], 0.0)
    weight = gaussian_filter1d(stands.astype(float), 10.0, mode="nearest")
    mean = gaussian_filter1d(slip, 10.0, axis=0, mode="nearest") / np.maximum(weight, 1e-3)[:, None]
    size = np.linalg.norm(mean, axis=-1, keepdims=True)
    share = np.clip((size - _DRIFT) / (_DRIFT_SURE - _DRIFT), 0, 1)
    path = np.cumsum(mean * share, axis=0) / FPS
    return path - path[:1]
