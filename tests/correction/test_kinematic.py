"""The kinematic stage: what it must keep, what it must not see, and what it repairs."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from sc_loops.correction.physics.contacts import episodes, noise_level, own_skating, stances
from sc_loops.correction.physics.floor import drift, floor_curve
from sc_loops.correction.physics.gate import LIMITS, MARGIN, measures
from sc_loops.correction.physics.kinematic import CLEARANCE, kinematic
from sc_loops.correction.physics.legs import bent
from sc_loops.correction.physics.methods import correct
from sc_loops.correction.physics.outcome import STANCE_JOINTS
from sc_loops.correction.physics.overlaps import legs_apart, separated
from sc_loops.motion.bones import LENGTHS
from sc_loops.motion.degradations import DEGRADATIONS, degraded
from sc_loops.motion.physical_errors import physical_errors
from sc_loops.motion.procedural import procedural_clip
from sc_loops.motion.skeleton import PARENTS

ACTIONS = ("walk", "squat", "wave", "jump")


@cache
def clip(action: str) -> np.ndarray:
    generator = torch.Generator().manual_seed(4)
    return procedural_clip(action, generator, max_frames=120)[0].numpy()


def lengths(joints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(joints[:, 1:] - joints[:, list(PARENTS[1:])], axis=-1)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_bones_have_exact_lengths_whatever_comes_in(kind: str) -> None:
    made = kinematic(degraded(clip("walk"), kind, 1))
    np.testing.assert_allclose(lengths(made.joints), np.broadcast_to(LENGTHS[1:], (len(made.joints), 21)), atol=1e-12)


@pytest.mark.parametrize("action", ACTIONS)
def test_height_place_and_heading_of_the_input_do_not_matter(action: str) -> None:
    joints = clip(action)
    made = kinematic(joints)
    np.testing.assert_allclose(kinematic(joints - np.array([0, 0.05, 0])).joints, made.joints, atol=1e-9)
    np.testing.assert_allclose(kinematic(joints + np.array([0, 0.06, 0])).joints, made.joints, atol=1e-9)

    def elsewhere(x: np.ndarray) -> np.ndarray:
        return x[..., [2, 1, 0]] * np.array([1, 1, -1]) + np.array([3.0, 0, -2.0])

    np.testing.assert_allclose(kinematic(elsewhere(joints)).joints, elsewhere(made.joints), atol=1e-9)


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_planted_toes_stay_where_they_are(kind: str) -> None:
    made = kinematic(degraded(clip("walk"), kind, 1))
    stands = 0
    for column in (2, 3):
        toe = made.joints[:, STANCE_JOINTS[column]]
        for first, after in episodes(made.stance[:, column]):
            steps = np.diff(toe[first:after], axis=0)
            # But for the frames in which a leg does not reach.
            assert np.quantile(np.linalg.norm(steps, axis=-1), 0.9, method="lower") < 1e-3
            stands += after - first
    assert stands > 0.5 * len(made.joints)


@pytest.mark.parametrize("kind", [kind for kind in DEGRADATIONS if kind not in ("clean", "self-penetration")])
@pytest.mark.parametrize("action", ACTIONS)
def test_degraded_motions_come_back_near_the_clean_one(action: str, kind: str) -> None:
    clean, spoilt = clip(action), degraded(clip(action), kind, 1)
    made = kinematic(spoilt).joints
    assert physical_errors(made).error < physical_errors(clean).error + 15  # its toes stand at 12 mm

    def away(joints: np.ndarray) -> float:
        moved = joints - clean
        return 1000 * float(np.linalg.norm(moved - moved[:, :1] * np.array([1, 0, 1]), axis=-1).mean())

    assert away(made) < 45


def test_a_clean_motion_hardly_moves() -> None:
    for action in ACTIONS:
        made = kinematic(clip(action)).joints
        assert 1000 * np.linalg.norm(made - clip(action), axis=-1).mean() < 25


def test_drift_is_found_and_removed() -> None:
    joints = degraded(clip("walk"), "drift", 1)
    slid = drift(joints, stances(joints))
    true = joints[-1, 0] - clip("walk")[-1, 0]
    assert np.linalg.norm(slid[-1] - true) < 0.25 * np.linalg.norm(true)
    assert own_skating(joints) > 11
    assert own_skating(kinematic(joints).joints) < 5


def test_swinging_toes_are_clear_of_the_floor() -> None:
    made = kinematic(clip("walk"), clearance=0.05)
    swings = ~made.stance[:, 2:]
    assert made.joints[:, [10, 11], 1][swings].min() > 0.05 - 1e-3
    made = kinematic(clip("walk"))
    assert made.joints[:, [10, 11], 1][~made.stance[:, 2:]].min() > CLEARANCE - 1e-3


def test_the_floor_follows_a_slow_wave_and_no_jump() -> None:
    wave = 0.03 * np.sin(2 * np.pi * np.arange(len(clip("squat"))) / 80)
    level = floor_curve(clip("squat"))
    found = floor_curve(clip("squat") + wave[:, None, None] * np.array([0, 1, 0])) - level
    assert np.abs(found - wave).max() < 0.012
    jumping = floor_curve(clip("jump"))
    assert jumping.max() - jumping.min() < 0.03
    assert clip("jump")[:, [10, 11], 1].min(axis=1).max() > 0.05  # there is a jump


def test_noise_levels() -> None:
    rng = np.random.default_rng(0)
    joints = clip("walk")
    levels = [noise_level(joints + metres * rng.standard_normal(joints.shape)) for metres in (0.0, 0.005, 0.015)]
    assert levels == [0, 1, 2]


def test_stances_of_a_runner_are_found() -> None:
    """A foot that comes down for 0.2 s under a body at 3.5 m/s, and is swung forward for the rest of 0.7 s."""
    frames = np.arange(60)
    joints = np.zeros((60, 22, 3))
    joints[:, 0] = np.stack([0 * frames, 0 * frames + 0.9, 3.5 * frames / 20], axis=1)
    phase = frames % 14
    down = phase < 4
    place = np.where(down, (frames // 14) * 2.45, (frames // 14) * 2.45 + 2.45 * (phase - 3) / 11)
    height = np.where(down, 0.02, 0.02 + 0.3 * np.sin(np.pi * (phase - 3) / 11))
    for joint in (7, 8, 10, 11):
        joints[:, joint] = np.stack([0 * frames, height + (0.05 if joint < 9 else 0), place], axis=1)
    found = stances(joints)[:, 2]
    middle = (phase == 1) | (phase == 2)
    assert found[middle].all()
    assert not found[(phase > 5) & (phase < 12)].any()


def test_the_two_bones_of_a_leg_reach_their_target() -> None:
    rng = np.random.default_rng(0)
    hip, ankle = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    forward = np.broadcast_to([0.0, 0.0, 1.0], (50, 3))
    knee, end = bent(hip, hip + rng.standard_normal((50, 3)), ankle, 0.8, 0.9, forward)
    np.testing.assert_allclose(np.linalg.norm(knee - hip, axis=-1), 0.8, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(end - knee, axis=-1), 0.9, atol=1e-12)
    within = np.linalg.norm(ankle - hip, axis=-1)
    reached = (within < 0.999 * 1.7) & (within > 0.13)
    np.testing.assert_allclose(end[reached], ankle[reached], atol=1e-12)


def test_arms_come_out_of_the_body() -> None:
    joints = degraded(clip("walk"), "self-penetration", 1)
    before, after = physical_errors(joints), physical_errors(separated(joints))
    assert before.self_penetration > 20
    assert after.self_penetration < 5
    assert after.error == before.error
    np.testing.assert_allclose(lengths(separated(joints)), lengths(joints), atol=1e-9)
    assert separated(clip("walk")) is clip("walk")


def test_legs_that_cross_come_apart() -> None:
    joints = clip("wave").copy()
    across = joints[:, 1] - joints[:, 2]
    for joint, side in ((4, -0.5), (7, -1), (10, -1), (5, 0.5), (8, 1), (11, 1)):
        joints[:, joint] += side * 0.85 * across
    assert physical_errors(joints).self_penetration > 10
    apart = legs_apart(joints)
    assert physical_errors(apart).self_penetration < 5
    others = [j for j in range(22) if j not in (4, 5, 7, 8, 10, 11)]
    np.testing.assert_array_equal(apart[:, others], joints[:, others])
    assert legs_apart(clip("walk")) is clip("walk")


@pytest.mark.parametrize("action", ["walk", "side step", "turn"])
def test_what_one_pass_does_not_mend_further_ones_do(action: str) -> None:
    noise = np.random.default_rng(0).normal(0, 0.06, clip(action).shape)
    once = kinematic(clip(action) + noise)
    assert measures(once.joints).beyond(LIMITS, MARGIN)
    outcome = correct(clip(action) + noise, "kinematic")
    assert outcome.status == "kinematic"
    assert not measures(outcome.joints).beyond(LIMITS, MARGIN)
