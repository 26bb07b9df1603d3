"""From joints to the rotations of the body, in closed form, and back.

Pelvis and chest turn by the rotation that fits their three bones best (Kabsch 1976), every other body by the smallest
rotation that points its bone at the joint where it should end. Each bone aims from where the body before it ends, not
from the given joint, so that errors do not add up along a limb. What positions do not say, the roll of a straight
limb, follows from the parent; that of a foot from the plane of shank and foot.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sc_loops.correction.physics.body import BODIES, BODY_OF, REST
from sc_loops.motion.skeleton import PARENTS

Array = NDArray[np.float64]

# From the pelvis outwards: the bodies that can be turned at once, and the joint that each one's bone ends in.
_LEVELS = (
    ((1, 2, 3), (4, 5, 6)),
    ((4, 5, 6), (7, 8, 9)),
    ((12, 13, 14), (15, 16, 17)),
    ((16, 17), (18, 19)),
    ((18, 19), (20, 21)),
)
_RIGID = ((0, (1, 2, 3)), (9, (12, 13, 14)))
"""The bodies with three bones, and where these end."""

_LEVEL = (0.05, 0.10)  # metres, height of the toe up to which the sole is level, and from which on it need not be
_TINY = 1e-9
_PARENT_ROWS = np.array([0, *(BODY_OF[PARENTS[joint]] for joint in BODIES[1:])])


def _rows(joints: tuple[int, ...]) -> list[int]:
    return [BODY_OF[joint] for joint in joints]


def _unit(x: Array) -> Array:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), _TINY)


def _fit(rest: Array, seen: Array) -> Array:
    """``(T, 3, 3)``: the rotations that bring ``rest (3, 3)``, one bone a row, closest to ``seen (T, 3, 3)``."""
    u, _, vt = np.linalg.svd(np.swapaxes(seen, -1, -2) @ rest)
    u[:, :, 2] *= np.sign(np.linalg.det(u) * np.linalg.det(vt))[:, None]
    return u @ vt


def _swing(start: Array, end: Array) -> Array:
    """``(..., 3, 3)``: the smallest rotations from the unit vectors ``start`` to ``end``, both ``(..., 3)``."""
    axis, cosine = np.cross(start, end), np.sum(start * end, axis=-1)
    x, y, z = axis[..., 0], axis[..., 1], axis[..., 2]
    scale = 1.0 / np.maximum(1.0 + cosine, 1e-6)
    out = scale[..., None, None] * axis[..., :, None] * axis[..., None, :]
    out[..., 0, 0] += cosine
    out[..., 1, 1] += cosine
    out[..., 2, 2] += cosine
    out[..., 0, 1] -= z
    out[..., 1, 0] += z
    out[..., 0, 2] += y
    out[..., 2, 0] -= y
    out[..., 1, 2] -= x
    out[..., 2, 1] += x
    return out


def rest_of(joints: Array) -> Array:
    """``(22, 3)``: ``REST`` with the hips and collars where they are in ``joints (T, 22, 3)``, on average.

    HumanML3D gives all people the same bone lengths, but not the same directions from the pelvis to the hips and from
    the chest to the collars, which within a person are rigid.
    """
    rest = REST.copy()
    for body, ends in _RIGID:
        seen = _unit(joints[:, ends] - joints[:, [body]])
        mean = np.mean(seen @ _fit(_unit(REST[list(ends)]), seen), axis=0)
        rest[list(ends)] = _unit(mean) * np.linalg.norm(REST[list(ends)], axis=1, keepdims=True)
    return rest


def _turn_feet(joints: Array, at: Array, turns: Array) -> None:
    """Fill the rotations of the two feet: the bone along the foot, the roll such that the shank is in its plane of
    symmetry, or near the floor such that the sole is level. As the toes get in line with the shank, which then says
    nothing of the roll, the roll becomes that of the smallest rotation."""
    for ankle, toe in ((7, 10), (8, 11)):
        row, shank = BODY_OF[ankle], turns[:, BODY_OF[PARENTS[ankle]]]
        ahead = _unit(joints[:, toe] - at[:, ankle])
        up, rest = _up(joints[:, toe, 1], ahead, shank[:, :, 1]), _unit(REST[toe])
        sideways = np.cross(up, ahead)
        swung = _swing(np.broadcast_to(rest, ahead.shape), _unit(np.einsum("tji,tj->ti", shank, ahead)))
        fallback = np.einsum("tij,tj->ti", shank, swung[:, :, 0])
        sine = np.linalg.norm(sideways, axis=-1, keepdims=True)
        weight = np.clip(sine / 0.4, 0.0, 1.0)
        x = weight * sideways / np.maximum(sine, _TINY) + (1.0 - weight) * fallback
        x = _unit(x - np.sum(x * ahead, axis=-1, keepdims=True) * ahead)
        along = np.stack([x, np.cross(ahead, x), ahead], axis=-1)
        frame = np.stack([(1.0, 0.0, 0.0), np.cross(rest, (1.0, 0.0, 0.0)), rest])
        turns[:, row] = along @ frame


def _up(height: Array, ahead: Array, shank: Array) -> Array:
    """``(T, 3)`` unit vectors in the feet's planes of symmetry: along the shanks ``(T, 3)``; upwards of a foot on
    which somebody stands: the ``height (T,)`` of its toe is small, it points ``ahead (T, 3)`` rather than up or down,
    and the shank does not lie."""
    low = np.clip((_LEVEL[1] - height) / (_LEVEL[1] - _LEVEL[0]), 0.0, 1.0)
    stands = low * np.clip(2.0 - 2.0 * np.abs(ahead[:, 1]), 0.0, 1.0) * np.clip(2.0 * shank[:, 1] - 0.5, 0.0, 1.0)
    return _unit((1.0 - stands)[:, None] * shank + stands[:, None] * [0.0, 1.0, 0.0])


def _turns(joints: Array, rest: Array) -> Array:
    """``(T, 17, 3, 3)``: the rotations of the bodies in the world that bring them to ``joints (T, 22, 3)``."""
    turns = np.empty((len(joints), len(BODIES), 3, 3))
    at = np.empty_like(joints)
    at[:, 0] = joints[:, 0]

    def place(body: int, ends: tuple[int, ...]) -> None:
        at[:, ends] = at[:, [body]] + rest[list(ends)] @ np.swapaxes(turns[:, BODY_OF[body]], -1, -2)

    def fit(body: int, ends: tuple[int, ...]) -> None:
        turns[:, BODY_OF[body]] = _fit(rest[list(ends)], joints[:, ends] - joints[:, [body]])
        place(body, ends)

    fit(*_RIGID[0])
    for bodies, ends in _LEVELS:
        if bodies[0] == 12:
            fit(*_RIGID[1])
        parents = turns[:, [BODY_OF[PARENTS[body]] for body in bodies]]
        ahead = np.einsum("tbji,tbj->tbi", parents, _unit(joints[:, ends] - at[:, bodies]))
        turned = parents @ _swing(np.broadcast_to(_unit(rest[list(ends)]), ahead.shape), ahead)
        turns[:, _rows(bodies)] = turned
        at[:, ends] = at[:, bodies] + np.einsum("tbij,bj->tbi", turned, rest[list(ends)])
    _turn_feet(joints, at, turns)
    return turns


def _quaternions(turns: Array) -> Array:
    """``(..., 4)`` (w, x, y, z) of rotation matrices ``(..., 3, 3)``; the best conditioned of the four formulas."""
    m = turns
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    d, e, f = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    rows = np.stack(
        [
            np.stack([1 + xx + yy + zz, a - d, b - e, c - f], axis=-1),
            np.stack([a - d, 1 + xx - yy - zz, c + f, b + e], axis=-1),
            np.stack([b - e, c + f, 1 - xx + yy - zz, a + d], axis=-1),
            np.stack([c - f, b + e, a + d, 1 - xx - yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.stack([rows[..., i, i] for i in range(4)], axis=-1), axis=-1)
    return _unit(np.take_along_axis(rows, best[..., None, None], axis=-2)[..., 0, :])


def matrices(quaternions: Array) -> Array:
    """``(..., 3, 3)`` of quaternions ``(..., 4)`` (w, x, y, z), which need not have unit length."""
    w, x, y, z = np.moveaxis(_unit(quaternions), -1, 0)
    entries = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return np.stack([np.stack(row, axis=-1) for row in entries], axis=-2)


def continuous(qpos: Array) -> Array:
    """``qpos (T, 71)`` with the sign of each quaternion chosen so that it is nearest to that of the frame before."""
    quaternions = qpos[:, 3:].reshape(len(qpos), -1, 4)
    dots = np.sum(quaternions[1:] * quaternions[:-1], axis=-1)
    signs = np.cumprod(np.where(dots < 0, -1.0, 1.0), axis=0)
    quaternions = quaternions * np.concatenate([np.ones((1, signs.shape[1])), signs])[..., None]
    return np.concatenate([qpos[:, :3], quaternions.reshape(len(qpos), -1)], axis=1)


def pose(joints: Array, rest: Array = REST) -> Array:
    """The positions ``(T, 71)`` of the body that bring its joints to ``joints (T, 22, 3)``, continuous in time.

    Bones that are not of the skeleton's length cannot be met; their directions are.

    Args:
        rest: ``(22, 3)`` each joint from its parent's at rest, see ``rest_of``.
    """
    turns = _turns(np.asarray(joints, dtype=np.float64), rest)
    relative = np.swapaxes(turns[:, _PARENT_ROWS], -1, -2) @ turns
    relative[:, 0] = turns[:, 0]
    return continuous(np.concatenate([joints[:, 0], _quaternions(relative).reshape(len(joints), -1)], axis=1))


def frames(qpos: Array, rest: Array = REST) -> tuple[Array, Array]:
    """Where the bodies are at ``qpos (T, 71)``: origins ``(T, 17, 3)`` and rotations ``(T, 17, 3, 3)`` in the
    world."""
    turns = matrices(qpos[:, 3:].reshape(len(qpos), -1, 4))
    origins = np.empty((len(qpos), len(BODIES), 3))
    origins[:, 0] = qpos[:, :3]
    for row, joint in enumerate(BODIES[1:], start=1):
        parent = _PARENT_ROWS[row]
        origins[:, row] = origins[:, parent] + turns[:, parent] @ rest[joint]
        turns[:, row] = turns[:, parent] @ turns[:, row]
    return origins, turns


def joints_of(qpos: Array, rest: Array = REST) -> Array:
    """The joints ``(T, 22, 3)`` of the body at ``qpos (T, 71)``; every bone has the skeleton's length."""
    origins, turns = frames(qpos, rest)
    out = np.empty((len(qpos), 22, 3))
    out[:, BODIES] = origins
    for joint in range(22):
        if joint not in BODY_OF:
            row = BODY_OF[PARENTS[joint]]
            out[:, joint] = origins[:, row] + turns[:, row] @ rest[joint]
    return out
