"""A whole clip simulated in one call of MuJoCo, and its motion read off frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.signal import butter, sosfiltfilt

from sc_loops.correction.physics.body import quiet_simulator, simulator
from sc_loops.correction.physics.inverse_kinematics import continuous
from sc_loops.correction.physics.outcome import Simulated
from sc_loops.motion.skeleton import FPS

Array = NDArray[np.float64]

HEAD = 15
FURTHEST, LOWEST_HEAD = 0.30, 0.35
"""Metres from what is followed, mean over the joints of a frame, and of the head below it, from which on a body
counts as fallen."""


@dataclass(frozen=True, eq=False)
class Course:
    """What a simulation went through.

    Attributes:
        qpos: ``(S, 71)`` after each step.
        sensors: ``(S, K)``.
        finished: whether it got to its end without divergence.
    """

    qpos: Array
    sensors: Array
    finished: bool


def spline(x: Array) -> CubicSpline:
    """The cubic spline through ``x (T, ...)``, 20 frames a second, over seconds; beyond its ends it goes on at the
    same speed (odd extension by at most 5 frames)."""
    beyond = min(5, len(x) - 1)
    before, after = 2 * x[:1] - x[beyond:0:-1], 2 * x[-1:] - x[-2 : -2 - beyond : -1]
    return CubicSpline(np.arange(-beyond, len(x) + beyond) / FPS, np.concatenate([before, x, after]), axis=0)


def run(model: Any, qpos: Array, qvel: Array, control: Array, spec: int, *, threads: int = 1) -> Course:
    """Simulate ``len(control)`` steps from ``qpos (71,)`` with ``qvel (54,)``.

    Args:
        control: ``(S, C)`` what acts in each step, in the order of the bits of ``spec``.
        threads: more than one give the same numbers; only several clips at once would be quicker.
    """
    mj = simulator()
    from mujoco import rollout  # a submodule: ``simulator`` has checked that it is there

    data = mj.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    full = mj.mjtState.mjSTATE_FULLPHYSICS
    start = np.empty(mj.mj_stateSize(model, full))
    mj.mj_getState(model, data, start, full)
    with quiet_simulator():
        scratch = [mj.MjData(model) for _ in range(threads)]
        states, sensors = rollout.rollout(
            [model] * threads,
            scratch,
            np.tile(start, (threads, 1)),
            np.tile(control, (threads, 1, 1)),
            control_spec=int(spec),
        )
    state, sensed = states[-1], sensors[-1]
    end = len(control) * model.opt.timestep
    finished = bool(np.isfinite(state).all() and abs(state[-1, 0] - end) < model.opt.timestep / 2)
    return Course(state[:, 1 : 1 + model.nq], sensed, finished)


def add_floor_sensor(spec: Any) -> None:
    """Let a model report the force of the floor on the body, and the velocity of its centre of mass: the first 6
    sensor values."""
    mj = simulator()
    spec.add_sensor(
        name="floor",
        type=mj.mjtSensor.mjSENS_CONTACT,
        objtype=mj.mjtObj.mjOBJ_GEOM,
        objname="floor",
        intprm=[1 << int(mj.mjtConDataField.mjCONDATA_FORCE), 3, 1],  # of all contacts, in the world's axes
    )
    spec.add_sensor(
        name="velocity", type=mj.mjtSensor.mjSENS_SUBTREELINVEL, objtype=mj.mjtObj.mjOBJ_BODY, objname="body0"
    )


@lru_cache
def _butterworth(cutoff: float, rate: float) -> Any:
    return butter(2, cutoff, fs=rate, output="sos")


def smoothed(qpos: Array, cutoff: float, rate: float) -> Array:
    """``qpos (S, 71)`` without what is quicker than ``cutoff`` Hz. The rotations are filtered, not the joints, so
    that the bones keep their length."""
    return sosfiltfilt(_butterworth(cutoff, rate), continuous(qpos), axis=0)


def judged(course: Course, followed: Array, out: Array, force: float, torque: float) -> Simulated:
    """What to say of a simulation whose joints are ``out (T, 22, 3)`` and should have been ``followed``."""
    if not course.finished:
        return Simulated(followed, False, reason="the simulation diverged")
    distance = np.linalg.norm(out - followed, axis=-1).mean(axis=1)
    low = float((followed[:, HEAD, 1] - out[:, HEAD, 1]).max())
    reason = ""
    if distance.max() > FURTHEST:
        reason = f"it fell or lost its way: the joints are {distance.max() * 1000:.0f} mm off in a frame"
    elif low > LOWEST_HEAD:
        reason = f"it fell: the head is {low * 1000:.0f} mm too low in a frame"
    joints = followed if reason else out
    return Simulated(joints, not reason, float(distance.mean()) * 1000, force, torque, reason)
