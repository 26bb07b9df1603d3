"""A motion executed by the simulated body: torques at its joints, feet that stand on the floor, gravity, and a small
bounded force on the pelvis for what these do not explain (residual force control, Yuan and Kitani 2020).

Each joint gets the torque that inverse dynamics asks for, with the planned contact forces of the feet, and a servo
towards the planned rotation. Where the plan lets a foot stand, it is held there as by friction; otherwise the floor
only keeps it from going through, so that a swinging foot which brushes it does not trip the body.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.physics.body import (
    BODIES,
    GRAVITY,
    MASS,
    carried_by,
    reshaped,
    simulator,
    specification,
)
from sc_loops.correction.physics.dynamics import contact_forces, joint_torques, loads
from sc_loops.correction.physics.inverse_kinematics import joints_of, pose, rest_of
from sc_loops.correction.physics.outcome import STANCE_JOINTS, Kinematic, Simulated
from sc_loops.correction.physics.rollout import Course, add_floor_sensor, judged, run, smoothed, spline
from sc_loops.motion.skeleton import FPS

Array = NDArray[np.float64]

PLANNED, STEPS = 4, 12
"""Poses that are planned, and steps that are simulated, in a frame: 80 and 240 a second."""

_SPARSE = 4  # poses from one at which contact forces are found to the next
_LEGS = frozenset({1, 2, 4, 5, 7, 8})
_GAIN, _DAMPING = 50.0, 0.06  # N m/rad for the root of each kilogram, and seconds: velocity gain / position gain
_LIMIT = 1.0  # rad, error of a joint at which its servo is as strong as it gets
_ARMATURE = 0.02  # kg m^2 more at each joint, without which a foot, as light as it is, gets out of its servo's hand
_LEAD = _DAMPING  # seconds at the present speed that the references are ahead: the servos damp velocity as such
_ROOT = (8000.0, 2000.0)  # N/m and N m/rad of the residual
_FRICTION = 0.05
# Metres that a held foot is lifted, and the lowest at which ankle, ankle, toe and toe are held: floor and hold would
# press against one another otherwise, with several times the body's weight.
_RAISED, _LOWEST_HELD = 0.0025, (0.055, 0.055, 0.0, 0.0)
_CUTOFF = 7.0  # Hz, of the output
_ORIENTATION = 2  # the control of a rotation servo is a quaternion


def _held_by(joint: int) -> float:
    """Kilograms that the muscles of ``joint`` move: what hangs on it, or what stands on it."""
    hanging = carried_by(joint)
    return MASS - hanging if joint in _LEGS else hanging


def _add_servos(spec: Any, residual_force: float, residual_torque: float) -> None:
    """Servos whose controls, in order, are a ``qpos``."""
    mj = simulator()
    spec.worldbody.add_site(name="world")
    for axis in range(3):
        servo = spec.add_actuator(
            name=f"residual{axis}",
            trntype=mj.mjtTrn.mjTRN_SITE,
            target="joint0",
            refsite="world",
            gear=[float(axis == i) for i in range(6)],
        )
        servo.set_to_position(kp=_ROOT[0], kv=_DAMPING * _ROOT[0])
        servo.forcelimited, servo.forcerange = 1, [-residual_force, residual_force]
    for joint in BODIES:
        gain = _GAIN * np.sqrt(_held_by(joint)) if joint else _ROOT[1]
        where = (
            {"trntype": mj.mjtTrn.mjTRN_JOINT, "target": f"turn{joint}"}
            if joint
            else {"trntype": mj.mjtTrn.mjTRN_SITE, "target": "joint0", "refsite": "world"}
        )
        servo = spec.add_actuator(name=f"servo{joint}", **where)
        servo.set_to_orientation(kp=gain, kv=_DAMPING * gain, ctrlspec=_ORIENTATION)
        limit = _LIMIT * gain if joint else residual_torque
        servo.forcelimited, servo.forcerange = 1, [0.0, limit]


@lru_cache(maxsize=8)
def _model(residual_force: float, residual_torque: float) -> Any:
    mj, spec = simulator(), specification(friction=_FRICTION)
    spec.option.timestep = 1.0 / (FPS * STEPS)
    spec.option.integrator = mj.mjtIntegrator.mjINT_DISCRETE
    spec.option.solver, spec.option.cone = mj.mjtSolver.mjSOL_NEWTON, mj.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations, spec.option.ls_iterations = 20, 50
    for geom in spec.geoms:
        geom.solref = [0.01, 1.0]
    for joint in BODIES[1:]:
        spec.joint(f"turn{joint}").armature = _ARMATURE
    _add_servos(spec, residual_force, residual_torque)
    for joint in STANCE_JOINTS:
        hold = spec.worldbody.add_body(name=f"hold{joint}", mocap=True)
        hold.add_site(name=f"hold{joint}")
        spec.add_equality(
            type=mj.mjtEq.mjEQ_CONNECT,
            objtype=mj.mjtObj.mjOBJ_SITE,
            name1=f"joint{joint}",
            name2=f"hold{joint}",
            solref=[0.015, 1.0],
            solimp=[0.95, 0.99, 0.001, 0.5, 2.0],
        )
    add_floor_sensor(spec)
    for name in ("residual0", "residual1", "residual2", "servo0"):
        spec.add_sensor(
            name=name, type=mj.mjtSensor.mjSENS_ACTUATORFRC, objtype=mj.mjtObj.mjOBJ_ACTUATOR, objname=name
        )
    return spec.compile()


def _planted(stance: NDArray[np.bool_], times: Array) -> Array:
    """``(S, 4)`` from 0 to 1: how firmly the feet of ``stance (T, 4)`` stand at ``times``; linear in between."""
    knots = np.arange(len(stance)) / FPS
    return np.stack([np.interp(times, knots, foot) for foot in stance.T.astype(np.float64)], axis=1)


def _feed_forward(qpos: Array, rest: Array, planted: Array) -> Array:
    """``(N, 48)`` newton metres of the ball joints at the planned poses ``qpos (N + 2, 71)`` but the outer ones.

    Contact forces are found in some of the poses and are linear in between.
    """
    load = loads(qpos, 1.0 / (FPS * PLANNED), rest)
    count = len(load.force)
    some = np.unique(np.append(np.arange(0, count, _SPARSE), count - 1))
    # The columns of planted: left ankle, right ankle, left toe, right toe. The points: left heels and balls, right.
    weight = planted[1:-1][:, [0, 0, 2, 2, 1, 1, 3, 3]]
    points, forces = contact_forces(load.at(some), weight[some])
    points, forces = (
        _between(np.arange(count), some, x.reshape(len(some), -1)).reshape(count, 8, 3) for x in (points, forces)
    )
    return joint_torques(load, points, forces).reshape(count, -1)


def _between(at: NDArray[Any], knots: NDArray[Any], x: Array) -> Array:
    """``x (K, C)`` at ``knots (K,)``, linearly interpolated: ``(len(at), C)``."""
    upper = np.clip(np.searchsorted(knots, at, side="right"), 1, len(knots) - 1)
    low, high = knots[upper - 1], knots[upper]
    share = np.clip((at - low) / (high - low), 0.0, 1.0)[:, None]
    return (1.0 - share) * x[upper - 1] + share * x[upper]


def _control(plan: Kinematic, rest: Array, model: Any) -> tuple[Array, Array, Array]:
    """What acts in each step ``(S, C)``, and where the body starts: ``qpos (71,)``, ``qvel (54,)``."""
    frames, rate = len(plan.joints), FPS * PLANNED
    knots = np.arange(-1, (frames - 1) * PLANNED + 2) / rate
    qpos = pose(spline(plan.joints)(knots), rest)
    velocity = np.empty(model.nv)
    simulator().mj_differentiatePos(model, velocity, 2.0 / rate, qpos[0], qpos[2])
    times = np.arange(1, (frames - 1) * STEPS + 1) / (FPS * STEPS)  # the ends of the steps
    ahead = qpos[1:-1] + _LEAD * (qpos[2:] - qpos[:-2]) * (rate / 2)
    reference = _between(times, knots[1:-1], ahead)
    torque = np.zeros((len(times), model.nv))
    torque[:, 6:] = _between(times, knots[1:-1], _feed_forward(qpos, rest, _planted(plan.stance, knots)))
    torque[:, 6:] = np.clip(torque[:, 6:], -_limits(), _limits())
    held = _planted(plan.stance, times) > 0.5
    where = _between(times, knots, joints_of(qpos, rest)[:, STANCE_JOINTS].reshape(len(qpos), -1))
    where[:, 1::3] = np.maximum(where[:, 1::3] + _RAISED, _LOWEST_HELD)
    return np.concatenate([reference, torque, held, where], axis=1), qpos[1], velocity


def _limits() -> Array:
    """``(48,)`` newton metres: what the feed-forward of each ball joint may ask for."""
    return np.repeat([_LIMIT * _GAIN * np.sqrt(_held_by(joint)) for joint in BODIES[1:]], 3)


def simulated(plan: Kinematic, *, residual_force: float, residual_torque: float, threads: int = 1) -> Course:
    """The whole simulation of ``track``, step by step."""
    rest = rest_of(plan.joints)
    model = reshaped(_model(residual_force, residual_torque), rest)
    control, qpos, qvel = _control(plan, rest, model)
    state = simulator().mjtState
    spec = state.mjSTATE_CTRL | state.mjSTATE_QFRC_APPLIED | state.mjSTATE_EQ_ACTIVE | state.mjSTATE_MOCAP_POS
    return run(model, qpos, qvel, control, spec, threads=threads)


def track(plan: Kinematic, *, residual_force: float, residual_torque: float) -> Simulated:
    """What the body does that executes ``plan``.

    Args:
        plan: T >= 14 frames; where its feet stand is taken on trust.
        residual_force: newtons, the most that pushes the pelvis along each axis.
        residual_torque: newton metres, the most that turns it.
    """
    course = simulated(plan, residual_force=residual_force, residual_torque=residual_torque)
    if not course.finished:
        return judged(course, plan.joints, plan.joints, float("nan"), float("nan"))
    rest = rest_of(plan.joints)
    start = pose(plan.joints[:1], rest)
    qpos = smoothed(np.concatenate([start, course.qpos]), _CUTOFF, FPS * STEPS)
    push, turn = course.sensors[:, 6:9], course.sensors[:, 9:]
    force = float(np.linalg.norm(push, axis=1).mean() / (MASS * GRAVITY))
    torque = float(np.linalg.norm(turn, axis=1).mean())
    return judged(course, plan.joints, joints_of(qpos[::STEPS], rest), force, torque)
