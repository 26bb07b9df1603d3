"""Where a motion touches the floor: filters, speeds, and the stances of the feet."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_opening, label
from scipy.signal import butter, sosfiltfilt

from sc_loops.correction.physics.outcome import STANCE_JOINTS, Array
from sc_loops.motion.skeleton import FPS

SHORTEST = 14
"""Frames below which nothing can be filtered."""

TOE_HEIGHT, ANKLE_HEIGHT = 0.012, 0.057
"""Metres above the floor of the joints of a foot that stands flat."""

CUTOFFS = (6.0, 4.0, 3.0)
"""Hz, by noise level."""

_NOISY = (180.0, 450.0)  # m/s³, jerk of the median joint from which on a motion counts as noisy, very noisy
_JERK = 80.0  # m/s³ for each m/s; beyond it, 95 % of 157 real clips have less than 95, noise of 10 mm 400 and more
_CONTACT_HEIGHT, _RELEASE = 0.045, 1.25
CONTACT_SPEED, STILL = 0.8, 0.45
"""m/s, of a joint that stands, perhaps on a body that drifts; and where it is known that none does."""
_RUNNING = 0.3  # of the body's speed, by which the feet of a runner may be quicker


def noise_level(joints: Array) -> int:
    """0, 1 or 2: how much of ``joints (T, 22, 3)`` is too quick for a body."""
    jerk = np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1) * FPS**3
    return int(np.searchsorted(_NOISY, np.median(jerk) - jerk_of_speed(joints)))


def jerk_of_speed(joints: Array) -> float:
    """m/s³: the jerk that goes with how quick a motion is. A runner has much of it, and noise has it at rest."""
    return _JERK * float(np.linalg.norm(velocity(joints), axis=-1).mean())


def low_passed(x: Array, cutoff: float) -> Array:
    """``x (T, ...)`` without what is quicker than ``cutoff`` Hz; forwards and backwards, so that nothing is late."""
    return sosfiltfilt(_butterworth(cutoff), x, axis=0)


@lru_cache
def _butterworth(cutoff: float) -> Any:
    return butter(2, cutoff, fs=FPS, output="sos")


def velocity(x: Array) -> Array:
    """m/s, of ``x (T, ...)`` by central differences."""
    return np.gradient(x, axis=0) * FPS


def stances(joints: Array, speed: float = CONTACT_SPEED) -> NDArray[np.bool_]:
    """``(T, 4)``: whether the left ankle, right ankle, left toe and right toe stand on the floor.

    A joint stands while it is low and slow, with hysteresis: it has to be lower and slower to begin with. The feet of
    a runner may be quicker, by a part of the body's own speed, or their short stances would be missed.
    """
    feet = joints[:, STANCE_JOINTS]
    height = feet[..., 1] - [*[ANKLE_HEIGHT - TOE_HEIGHT] * 2, 0.0, 0.0]
    quick = np.linalg.norm(velocity(feet), axis=-1)
    travel = np.hypot(*velocity(joints[:, 0])[:, [0, 2]].T)
    slow = speed + _RUNNING * np.maximum(travel - 1.0, 0)[:, None]
    begins = (height < _CONTACT_HEIGHT) & (quick < slow)
    stays = (height < _RELEASE * _CONTACT_HEIGHT) & (quick < _RELEASE * slow)
    return np.stack([_hysteresis(b, s) for b, s in zip(begins.T, stays.T, strict=True)], axis=1)


def _hysteresis(begins: NDArray[np.bool_], stays: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The stretches of ``stays`` in which ``begins`` is true somewhere, without gaps and stretches of one frame."""
    pieces, _ = label(stays)
    kept = np.isin(pieces, np.unique(pieces[begins & stays])) & stays
    return binary_opening(binary_closing(np.pad(kept, 2, mode="edge"), [1, 1, 1]), [1, 1])[2:-2]


def episodes(contact: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First frames and frames after the last of the stretches of ``contact (T,)``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], contact.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def own_skating(joints: Array) -> float:
    """mm a frame: mean horizontal step of the toes and ankles while they stand, by the motion's own stances; 0
    without any."""
    stance = stances(joints)
    step = np.diff(joints[:, STANCE_JOINTS], axis=0)
    both = stance[1:] & stance[:-1]
    # Of a foot that rolls, one of the two joints stands still: count the slower one.
    length = np.where(both, np.hypot(step[..., 0], step[..., 2]), np.inf).reshape(-1, 2, 2).min(axis=1)
    stands = np.isfinite(length)
    return 1000 * float(length[stands].mean()) if stands.any() else 0.0
