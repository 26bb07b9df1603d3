"""Motions made in code: free of what physics corrects, and as their captions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sc_loops.errors import InvalidValue
from sc_loops.motion.gait import Gait, stepping
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.posing import pose_joints
from sc_loops.motion.procedural import ACTIONS, GRAVITY, procedural_clip
from sc_loops.motion.representation import canonical, facing
from sc_loops.motion.skeleton import BONE_LENGTHS, FPS, PARENTS
from sc_loops.randomness import generator_for


def clips(action: str, count: int = 8) -> list[tuple[Tensor, list[str]]]:
    made = [procedural_clip(action, generator_for(0, action, i)) for i in range(count)]
    assert {index for _, _, index in made} == {ACTIONS.index(action)}
    return [(joints, captions) for joints, captions, _ in made]


def runs(true: Tensor) -> int:
    """How many times ``true (T,)`` begins to hold."""
    return int((true[1:] & ~true[:-1]).sum() + true[0])


COUNTS = {"once": 1, "twice": 2, "three times": 3, "four times": 4, "5 times": 5}


def said(captions: list[str]) -> int:
    return next(n for words, n in COUNTS.items() if captions[0].endswith(words))


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_floor_feet_and_captions(action: str) -> None:
    for joints, captions in clips(action):
        assert 41 <= len(joints) <= 197
        assert len(joints) % 4 == 1
        assert joints.isfinite().all()
        lengths = (joints[:, 1:] - joints[:, PARENTS[1:]]).norm(dim=-1)
        torch.testing.assert_close(lengths, BONE_LENGTHS[1:].double().expand_as(lengths), rtol=0, atol=1e-6)
        torch.testing.assert_close(canonical(joints), joints, rtol=0, atol=1e-9)
        errors = physical_errors(joints.numpy())
        assert errors.penetration == 0
        assert errors.skating < 2, "mm a frame, of feet that are about to leave the floor"
        assert errors.self_penetration < 3, "mm"
        assert errors.jerk < 200, "m/s^3"
        if action != "jump":
            assert joints[..., 1].amin(-1).abs().max() < 1e-9, "one toe is on the floor in all frames"
        assert len(set(captions)) in (2, 3)
        assert all(len(caption.split()) >= 4 and "  " not in caption for caption in captions)


def test_a_generator_of_the_same_seed_gives_the_same_clip_and_of_another_another() -> None:
    for action in ACTIONS:
        (a, said_a, _), (b, said_b, _), (c, _, _) = (
            procedural_clip(action, generator_for(seed, action)) for seed in (0, 0, 1)
        )
        assert torch.equal(a, b)
        assert said_a == said_b
        assert a.shape != c.shape or not torch.allclose(a, c)


@pytest.mark.parametrize("speed", [0.4, 1.0, 1.5])
@pytest.mark.parametrize("turning", [0.0, 0.6, -0.6])
def test_steps_are_as_fast_as_asked_and_stance_feet_stay(speed: float, turning: float) -> None:
    time = torch.arange(197).double() / FPS
    gait = Gait(speed=speed, turning=turning, cycle=1.0, push=0.6, swing=0.3)
    joints = canonical(pose_joints(stepping(gait, time)))
    toes = joints[:, [10, 11]]
    down = toes[..., 1] < 1e-9
    moved = (toes[1:] - toes[:-1]).norm(dim=-1)[down[1:] & down[:-1]]
    assert moved.max() < 1e-6
    assert abs(float(down.double().mean()) - gait.stance) < 0.06
    # Whole cycles, over which the sway cancels out: the chord of the arc, and how far it turns.
    ahead = (joints[20::20, 0] - joints[:-20:20, 0])[:, [0, 2]].norm(dim=-1)
    chord = speed if turning == 0 else 2 * speed / abs(turning) * np.sin(abs(turning) / 2)
    torch.testing.assert_close(ahead, torch.full_like(ahead, chord), rtol=0.02, atol=0)
    turned = torch.from_numpy(np.unwrap(facing(joints).numpy()))
    torch.testing.assert_close(
        turned[20::20] - turned[:-20:20], torch.full((9,), turning).double(), rtol=0, atol=1e-6
    )


def test_ways_and_sides_are_those_of_the_caption() -> None:
    for joints, captions in clips("walk", 16):
        turned = float(np.unwrap(facing(joints).numpy())[-1])
        assert ("left" in captions[0]) == (turned > 0.3)
        assert ("right" in captions[0]) == (turned < -0.3)
        if "forward" in captions[0]:
            assert joints[-1, 0, 2] > 0.35 * len(joints) / FPS
            # The first frame faces +z with its chest twisted a little.
            assert joints[-1, 0, 0].abs() < 0.1 * joints[-1, 0, 2]
    for joints, _ in clips("walk backwards"):
        assert joints[-1, 0, 2] < -0.3 * len(joints) / FPS
        assert facing(joints).abs().max() < 0.3
    for joints, captions in clips("turn"):
        turned = float(np.unwrap(facing(joints).numpy())[-1])
        assert (turned > 0) == ("left" in captions[0])
        assert joints[:, 0, [0, 2]].abs().max() < 0.15
    for joints, captions in clips("side step"):
        assert (joints[-1, 0, 0] > 0.1) == ("left" in captions[0])
        assert joints[-1, 0, 2].abs() < 0.05
    for joints, captions in clips("wave"):
        raised = joints[-1, [20, 21], 1] > joints[-1, [16, 17], 1]
        both = "both" in captions[0]
        assert raised.tolist() == [both or "left" in captions[0], both or "right" in captions[0]]


def test_movements_are_done_as_often_as_the_caption_says() -> None:
    for joints, captions in clips("squat", 12):
        pelvis = joints[:, 0, 1]
        assert runs(pelvis < pelvis[0] - 0.1) == said(captions)
        assert pelvis[-1] == pytest.approx(float(pelvis[0]), abs=0.03)
    for joints, captions in clips("bow", 12):
        head = joints[:, 15, 1]
        assert runs(head < (head.max() + head.min()) / 2) == said(captions)
    for joints, captions in clips("jump", 12):
        assert runs(joints[..., 1].amin(-1) > 0.02) == said(captions)


def test_in_the_air_the_body_falls_freely() -> None:
    for joints, _ in clips("jump"):
        flying = joints[..., 1].amin(-1) > 1e-6
        whole = flying[2:] & flying[1:-1] & flying[:-2]
        pelvis = joints[:, 0, 1]
        acceleration = (pelvis[2:] - 2 * pelvis[1:-1] + pelvis[:-2]) * FPS**2
        assert whole.any()
        torch.testing.assert_close(acceleration[whole], torch.full_like(acceleration[whole], -GRAVITY))


def test_standing_is_standing_still() -> None:
    for joints, _ in clips("stand"):
        assert (joints - joints[0]).abs().max() < 0.03


def test_what_there_is_no_motion_of_is_refused() -> None:
    with pytest.raises(InvalidValue, match="walk backwards"):
        procedural_clip("fly", generator_for(0, "fly"))
    with pytest.raises(InvalidValue, match="max_frames"):
        procedural_clip("walk", generator_for(0, "walk"), max_frames=20)
