"""Ways to spoil a motion as bad generative models do, for tests and measurements; each a function of a seed.

All take and return ``(T, 22, 3)`` float64, metres, y up, 20 frames a second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from sc_loops.motion.bones import with_bone_lengths
from sc_loops.motion.skeleton import FPS

Array = NDArray[np.float64]


def jitter(joints: Array, rng: np.random.Generator, *, metres: float = 0.015) -> Array:
    """White noise on every coordinate of every joint."""
    return joints + metres * rng.standard_normal(joints.shape)


def sinking(joints: Array, rng: np.random.Generator, *, metres: float = 0.05) -> Array:
    """The whole motion under the floor."""
    return joints - np.array([0.0, metres, 0.0])


def oscillating(joints: Array, rng: np.random.Generator, *, metres: float = 0.06, seconds: float = 3.0) -> Array:
    """Down below the floor and up again, by up to ``metres``, every so many ``seconds``."""
    phase = 2 * np.pi * (np.arange(len(joints)) / FPS / seconds + rng.random())
    return joints - (metres * (0.5 - 0.5 * np.cos(phase)))[:, None, None] * [0.0, 1.0, 0.0]


def floating(joints: Array, rng: np.random.Generator, *, metres: float = 0.06) -> Array:
    """The whole motion in the air."""
    return joints + np.array([0.0, metres, 0.0])


def drifting(joints: Array, rng: np.random.Generator, *, speed: float = 0.3) -> Array:
    """The whole motion slides in some direction, at ``speed`` m/s."""
    angle = 2 * np.pi * rng.random()
    return joints + (np.arange(len(joints)) / FPS * speed)[:, None, None] * [np.cos(angle), 0.0, np.sin(angle)]


def overlapping(joints: Array, rng: np.random.Generator, *, share: float = 0.9) -> Array:
    """The forearms go into the body: elbow and wrist of both sides a part of the way to the spine, with bones that
    keep their lengths."""
    pulled = np.zeros(22)
    pulled[[18, 19]], pulled[[20, 21]] = 0.35 * share, 0.9 * share
    middle = joints[:, [3, 6]].mean(axis=1, keepdims=True)
    return with_bone_lengths(joints + pulled[:, None] * (middle - joints))


def mixed(joints: Array, rng: np.random.Generator) -> Array:
    """Drift, sinking and noise together."""
    return jitter(sinking(drifting(joints, rng), rng, metres=0.03), rng, metres=0.01)


def clean(joints: Array, rng: np.random.Generator) -> Array:
    """The motion as it is."""
    return joints


DEGRADATIONS: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    "clean": clean,
    "jitter": jitter,
    "sinking": sinking,
    "oscillating": oscillating,
    "floating": floating,
    "drift": drifting,
    "self-penetration": overlapping,
    "mixed": mixed,
}


def degraded(joints: Array, kind: str, seed: int) -> Array:
    """``joints`` spoilt in one of the ways of ``DEGRADATIONS``; the same for the same ``seed``."""
    return DEGRADATIONS[kind](joints, np.random.default_rng(seed))
