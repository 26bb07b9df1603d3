"""The 263 numbers of a frame (Guo et al. 2022, HumanML3D) from joints and back.

=======  =================================================================================================
0        half of what the person turns until the next frame, in radians, positive to their right
1:3      what the root moves until the next frame along x and z, in metres, seen by who faces +z there
3        height of the root, in metres
4:67     joints 1 to 21: positions, root's x and z subtracted, turned so that the person faces +z
67:193   joints 1 to 21: rotation against the joint before it, first two columns of the matrix
193:259  joints 0 to 21: what they move until the next frame, in metres, turned by the frame's own heading
259:263  1 where left ankle, left toe, right ankle, right toe rest, else 0
=======  =================================================================================================

F frames have F - 1 vectors, since most of a vector looks ahead. The conventions of the official encoder are kept,
also those that are mistakes, because its statistics and evaluators are used everywhere; they are explained where they
are implemented. One mistake is mended: see ``_steps``.

Everything is over ``(..., T, 22, 3)`` metres, y up, 20 frames a second, and keeps float32 and float64 as given.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sc_loops.errors import require
from sc_loops.motion.rotations import about, between, inverse, multiply, turn, two_columns
from sc_loops.motion.skeleton import BONE_LENGTHS, CHAINS, DIRECTIONS, MIRRORED, PARENTS

SIZE = 263
ROOT, POSITIONS, ROTATIONS = slice(0, 4), slice(4, 67), slice(67, 193)
VELOCITIES, CONTACTS = slice(193, 259), slice(259, 263)

FEET = (7, 10, 8, 11)
"""The joints of the four contacts."""

CONTACT = 0.002
"""m^2: a foot rests if it moves less than the root of it, 4.5 cm, in a frame (0.9 m/s)."""

SMOOTHING = 20.0
"""Frames: the deviation of the Gaussian that smooths the heading."""


def decode(vectors: Tensor, *, extended: bool = False) -> Tensor:
    """Joints ``(..., T, 22, 3)`` of ``vectors (..., T, 263)``; the first frame faces +z, its root above the origin.

    Only numbers 0 to 66 tell the joints. ``extended`` adds a frame T that the velocities of the last vector lead to,
    so that ``encode`` gives all T vectors back: for vectors that ``encode`` made, not for inconsistent ones.
    """
    _check(vectors.shape[-1] == SIZE, vectors, "(..., T, 263)")
    heading = 2 * _before(vectors[..., 0]).to(vectors.dtype)
    # The step is seen from the heading that it leads to, as the official decoder has it.
    step = turn(_with_height(vectors[..., :-1, 1:3]), -heading[..., 1:])
    ground = _before(torch.cat((step, torch.zeros_like(step[..., :1, :])), -2), dim=-2).to(vectors.dtype)
    local = vectors[..., POSITIONS].unflatten(-1, (21, 3))
    root = ground + vectors[..., 3:4] * vectors.new_tensor([0.0, 1.0, 0.0])
    joints = torch.cat((root[..., None, :], turn(local, -heading[..., None]) + ground[..., None, :]), -2)
    if not extended:
        return joints
    moved = vectors[..., -1, VELOCITIES].unflatten(-1, (22, 3))
    last = joints[..., -1, :, :] + turn(moved, -heading[..., -1, None])
    return torch.cat((joints, last[..., None, :, :]), -3)


def encode(joints: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Vectors ``(N, F - 1, 263)`` of ``joints (N, F, 22, 3)``, or ``(F - 1, 263)`` of those of one motion.

    Args:
        joints: on the skeleton, the feet's floor at 0, the first frame at the origin and facing +z: ``canonical``.
        lengths: ``(N,)`` frames of each motion, at least 2; the rest is padding, which has no influence. A motion of
            L frames has L - 1 vectors, beyond which there are 0.
    """
    _check(joints.dim() in (3, 4) and joints.shape[-2:] == (22, 3), joints, "(F, 22, 3) or (N, F, 22, 3)")
    if joints.dim() == 3:
        return encode(joints[None], None if lengths is None else lengths.reshape(1))[0]
    frames = joints.shape[1]
    lengths = _lengths(lengths, joints)
    half = _half_headings(joints, lengths)
    heading, root = 2 * half, joints[:, :, 0]
    moved = joints[:, 1:] - joints[:, :-1]
    parts = (
        _steps(half)[..., None].to(joints),
        # By the heading of the next frame, but the velocities below by the frame's own: so is the official encoder.
        turn(moved[:, :, 0], heading[:, 1:])[..., ::2],
        root[:, :-1, 1:2],
        turn(joints - _with_height(root[..., ::2])[:, :, None], heading[..., None])[:, :-1, 1:].flatten(-2),
        _rotations(joints, half)[:, :-1].flatten(-2),
        turn(moved, heading[:, :-1, None]).flatten(-2),
        # How far it moves is all: a foot that hangs in the air at rest counts as in contact.
        (moved[:, :, FEET].square().sum(-1) < CONTACT).to(joints),
    )
    there = torch.arange(frames - 1, device=joints.device) < (lengths - 1)[:, None]
    return torch.where(there[..., None], torch.cat(parts, -1), 0.0)


