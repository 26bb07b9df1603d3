"""A motion made possible by soft constraints: springs pull all 22 joints of the simulated body along, while the floor
and its own limbs stop it.

The springs carry most of the weight, so this is a smooth projection on what does not penetrate rather than a motion
that was executed. It never falls.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.physics.body import BODIES, GRAVITY, MASS, reshaped, simulator, specification
from sc_loops.correction.physics.inverse_kinematics import joints_of, pose, rest_of
from sc_loops.correction.physics.outcome import Simulated
from sc_loops.correction.physics.rollout import add_floor_sensor, judged, run, spline
from sc_loops.motion.skeleton import FPS

Array = NDArray[np.float64]

STEPS = 5
"""Of the simulation in a frame: 100 a second."""

_TIME = 0.04  # seconds in which a spring closes a gap
_STIFFNESS = (0.5, 0.8)  # how much of it, of near and of far ones
_FRICTION = 0.8

# Springs on points leave the twist of a limb free, which then spins up with every touch: a little inertia (kg m^2),
# damping (N m s/rad) and stiffness (N m/rad) at the joints stop it.
_TWIST = (0.01, 0.2, 1.0)


@cache
def _model() -> Any:
    mj, spec = simulator(), specification(friction=_FRICTION)
    spec.option.timestep = 1.0 / (FPS * STEPS)
    spec.option.integrator = mj.mjtIntegrator.mjINT_DISCRETE
    spec.option.iterations, spec.option.ls_iterations = 20, 50
    for joint in BODIES[1:]:
        turn = spec.joint(f"turn{joint}")
        turn.armature = _TWIST[0]
        turn.damping, turn.stiffness = [_TWIST[1], 0.0, 0.0], [_TWIST[2], 0.0, 0.0]  # linear
    for joint in range(22):
        target = spec.worldbody.add_body(name=f"target{joint}", mocap=True)
        target.add_site(name=f"target{joint}")
        spec.add_equality(
            type=mj.mjtEq.mjEQ_CONNECT,
            objtype=mj.mjtObj.mjOBJ_SITE,
            name1=f"joint{joint}",
            name2=f"target{joint}",
            solref=[_TIME, 1.0],
            solimp=[*_STIFFNESS, 0.05, 0.5, 2.0],
        )
    add_floor_sensor(spec)
    return spec.compile()


def soft(joints: Array) -> Simulated:
    """What the body does that springs pull along ``joints (T, 22, 3)``."""
    rest = rest_of(joints)
    model, start = reshaped(_model(), rest), pose(joints[:2], rest)
    velocity = np.empty(model.nv)
    simulator().mj_differentiatePos(model, velocity, 1.0 / FPS, start[0], start[-1])
    times = np.arange(1, (len(joints) - 1) * STEPS + 1) / (FPS * STEPS)  # the ends of the steps
    path = spline(joints)
    # A critically damped spring follows x exactly when it is anchored at x + 2 t x' + t^2 x''.
    ahead = path(times) + 2 * _TIME * path(times, 1) + _TIME**2 * path(times, 2)
    control = ahead.reshape(len(times), -1)
    course = run(model, start[0], velocity, control, simulator().mjtState.mjSTATE_MOCAP_POS)
    out = joints_of(np.concatenate([start[:1], course.qpos[STEPS - 1 :: STEPS]]), rest)
    return judged(course, joints, out, _carried(course.sensors) if course.finished else float("nan"), float("nan"))


def _carried(sensors: Array) -> float:
    """Mean force of the springs on the whole body, in body weights: what changes its momentum, less its weight and
    the floor's force."""
    taken = MASS * np.diff(sensors[:, 3:6], axis=0) * FPS * STEPS - sensors[:-1, :3]
    taken[:, 1] += MASS * GRAVITY
    return float(np.linalg.norm(taken, axis=1).mean() / (MASS * GRAVITY))
