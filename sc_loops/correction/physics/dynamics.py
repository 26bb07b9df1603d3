"""Which forces a motion takes: inverse dynamics of whole clips at once, and what of it the floor can give.

The forces on the bodies are the changes of their momenta. Summed over all bodies they are the wrench that has to come
from outside; summed over the bodies beyond a joint they are what its muscles have to hold. Forces at the points that
touch the floor, each within its friction cone, explain as much of the outer wrench as they can (non-negative least
squares by Newton's method on the dual, all frames at once).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.physics.body import (
    BODIES,
    BODY_OF,
    FOOT_POINTS,
    GRAVITY,
    MASS,
    REST,
    TOUCHING,
    inertia,
)
from sc_loops.correction.physics.inverse_kinematics import frames, pose, rest_of
from sc_loops.motion.skeleton import FPS, PARENTS

Array = NDArray[np.float64]

FRICTION = 0.8
REACH = 0.045
"""Metres above the floor up to which a point is taken to touch it: in real clips the feet stand up to 4 cm high."""

_ARM = 0.3
"""Metres. What a torque is divided by to be compared with a force."""

FOOT_SITES = np.concatenate([FOOT_POINTS[7], FOOT_POINTS[8]])
FOOT_ROWS = np.repeat([BODY_OF[7], BODY_OF[8]], 4)

# The points that may touch: those of the feet, then the joints that are no part of a foot.
_SITES = np.concatenate([FOOT_SITES, [np.zeros(3) if joint in BODY_OF else REST[joint] for joint in TOUCHING]])
_SITE_ROWS = np.concatenate(
    [FOOT_ROWS, [BODY_OF[joint] if joint in BODY_OF else BODY_OF[PARENTS[joint]] for joint in TOUCHING]]
)
_LOW = np.concatenate([np.zeros(8), [*TOUCHING.values()]])  # how far above the floor each is when it touches

_EDGES = np.array([(FRICTION, 1, 0), (-FRICTION, 1, 0), (0, 1, FRICTION), (0, 1, -FRICTION)], dtype=np.float64)

_BEYOND = np.eye(len(BODIES))  # [j, b]: whether body b is moved by the joint of body j
for _joint in BODIES:
    _above = PARENTS[_joint]
    while _above >= 0:
        _BEYOND[BODY_OF[_above], BODY_OF[_joint]] = 1.0
        _above = PARENTS[_above]


@dataclass(frozen=True, eq=False)
class Loads:
    """What moves the bodies at the inner ``N = T - 2`` frames of a motion.

    Attributes:
        force: ``(N, 17, 3)`` newtons on each body without its weight, in the world.
        torque: ``(N, 17, 3)`` newton metres about each body's centre of mass.
        centre: ``(N, 17, 3)`` the centres of mass.
        origin, turn: ``(N, 17, 3)`` and ``(N, 17, 3, 3)`` the frames of the bodies.
    """

    force: Array
    torque: Array
    centre: Array
    origin: Array
    turn: Array

    def at(self, frames: NDArray[np.int64]) -> Loads:
        """Of some frames."""
        return Loads(*(x[frames] for x in (self.force, self.torque, self.centre, self.origin, self.turn)))


def _rotation_vectors(turns: Array) -> Array:
    """``(..., 3)`` axis times angle of rotations ``(..., 3, 3)`` by less than a half-turn."""
    twice = np.stack(
        [
            turns[..., 2, 1] - turns[..., 1, 2],
            turns[..., 0, 2] - turns[..., 2, 0],
            turns[..., 1, 0] - turns[..., 0, 1],
        ],
        axis=-1,
    )
    cosine = np.clip((np.trace(turns, axis1=-2, axis2=-1) - 1.0) / 2.0, -1.0, 1.0)
    angle, sine = np.arccos(cosine), np.sqrt(np.maximum(1.0 - cosine * cosine, 0.0))
    scale = np.where(sine > 1e-6, angle / np.maximum(2.0 * sine, 1e-12), 0.5)
    return twice * scale[..., None]


def loads(qpos: Array, dt: float, rest: Array = REST) -> Loads:
    """The loads of the body that goes through ``qpos (T, 71)``, T >= 3, ``dt`` seconds apart; central differences."""
    parts, (origin, turn) = inertia(), frames(qpos, rest)
    centre = origin + np.einsum("tbij,bj->tbi", turn, parts.centre)
    acceleration = np.diff(centre, n=2, axis=0) / dt**2
    acceleration[..., 1] += GRAVITY
    tensor = turn @ parts.tensor @ np.swapaxes(turn, -1, -2)
    spin = _rotation_vectors(turn[1:] @ np.swapaxes(turn[:-1], -1, -2)) / dt
    momentum = np.einsum("tbij,tbj->tbi", (tensor[1:] + tensor[:-1]) / 2.0, spin)
    return Loads(
        force=parts.mass[:, None] * acceleration,
        torque=np.diff(momentum, axis=0) / dt,
        centre=centre[1:-1],
        origin=origin[1:-1],
        turn=turn[1:-1],
    )


def outer_wrench(load: Loads) -> Array:
    """``(N, 6)``: the force and the torque about the origin of the pelvis that have to come from outside."""
    arm = load.centre - load.origin[:, :1]
    torque = (load.torque + np.cross(arm, load.force)).sum(axis=1)
    return np.concatenate([load.force.sum(axis=1), torque], axis=1)


def joint_torques(load: Loads, points: Array | None = None, forces: Array | None = None) -> Array:
    """``(N, 16, 3)``: the torques of the ball joints, each in the frame of the body that it turns.

    Args:
        points, forces: ``(N, 8, 3)`` where the floor touches the feet, in the order of ``FOOT_SITES``, and with which
            force in newtons.
    """
    force, torque = load.force, load.torque + np.cross(load.centre, load.force)  # about the world's origin
    if points is not None and forces is not None:
        force, torque = force.copy(), torque.copy()
        for ankle, feet in ((7, slice(0, 4)), (8, slice(4, 8))):
            force[:, BODY_OF[ankle]] -= forces[:, feet].sum(axis=1)
            torque[:, BODY_OF[ankle]] -= np.cross(points[:, feet], forces[:, feet]).sum(axis=1)
    force, torque = _BEYOND @ force, _BEYOND @ torque
    torque = torque - np.cross(load.origin, force)
    return np.einsum("tbji,tbj->tbi", load.turn, torque)[:, 1:]


def _maps(load: Loads, sites: Array, rows: NDArray[np.int64]) -> tuple[Array, Array]:
    """Where ``sites (P, 3)`` of the bodies ``rows (P,)`` are, ``(N, P, 3)``; and ``(N, 6, 4 P)``, the wrench about
    the pelvis of a unit along each edge of their friction cones, torques divided by ``_ARM``."""
    points = load.origin[:, rows] + np.einsum("tpij,pj->tpi", load.turn[:, rows], sites)
    arm = (points - load.origin[:, :1])[:, :, None, :]
    torque = np.cross(arm, _EDGES) / _ARM
    wrench = np.concatenate([np.broadcast_to(_EDGES, torque.shape), torque], axis=-1)
    return points, np.swapaxes(wrench.reshape(len(points), -1, 6), -1, -2)


def nonnegative(matrix: Array, target: Array, *, ridge: float, iterations: int = 40) -> Array:
    """``(N, K)``: for each of N problems the ``x >= 0`` that minimises ``|matrix x - target|^2 + ridge |x|^2``.

    Its dual has only as many unknowns as a target has rows: the r that minimises
    ``|r|^2 / 2 - target r + |max(matrix' r, 0)|^2 / (2 ridge)``, from which ``x = max(matrix' r, 0) / ridge``.
    Newton's method, with the step halved until this falls, ends as soon as the same x are above 0 twice, and is then
    exact.

    Args:
        matrix: ``(N, M, K)``.
        target: ``(N, M)``.
    """
    x = np.zeros((len(matrix), matrix.shape[2]))
    todo, best = np.arange(len(matrix)), np.zeros_like(target)
    for _ in range(iterations):
        a, b, r = matrix[todo], target[todo], best[todo]
        push = np.einsum("nmk,nm->nk", a, r)
        active = push > 0
        bend = (a * active[:, None, :]) @ np.swapaxes(a, 1, 2) / ridge + np.eye(a.shape[1])
        new = np.linalg.solve(bend, b[:, :, None])[:, :, 0]
        new_push = np.einsum("nmk,nm->nk", a, new)
        settled = ((new_push > 0) == active).all(axis=1)
        x[todo[settled]] = np.maximum(new_push[settled], 0.0) / ridge
        best[todo] = _descended(r, new, push, new_push, b, ridge)
        todo = todo[~settled]
        if not len(todo):
            return x
    x[todo] = np.maximum(np.einsum("nmk,nm->nk", matrix[todo], best[todo]), 0.0) / ridge
    return x


def _descended(r: Array, new: Array, push: Array, new_push: Array, b: Array, ridge: float) -> Array:
    """The point on the way from ``r`` to ``new``, at half the distance again and again, where the dual is lower."""

    def dual(y: Array, p: Array) -> Array:
        loss = 0.5 * np.sum(y * y, axis=1) - np.sum(b * y, axis=1)
        return np.asarray(loss + 0.5 * np.sum(np.maximum(p, 0.0) ** 2, axis=1) / ridge)

    step, now = np.ones((len(r), 1)), dual(r, push)
    for _ in range(12):
        higher = dual(r + step * (new - r), push + step * (new_push - push)) > now
        if not higher.any():
            break
        step[higher] *= 0.5
    return r + step * (new - r)


def contact_forces(load: Loads, weight: Array) -> tuple[Array, Array]:
    """Where the feet are, ``(N, 8, 3)``, and the forces of the floor on them, ``(N, 8, 3)`` newtons, that explain
    most of the outer wrench.

    Args:
        weight: ``(N, 8)`` from 0, in the air, to 1, planted; in between a force is possible, but dear.
    """
    points, matrix = _maps(load, FOOT_SITES, FOOT_ROWS)
    used = np.repeat(weight, 4, axis=1)
    wrench = outer_wrench(load) / (MASS * GRAVITY)
    wrench[:, 3:] /= _ARM
    x = used * nonnegative(matrix * used[:, None, :], wrench, ridge=1e-3)
    forces = np.einsum("tpe,ei->tpi", x.reshape(len(x), -1, 4), _EDGES) * (MASS * GRAVITY)
    return points, forces


def external_force(joints: Array) -> float:
    """The part of the outer wrench that no contact with the floor explains, in body weights: mean over the inner
    frames of ``|(force, torque / 0.3 m)|``. 0 of a body that stands or falls freely, 1 of one that hovers.

    A point counts as in contact when it is less than ``REACH`` above the floor; feet, knees, hands, elbows, head and
    trunk have such points. Their friction is ``FRICTION``; the floor does not pull.

    Args:
        joints: ``(T, 22, 3)`` metres, y up, 20 frames a second, not smoothed. Of fewer than 3 frames it is 0.
    """
    if len(joints) < 3:
        return 0.0
    joints = np.asarray(joints, dtype=np.float64)
    rest = rest_of(joints)
    load = loads(pose(joints, rest), 1.0 / FPS, rest)
    heights = load.origin[:, _SITE_ROWS, 1] + np.einsum("tpj,pj->tp", load.turn[:, _SITE_ROWS, 1], _SITES) - _LOW
    near = heights < REACH
    sites = near.any(axis=0)
    wrench = outer_wrench(load) / (MASS * GRAVITY)
    wrench[:, 3:] /= _ARM
    rest = wrench
    if sites.any():
        _, matrix = _maps(load, _SITES[sites], _SITE_ROWS[sites])
        matrix = matrix * np.repeat(near[:, sites], 4, axis=1)[:, None, :]
        rest = wrench - np.einsum("tij,tj->ti", matrix, nonnegative(matrix, wrench, ridge=1e-4))
    return float(np.linalg.norm(rest, axis=1).mean())
