"""Poses of the skeleton from where the feet are, how the trunk leans and where the arms point.

Sides are in the order left, right. Everything is float64, one row a frame; angles are in radians.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sc_loops.motion.representation import from_directions
from sc_loops.motion.rotations import about, multiply, rotate, turn
from sc_loops.motion.skeleton import BONE_LENGTHS

FLAT = 0.42
"""How steeply the bone from ankle to toe falls where the foot is flat on the floor."""

SIDES = torch.tensor([1.0, -1.0], dtype=torch.float64)
"""The sign of x on the person's left and right."""

# Of a person who stands upright and faces +z; the other side has -x. Roughly those of clip 000021.
_UPRIGHT = {
    3: (0.0, 0.95, -0.30), 6: (0.0, 0.98, 0.18), 9: (0.0, 1.0, 0.08), 12: (0.0, 1.0, -0.08), 15: (0.0, 0.8, 0.6),
    13: (0.56, 0.83, -0.08), 16: (0.98, -0.1, -0.1), 1: (0.56, -0.82, -0.06),
}  # fmt: skip
_HIPS = torch.tensor([1, 2])
_BEND = {3: 1 / 3, 6: 2 / 3}  # how much of the trunk's lean and twist the bone to a joint has; others have all of it


@dataclass(frozen=True, eq=False)
class Pose:
    """Attributes:
    ground: ``(T, 2)`` x and z of the pelvis.
    drop: ``(T,)`` metres by which the pelvis is below where the stretched legs of the whole motion allow it.
    heading: ``(T,)`` from +z towards +x.
    lean, twist: ``(T,)`` of the chest, forward and to the left.
    upper, fore: ``(T, 2, 3)`` directions of the upper arms and forearms, seen from the chest.
    toes: ``(T, 2, 3)`` where the ends of the feet are.
    feet: ``(T, 2)`` headings of the feet.
    pitch: ``(T, 2)`` how steeply the feet fall from ankle to toe.
    """

    ground: Tensor
    drop: Tensor
    heading: Tensor
    lean: Tensor
    twist: Tensor
    upper: Tensor
    fore: Tensor
    toes: Tensor
    feet: Tensor
    pitch: Tensor


def arms(forward: Tensor, out: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
    """Directions ``(T, 2, 3)`` of upper arms and forearms that hang down, swing ``forward``, are raised ``out`` to
    the sides, and whose elbows ``bend`` to the front; each ``(T, 2)``."""

    def limb(angle: Tensor) -> Tensor:
        level = out.cos()
        return torch.stack((SIDES * out.sin(), -level * angle.cos(), level * angle.sin()), -1)

    return limb(forward), limb(forward + bend)


def pose_joints(pose: Pose) -> Tensor:
    """``(T, 22, 3)``: its joints. The toes are where the pose has them if the legs reach that far."""
    chest = {share: _chest(pose, share) for share in (1 / 3, 2 / 3, 1.0)}
    level = about((0.0, 1.0, 0.0), pose.heading)
    bones: dict[int, Tensor] = {}
    for joint, upright in _UPRIGHT.items():
        frame = level if joint == 1 else chest[_BEND.get(joint, 1.0)]
        direction = normalize(torch.tensor(upright, dtype=torch.float64), dim=0)
        bones[joint] = rotate(frame, direction)
        if joint in (1, 13, 16):
            bones[joint + 1] = rotate(frame, direction * torch.tensor([-1.0, 1.0, 1.0]).double())
    for side in range(2):
        bones[18 + side], bones[20 + side] = (rotate(chest[1.0], limb[:, side]) for limb in (pose.upper, pose.fore))
    root, hips = _root(pose, torch.stack([bones[1], bones[2]], 1))
    thighs, shanks = _legs(hips, _ankles(pose), pose.heading)
    for side in range(2):
        bones[4 + side], bones[7 + side] = thighs[:, side], shanks[:, side]
        bones[10 + side] = _foot_directions(pose)[:, side]
    return from_directions(torch.stack([bones[joint] for joint in range(1, 22)], 1), root)


def _chest(pose: Pose, share: float) -> Tensor:
    """``(T, 4)``: the rotation of a bone of the trunk that has this share of lean and twist."""
    whole = about((0.0, 1.0, 0.0), pose.heading + share * pose.twist)
    return multiply(whole, about((1.0, 0.0, 0.0), share * pose.lean))


def _foot_directions(pose: Pose) -> Tensor:
    """``(T, 2, 3)``: from ankle to toe."""
    forward = torch.stack((torch.zeros_like(pose.pitch), -pose.pitch.sin(), pose.pitch.cos()), -1)
    return turn(forward, pose.feet)


def _ankles(pose: Pose) -> Tensor:
    return pose.toes - _foot_directions(pose) * BONE_LENGTHS[[10, 11]].double()[:, None]


def _root(pose: Pose, hips: Tensor) -> tuple[Tensor, Tensor]:
    """``(T, 3)`` the pelvis and ``(T, 2, 3)`` the hips: as high as both legs, nearly stretched, allow in all frames
    that have a foot on the floor, less the pose's drop."""
    offsets = hips * BONE_LENGTHS[_HIPS].double()[:, None]
    ankles = _ankles(pose)
    longest = 0.985 * (BONE_LENGTHS[[4, 5]] + BONE_LENGTHS[[7, 8]]).double()
    level = ankles[..., ::2] - offsets[..., ::2] - pose.ground[:, None]
    above = (longest.square() - level.square().sum(-1)).clamp(min=0).sqrt()
    # Of the ankle as if the lower toe were on the floor: a jump lifts both.
    highest = ankles[..., 1] - pose.toes[..., 1].amin(1, keepdim=True) + above - offsets[..., 1]
    height = highest.amin() - pose.drop
    root = torch.stack((pose.ground[:, 0], height, pose.ground[:, 1]), -1)
    return root, root[:, None] + offsets


def _legs(hips: Tensor, ankles: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """Directions ``(T, 2, 3)`` of thighs and shanks from ``hips`` to ``ankles``, the knees to the front."""
    upper, lower = BONE_LENGTHS[[4, 5]].double()[:, None], BONE_LENGTHS[[7, 8]].double()[:, None]
    away = ankles - hips
    distance = away.norm(dim=-1, keepdim=True)
    line = away / distance
    distance = distance.minimum(0.9999 * (upper + lower))
    along = (upper.square() - lower.square() + distance.square()) / (2 * distance)
    front = turn(torch.tensor([0.0, 0.0, 1.0]).double().expand(len(hips), 1, 3), heading[:, None])
    front = normalize(front - (front * line).sum(-1, keepdim=True) * line, dim=-1)
    knee = along * line + (upper.square() - along.square()).clamp(min=0).sqrt() * front
    return knee / upper, (distance * line - knee) / lower
