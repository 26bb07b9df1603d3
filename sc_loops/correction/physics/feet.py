"""Where the feet are to be: planted while they stand, clear of the floor while they swing, smooth in between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter1d

from sc_loops.correction.physics.contacts import TOE_HEIGHT, episodes
from sc_loops.correction.physics.legs import LEGS
from sc_loops.correction.physics.outcome import Array
from sc_loops.motion.bones import LENGTHS, unit

_RISE = 1  # frames from a stance to the full clearance
_LOWEST_ANKLE = 0.040  # metres


def feet(joints: Array, stance: NDArray[np.bool_], clearance: float) -> tuple[Array, Array]:
    """Ankles and toes, each ``(T, 2, 3)``, left and right, that do not slide while they stand.

    Args:
        joints: ``(T, 22, 3)`` over a floor at 0.
        stance: ``(T, 4)``, see ``Kinematic``.
        clearance: metres, the least height of a toe that swings.
    """
    placed = [
        _foot(joints, *leg[2:], stance[:, side], stance[:, 2 + side], clearance) for side, leg in enumerate(LEGS)
    ]
    ankles, toes = zip(*placed, strict=True)
    return np.stack(ankles, axis=1), np.stack(toes, axis=1)


def _foot(
    joints: Array,
    ankle: int,
    toe: int,
    on_heel: NDArray[np.bool_],
    on_toe: NDArray[np.bool_],
    clearance: float,
) -> tuple[Array, Array]:
    direction = unit(joints[:, toe] - joints[:, ankle])
    ends = joints[:, toe].copy()
    heels = ends - LENGTHS[toe] * direction
    moved = _planted(heels, ends, on_heel, on_toe)
    moved[:, 1] = _between(np.where(on_toe, TOE_HEIGHT - ends[:, 1], 0.0), on_toe)
    moved[:, 1] += _lift(heels[:, 1] + moved[:, 1], ends[:, 1] + moved[:, 1], on_toe, clearance)
    ends += moved
    direction = _not_through_the_floor(direction, ends[:, 1], LENGTHS[toe])
    return ends - LENGTHS[toe] * direction, ends


def _planted(heels: Array, ends: Array, on_heel: NDArray[np.bool_], on_toe: NDArray[np.bool_]) -> Array:
    """``(T, 3)``, horizontal: what keeps the toe where it is while it stands, else the heel. As little as does so,
    and eased from one stance to the next."""
    steps = -np.where((on_toe[1:] & on_toe[:-1])[:, None], np.diff(ends, axis=0), np.diff(heels, axis=0))
    steps[:, 1] = 0
    moved, stands = np.zeros_like(ends), on_heel | on_toe
    for first, after in episodes(stands):
        path = np.concatenate([np.zeros((1, 3)), np.cumsum(steps[first : after - 1], axis=0)])
        moved[first:after] = path - path.mean(axis=0)
    return _between(moved, stands)


def _between(x: Array, known: NDArray[np.bool_]) -> Array:
    """``x (T, ...)`` where it is ``known``, eased from one known frame to the next, held before and after."""
    where = np.flatnonzero(known)
    if not len(where):
        return np.zeros_like(x)
    frames = np.arange(len(x))
    after = np.searchsorted(where, frames).clip(0, len(where) - 1)
    before = (np.searchsorted(where, frames, side="right") - 1).clip(0, len(where) - 1)
    left, right = where[before], where[after]
    part = np.clip((frames - left) / np.maximum(right - left, 1), 0, 1)
    eased = (part * part * (3 - 2 * part)).reshape(-1, *(1,) * (x.ndim - 1))
    return x[left] + eased * (x[right] - x[left])


def _lift(heel: Array, toe: Array, on_toe: NDArray[np.bool_], clearance: float) -> Array:
    """``(T,)``: by how much to lift a foot that swings too low."""
    away = distance_transform_edt(~on_toe) if on_toe.any() else np.full(len(toe), 1.0)
    rise = np.clip(away / _RISE, 0, 1)
    least = TOE_HEIGHT + (clearance - TOE_HEIGHT) * rise * rise * (3 - 2 * rise)
    lift = np.maximum(np.maximum(least - toe, _LOWEST_ANKLE - heel), 0.0)
    lift[on_toe] = 0
    return np.maximum(lift, np.where(on_toe, 0.0, gaussian_filter1d(lift, 1.0)))


def _not_through_the_floor(direction: Array, toe: Array, length: float) -> Array:
    """The foot's ``direction`` with the heel no lower than an ankle can be."""
    steepest = np.clip((toe - _LOWEST_ANKLE) / length, -1, 1)
    y = np.minimum(direction[:, 1], steepest)
    flat = direction * [1.0, 0.0, 1.0]
    turned = unit(flat) * np.sqrt(1 - y * y)[:, None]
    turned[:, 1] = y
    return np.where((y < direction[:, 1])[:, None], turned, direction)
