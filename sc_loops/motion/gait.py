"""Steps: feet that stay where they are put down, under a body that moves on a circle or a line."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from sc_loops.motion.posing import FLAT, SIDES, Pose, arms


@dataclass(frozen=True, kw_only=True)
class Gait:
    """How someone steps, at a constant speed.

    Attributes:
        speed: m/s.
        direction: of the speed against the heading: 0 forward, pi / 2 to the left.
        turning: rad/s of the heading, positive to the left.
        cycle: seconds in which each foot steps once.
        phase: of the cycle at time 0.
        stance: the share of the cycle in which a foot is on the floor, above 1/2.
        width: metres between the feet.
        lift: metres that a toe rises.
        push: radians that a foot tilts before it leaves the floor.
        swing: radians of the arms to the front and back.
        lean: radians.
    """

    speed: float = 0.0
    direction: float = 0.0
    turning: float = 0.0
    cycle: float = 1.1
    phase: float = 0.0
    stance: float = 0.62
    width: float = 0.2
    lift: float = 0.08
    push: float = 0.0
    swing: float = 0.0
    lean: float = 0.05


def smooth(u: Tensor) -> Tensor:
    """From 0 to 1, at rest with no acceleration at both ends and beyond."""
    u = u.clamp(0, 1)
    return u**3 * (10 - 15 * u + 6 * u**2)


def stepping(gait: Gait, time: Tensor) -> Pose:
    """The poses at ``time (T,)``, in seconds."""
    time = time + gait.phase * gait.cycle
    ground, heading = _path(gait, time)
    # The left foot comes down at phase 0, the right one at 1/2.
    count = time[:, None] / gait.cycle - torch.tensor([0.0, 0.5]).double()
    number, phase = count.floor(), count - count.floor()
    swing = ((phase - gait.stance) / (1 - gait.stance)).clamp(0, 1)
    # Up before forward and down after, so that no foot slides.
    ahead = smooth((swing - 0.06) / 0.88)[..., None]
    (place, turned), (after, turned_after) = _footprints(gait, number), _footprints(gait, number + 1)
    feet = torch.lerp(turned, turned_after, ahead[..., 0])
    level = torch.lerp(place, after, ahead)
    toes = torch.stack((level[..., 0], gait.lift * (pi * swing).sin(), level[..., 1]), -1)
    push = smooth((phase / gait.stance - 0.6) / 0.4) * (1 - smooth(swing))
    wave = (2 * pi * time / gait.cycle)[:, None].cos()
    # Each arm with the other side's leg, over the foot that carries the weight.
    forward = -gait.swing * wave * SIDES
    upper, fore = arms(forward, torch.full_like(forward, 0.2), 0.3 + 0.3 * gait.swing + 0.3 * forward)
    weight = 0.02 * (2 * pi * (time / gait.cycle - gait.stance / 2)).cos()
    side = torch.stack((heading.cos(), -heading.sin()), -1)
    return Pose(
        ground=ground + weight[:, None] * side,
        drop=0.01 * (1 + (4 * pi * time / gait.cycle).cos()),
        heading=heading,
        lean=torch.full_like(time, gait.lean),
        twist=0.15 * gait.swing * wave[:, 0],
        upper=upper,
        fore=fore,
        toes=toes,
        feet=feet,
        pitch=FLAT + gait.push * push,
    )


def _path(gait: Gait, time: Tensor) -> tuple[Tensor, Tensor]:
    """``(..., 2)`` x and z, and ``(...)`` heading at ``time (...)``."""
    heading = gait.turning * time
    start = torch.tensor(gait.direction, dtype=torch.float64)
    if abs(gait.turning) < 1e-6:
        return gait.speed * time[..., None] * torch.stack((start.sin(), start.cos())), heading
    radius, course = gait.speed / gait.turning, heading + start
    return radius * torch.stack((start.cos() - course.cos(), course.sin() - start.sin()), -1), heading


def _footprints(gait: Gait, number: Tensor) -> tuple[Tensor, Tensor]:
    """``(T, 2, 2)`` x and z of the toes, and ``(T, 2)`` headings of the feet, of step ``number (T, 2)``: beside where
    the body is in the middle of the foot's time on the floor."""
    middle = (number + torch.tensor([0.0, 0.5]).double() + gait.stance / 2) * gait.cycle
    ground, heading = _path(gait, middle)
    out, ahead = gait.width / 2 * SIDES, 0.07
    x = ground[..., 0] + out * heading.cos() + ahead * heading.sin()
    z = ground[..., 1] - out * heading.sin() + ahead * heading.cos()
    return torch.stack((x, z), -1), heading + 0.15 * SIDES