def canonical(joints: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The motions ``joints (..., F, 22, 3)`` of any person on the skeleton of HumanML3D: all bones keep their
    directions and get its lengths, the root's path is scaled by the ratio of leg lengths, the lowest joint of the
    motion is at 0, the root starts above the origin, and the first frame faces +z.

    The official process finds joint rotations on the source and applies them to the skeleton. They are swings from
    its own offsets to the bones, so the outcome is each bone's direction, without the rotations.

    Args:
        joints: the same units in all frames, y up.
        lengths: ``(...)`` frames of each motion; the rest is padding, which has no influence.
    """
    _check(joints.dim() >= 3 and joints.shape[-2:] == (22, 3), joints, "(..., F, 22, 3)")
    bones = joints[..., 1:, :] - joints[..., PARENTS[1:], :]
    # The right leg in the first frame, as the official code has it.
    leg = bones[..., :1, [4, 7], :].norm(dim=-1).sum(-1, keepdim=True)
    ours = float(BONE_LENGTHS[5] + BONE_LENGTHS[8])
    joints = from_directions(_unit(bones), joints[..., 0, :] * (ours / leg.clamp(min=1e-9)))
    return _faced(_floored(joints, lengths))


def from_directions(directions: Tensor, root: Tensor) -> Tensor:
    """Joints ``(..., 22, 3)`` of the skeleton whose bones to joints 1 to 21 have the unit vectors ``directions
    (..., 21, 3)`` and whose pelvis is at ``root (..., 3)``, in metres."""
    bones = directions * BONE_LENGTHS[1:, None].to(directions)
    places = [root]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        places.append(places[parent] + bones[..., joint - 1, :])
    return torch.stack(places, -2)


def mirrored(joints: Tensor) -> Tensor:
    """The motions ``(..., 22, 3)`` with left and right exchanged, at the plane x = 0."""
    return joints[..., MIRRORED, :] * joints.new_tensor([-1.0, 1.0, 1.0])


def facing(joints: Tensor) -> Tensor:
    """``(...)``: the heading of ``joints (..., 22, 3)`` in radians, from +z towards +x, the left of who faces +z."""
    forward = _forward(joints)
    return torch.atan2(forward[..., 0], forward[..., 1])


def _forward(joints: Tensor, *, exchanged: bool = False) -> Tensor:
    """``(..., 2)``, x and z: at right angles to the sum of the ways from left to right hip and shoulder.

    Its length is below 1 where the person leans sideways: of the unit vector across, only the level part counts.

    ``exchanged``: the hips are, as in the inverse kinematics of the official encoder, by mistake. The shoulders are
    farther apart, so the heading of an upright person is the same, but it overstates how the shoulders are twisted
    against the hips.
    """
    hips = joints[..., 2, :] - joints[..., 1, :]
    across = normalize(joints[..., 17, :] - joints[..., 16, :] + (-hips if exchanged else hips), dim=-1)
    # up x across = (across_z, 0, -across_x)
    return torch.stack((across[..., 2], -across[..., 0]), -1)


def _half_headings(joints: Tensor, lengths: Tensor) -> Tensor:
    """``(N, F)``: half of the turn about the vertical by which a frame faces +z, in radians.

    Half of it, since the official code works with the quaternion's angle. It smooths the direction over about a
    second and sets the first frame's turn to nothing, though only before smoothing that frame faces +z: the first
    step of a motion holds what smoothing does to the first frame, and ``decode``, which starts from 0, is exact.
    """
    forward = _smoothed(_forward(joints, exchanged=True), lengths)
    half = -torch.atan2(forward[..., 0], forward[..., 1]) / 2
    half[:, 0] = 0.0
    return half.to(joints)


def _steps(half: Tensor) -> Tensor:
    """``(N, F - 1)``: from a frame's half heading to the next one's, the short way.

    The official encoder takes the arcsine of a quaternion whose sign jumps where the person faces -z. The step across
    has the wrong sign there, so that what it decodes to is two frames' turn behind from then on. This one is mended.
    """
    step = half[:, 1:] - half[:, :-1]
    return step - torch.pi * (step / torch.pi).round()


def _smoothed(values: Tensor, lengths: Tensor) -> Tensor:
    """``values (N, F, C)`` smoothed over frames, each motion's first and last value held on beyond its ends: scipy's
    ``gaussian_filter1d(values, 20, axis=0, mode="nearest")`` of each motion by itself. In float64, as scipy works."""
    reach = int(4 * SMOOTHING + 0.5)
    frames, wide = torch.arange(-reach, values.shape[1] + reach, device=values.device), _wide(values)
    held = frames.clamp(min=0).minimum(lengths[:, None] - 1)
    weights = (-0.5 * (torch.arange(-reach, reach + 1).to(wide) / SMOOTHING).square()).exp()
    padded = wide.gather(1, held[..., None].expand(-1, -1, values.shape[2])).transpose(1, 2)
    # Rows of a Toeplitz matrix: one product for all motions.
    return (padded.unfold(-1, len(weights), 1) @ (weights / weights.sum())).transpose(1, 2)


_BEFORE = [0] * 22
for _chain in CHAINS:
    for _first, _second in pairwise(_chain[1:]):
        _BEFORE[_second] = _first


def _rotations(joints: Tensor, half: Tensor) -> Tensor:
    """``(N, F, 21, 6)``: the rotations of joints 1 to 21 that the official inverse kinematics finds.

    The swing from a bone's offset to the bone, without any twist about it, against that of the joint before in its
    chain. The first of a chain is against the root: so are the collars, though their chains start at the chest.
    """
    bones = _unit(joints[..., 1:, :] - joints[..., PARENTS[1:], :])
    swings = between(DIRECTIONS[1:].to(joints), bones)
    whole = torch.cat((about((0.0, 1.0, 0.0), 2 * half)[..., None, :], swings), -2)
    return two_columns(multiply(inverse(whole[..., _BEFORE[1:], :]), swings))


def _unit(bones: Tensor) -> Tensor:
    """The directions of ``bones (..., 21, 3)``; a joint that lies on its parent is where the skeleton has it."""
    return torch.where(bones.norm(dim=-1, keepdim=True) > 1e-9, normalize(bones, dim=-1), DIRECTIONS[1:].to(bones))


def _floored(joints: Tensor, lengths: Tensor | None) -> Tensor:
    """The lowest joint of all of a motion's frames at height 0, the root of the first above the origin."""
    height = joints[..., 1].amin(-1)
    if lengths is not None:
        beyond = torch.arange(height.shape[-1], device=height.device) >= lengths.to(height.device)[..., None]
        height = height.masked_fill(beyond, torch.inf)
    start = joints[..., 0, 0, :]
    origin = torch.stack((start[..., 0], height.amin(-1), start[..., 2]), -1)
    return joints - origin[..., None, None, :]


def _faced(joints: Tensor) -> Tensor:
    """Turned about the vertical through the origin so that the first frame faces +z; here the hips are right."""
    return turn(joints, -facing(joints[..., 0, :, :])[..., None, None])


def _before(steps: Tensor, dim: int = -1) -> Tensor:
    """What ``steps`` along ``dim`` add up to before each, from 0; in float64, so that long motions do not drift."""
    return _wide(steps).cumsum(dim) - _wide(steps)


def _with_height(ground: Tensor) -> Tensor:
    """``(..., 3)``: points of the floor at x and z ``ground (..., 2)``."""
    return torch.stack((ground[..., 0], torch.zeros_like(ground[..., 0]), ground[..., 1]), -1)


def _wide(values: Tensor) -> Tensor:
    """In float64, which Apple's GPUs lack."""
    return values if values.device.type == "mps" else values.double()


def _lengths(lengths: Tensor | None, joints: Tensor) -> Tensor:
    count, frames = joints.shape[:2]
    if lengths is None:
        lengths = torch.full((count,), frames)
    fits = lengths.shape == (count,) and bool(((lengths >= 2) & (lengths <= frames)).all())
    require(fits, "lengths", lengths.tolist(), f"{count} numbers of frames, each between 2 and {frames}")
    return lengths.to(joints.device)


def _check(fits: bool, values: Tensor, expected: str) -> None:
    require(fits, "motion", tuple(values.shape), f"a tensor {expected}")
