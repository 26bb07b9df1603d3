"""Motions made in code, with captions: steps, squats, waves, for tests and a first try without any data.

They are nearly free of what physics corrects: bones are exact, feet on the floor do not move, and the lowest toe is
at height 0 except in jumps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import pi, sqrt
from typing import TypeVar

import torch
from torch import Tensor

from sc_loops.errors import require
from sc_loops.motion.gait import Gait, smooth, stepping
from sc_loops.motion.posing import Pose, arms, pose_joints
from sc_loops.motion.representation import canonical
from sc_loops.motion.skeleton import FPS

MIN_FRAMES, MAX_FRAMES = 40, 196
"""Vectors of a motion, as HumanML3D's users take them; it has one more frame."""

GRAVITY = 9.81

_T = TypeVar("_T")


class Draw:
    """Numbers and choices from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def number(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self.generator, dtype=torch.float64))

    def integer(self, low: int, high: int) -> int:
        """From ``low`` to ``high``, both included."""
        return int(torch.randint(low, high + 1, (), generator=self.generator))

    def choice(self, options: Sequence[_T]) -> _T:
        return options[self.integer(0, len(options) - 1)]


def procedural_clip(
    action: str, generator: torch.Generator, *, max_frames: int = MAX_FRAMES
) -> tuple[Tensor, list[str], int]:
    """A motion of ``action``, one of ``ACTIONS``.

    Returns: ``(F, 22, 3)`` float64 canonical joints, F - 1 a multiple of 4 from 40 to ``max_frames``; two or three
    captions; the index of the action.
    """
    require(action in _MAKERS, "action", action, f"one of {', '.join(ACTIONS)}")
    require(MIN_FRAMES <= max_frames <= MAX_FRAMES, "max_frames", max_frames, f"{MIN_FRAMES} to {MAX_FRAMES}")
    draw = Draw(generator)
    frames = 4 * draw.integer(MIN_FRAMES // 4, max_frames // 4) + 1
    pose, captions = _MAKERS[action](draw, torch.arange(frames, dtype=torch.float64) / FPS)
    return canonical(pose_joints(pose)), captions, ACTIONS.index(action)


def _walk(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pace, low, high = draw.choice([("slowly", 0.4, 0.7), ("", 0.9, 1.15), ("quickly", 1.25, 1.4)])
    way = draw.choice(["straight", "straight", "left", "right"])
    turning = {"straight": 0.0, "left": 1.0, "right": -1.0}[way] * draw.number(0.25, 0.7)
    pose = stepping(_walking(draw, draw.number(low, high), turning), time)
    if way == "straight":
        return pose, _told(pace, "a person walks forward {}", "someone is {} walking in a straight line")
    texts = ("a person walks {} in a curve to the " + way, "a man {} walks along a curve, turning " + way)
    return pose, _told(pace, *texts)


def _walk_backwards(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pace, low, high = draw.choice([("slowly", 0.35, 0.55), ("", 0.65, 0.9)])
    pose = stepping(_walking(draw, draw.number(low, high), 0.0), time.flip(0))
    return pose, _told(
        pace, "a person walks backwards {}", "someone {} takes some steps back", "a man steps backwards {}"
    )


def _turn(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pace, low, high = draw.choice([("slowly", 0.4, 0.7), ("", 0.9, 1.3), ("quickly", 1.5, 1.9)])
    way, sign = draw.choice([("left", 1.0), ("right", -1.0)])
    gait = Gait(
        turning=sign * draw.number(low, high),
        cycle=draw.number(0.8, 1.0),
        phase=draw.number(0, 1),
        lift=draw.number(0.06, 0.1),
        width=0.24,
        swing=draw.number(0, 0.15),
    )
    way = f"to the {way}"
    return stepping(gait, time), _told(
        pace, f"a person turns {way} in place {{}}", f"someone {{}} turns around {way}"
    )


def _side_step(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    way, sign = draw.choice([("left", 1.0), ("right", -1.0)])
    gait = Gait(
        speed=draw.number(0.15, 0.32),
        direction=sign * pi / 2,
        cycle=draw.number(0.85, 1.1),
        phase=draw.number(0, 1),
        lift=draw.number(0.06, 0.1),
        width=0.3,
        swing=draw.number(0, 0.1),
    )
    texts = [
        f"a person steps sideways to the {way}",
        f"someone sidesteps to their {way}",
        f"a man moves {way}, side on",
    ]
    return stepping(gait, time), texts


def _stand(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    return _standing(draw, time), ["a person stands still", "someone is standing in place", "a man does not move"]


def _wave(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    hand, sides = draw.choice([("left hand", [0]), ("right hand", [1]), ("both hands", [0, 1])])
    pose, period, width = _standing(draw, time), draw.number(0.6, 1.2), draw.number(0.25, 0.6)
    start, raised = draw.number(0, 2 * pi), draw.number(1.3, 1.9)
    up = smooth(time / 0.7)
    angle = 0.1 + width * (2 * pi * time / period + start).sin()
    for side in sides:
        x = 1.0 - 2.0 * side
        upper = _limb(x, 0.14 + (raised - 0.14) * up, 0.25 * up)
        # The forearm's angle from straight down, by the side to straight up, where it swings.
        fore = _limb(x, 0.14 + (pi - 0.14 - angle) * up, 0.3 + 0 * up)
        for limbs, limb in ((pose.upper, upper), (pose.fore, fore)):
            limbs[:, side] = limb
    the, his, their = (hand if len(sides) == 2 else f"{whose} {hand}" for whose in ("the", "his", "their"))
    texts = [f"a person waves with {the}", f"a man stands and waves {his}", f"someone raises {their} to wave hello"]
    return pose, texts


def _squat(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pose, depth = _standing(draw, time, width=draw.number(0.3, 0.42)), draw.number(0.22, 0.42)
    times, how_often, down = _repeated(draw, time, 1.6, 2.8)
    bent = depth * down
    forward = (draw.number(0.6, 1.4) * down)[:, None].expand(-1, 2) + 0.05
    upper, fore = arms(forward, torch.full_like(forward, 0.14), torch.full_like(forward, 0.2))
    # The hips go back and the chest forward, over the feet.
    ground = pose.ground - torch.stack((0 * bent, 0.35 * bent), -1)
    pose = replace(pose, drop=pose.drop + bent, ground=ground, lean=pose.lean + 1.4 * bent, upper=upper, fore=fore)
    noun = "a squat" if times == 1 else "squats"
    return pose, [
        f"a person squats {how_often}",
        f"someone does {noun} {how_often}",
        f"a man bends his knees {how_often}",
    ]


def _bow(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pose, angle = _standing(draw, time), draw.number(0.5, 1.2)
    _, how_often, down = _repeated(draw, time, 2.0, 3.2)
    lean = angle * down
    # Arms that hang, for the most part.
    forward = (draw.number(0.5, 1.0) * lean)[:, None].expand(-1, 2)
    upper, fore = arms(forward, torch.full_like(forward, 0.14), torch.full_like(forward, 0.25))
    ground = pose.ground - torch.stack((0 * lean, 0.12 * lean), -1)
    pose = replace(pose, lean=pose.lean + lean, ground=ground, upper=upper, fore=fore)
    return pose, [
        f"a person bows {how_often}",
        f"someone bows politely {how_often}",
        f"a man bends forward {how_often}",
    ]


def _jump(draw: Draw, time: Tensor) -> tuple[Pose, list[str]]:
    pose, height, depth = _standing(draw, time), draw.number(0.1, 0.3), draw.number(0.16, 0.26)
    speed = sqrt(2 * GRAVITY * height)
    # Down; off the floor at a constant acceleration; in the air; caught in the same time; up again.
    seconds = (0.5, 2 * depth / speed, 2 * speed / GRAVITY, 2 * depth / speed, 0.5)
    period = sum(seconds) + draw.number(0.1, 0.4)
    times = max(1, int(float(time[-1]) / period))
    clock = torch.where(time < times * period, time % period, 0.0)
    down, push, fly, catch, up = _parts(clock, seconds)
    crouch = smooth(down) - push.square() + (1 - (1 - catch).square()) - smooth(up)
    air = 4 * height * fly * (1 - fly)
    # The arms swing up from before the push on, and down until the end.
    landing = sum(seconds[:3])
    raised = smooth((clock - 0.25) / (0.25 + seconds[1])) - smooth((clock - landing) / (seconds[3] + seconds[4]))
    forward = (1.1 * raised - 0.3 * smooth(clock / 0.25) * (1 - raised) * (clock < landing))[:, None].expand(-1, 2)
    upper, fore = arms(forward, torch.full_like(forward, 0.18), torch.full_like(forward, 0.5))
    toes = pose.toes + air[:, None, None] * torch.tensor([0.0, 1.0, 0.0]).double()
    ground = pose.ground - torch.stack((0 * crouch, 0.3 * depth * crouch), -1)
    pose = replace(
        pose,
        drop=pose.drop + depth * crouch - air,
        lean=pose.lean + 1.5 * depth * crouch,
        ground=ground,
        toes=toes,
        upper=upper,
        fore=fore,
    )
    how_often, high = _how_often(times), "high" if height > 0.2 else "a little"
    return pose, [f"a person jumps up {how_often}", f"someone jumps in place {how_often}", f"a man jumps {high}"]


_MAKERS: dict[str, Callable[[Draw, Tensor], tuple[Pose, list[str]]]] = {
    "walk": _walk,
    "walk backwards": _walk_backwards,
    "turn": _turn,
    "side step": _side_step,
    "stand": _stand,
    "wave": _wave,
    "squat": _squat,
    "bow": _bow,
    "jump": _jump,
}

ACTIONS = tuple(_MAKERS)
"""What there are motions of, in the order of their labels."""


def _walking(draw: Draw, speed: float, turning: float) -> Gait:
    return Gait(
        speed=speed,
        turning=turning,
        # Faster means more and longer steps.
        cycle=draw.number(0.95, 1.05) * (1.55 - 0.42 * speed),
        phase=draw.number(0, 1),
        stance=0.62 - 0.04 * speed,
        width=draw.number(0.17, 0.22),
        lift=draw.number(0.05, 0.09),
        push=0.25 + 0.3 * speed,
        swing=draw.number(0.15, 0.3) + 0.2 * speed,
        lean=draw.number(0.02, 0.08),
    )


def _standing(draw: Draw, time: Tensor, width: float | None = None) -> Pose:
    """Both feet on the floor, the arms down; the weight shifts by some millimetres."""
    pose = stepping(Gait(cycle=1e9, width=draw.number(0.18, 0.3) if width is None else width), time)
    sway = draw.number(0.002, 0.008) * (2 * pi * (time / draw.number(2.5, 5.0) + draw.number(0, 1))).sin()
    forward, bend = draw.number(-0.05, 0.15), draw.number(0.1, 0.5)
    hang = torch.full((len(time), 2), forward, dtype=torch.float64) + 2 * sway[:, None]
    upper, fore = arms(hang, torch.full_like(hang, draw.number(0.12, 0.22)), torch.full_like(hang, bend))
    still = torch.zeros_like(time)
    ground = torch.stack((sway, still), -1)
    return replace(pose, ground=ground, drop=still + 0.01, twist=still + sway, upper=upper, fore=fore)


def _limb(side: float, out: Tensor, front: Tensor) -> Tensor:
    """``(T, 3)``: a direction at the angle ``out`` from straight down, to a side, and somewhat to the front."""
    return torch.nn.functional.normalize(torch.stack((side * out.sin(), -out.cos(), front), -1), dim=-1)


def _repeated(draw: Draw, time: Tensor, low: float, high: float) -> tuple[int, str, Tensor]:
    """How often, in words too, a movement of ``low`` to ``high`` seconds is done at most four times in ``time``, and
    ``(T,)`` how far it is at its turning point, 0 to 1."""
    period = min(draw.number(low, high), float(time[-1]))
    times = min(draw.integer(1, 4), int(float(time[-1]) / period + 1e-9))
    clock = torch.where(time < times * period, time % period, 0.0) / period
    return times, _how_often(times), smooth(clock / 0.45) - smooth((clock - 0.5) / 0.45)


def _parts(clock: Tensor, seconds: Sequence[float]) -> list[Tensor]:
    """For each part of a movement, ``(T,)`` how much of it is over at ``clock (T,)`` seconds, 0 to 1."""
    starts = [sum(seconds[:i]) for i in range(len(seconds))]
    return [((clock - start) / own).clamp(0, 1) for start, own in zip(starts, seconds, strict=True)]


def _how_often(times: int) -> str:
    return {1: "once", 2: "twice", 3: "three times", 4: "four times"}.get(times, f"{times} times")


def _told(pace: str, *texts: str) -> list[str]:
    """The texts with the pace in its place, if there is one."""
    return [" ".join(text.format(pace).split()) for text in texts]
