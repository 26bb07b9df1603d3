"""Physical errors against closed forms, and the ways to spoil a motion."""

from __future__ import annotations

import numpy as np
import pytest

from sc_loops.motion.body_shape import RADII, SELF_PAIRS
from sc_loops.motion.bones import LENGTHS, with_bone_lengths
from sc_loops.motion.degradations import DEGRADATIONS, degraded
from sc_loops.motion.physical_errors import deepest_overlap, nearest_points, physical_errors
from sc_loops.motion.skeleton import FPS, OFFSETS, PARENTS


def standing(frames: int = 20) -> np.ndarray:
    """Somebody who stands still with arms stretched sideways, toes at height 0."""
    joints, offsets = np.zeros((frames, 22, 3)), OFFSETS.double().numpy().copy()
    for j, side in ((18, 1), (20, 1), (19, -1), (21, -1)):
        offsets[j] = [side * LENGTHS[j], 0, 0]
    for j, parent in enumerate(PARENTS[1:], start=1):
        joints[:, j] = joints[:, parent] + offsets[j]
    joints[..., 1] -= joints[..., 1].min()
    return joints


def test_who_stands_still_on_the_floor_has_no_errors() -> None:
    found = physical_errors(standing())
    assert (found.error, found.jerk, found.self_penetration) == (0, 0, 0)


@pytest.mark.parametrize(("metres", "penetration", "floating"), [(-0.02, 20, 0), (0.03, 0, 30), (0.004, 0, 0)])
def test_height_is_penetration_below_and_floating_above(metres: float, penetration: float, floating: float) -> None:
    found = physical_errors(standing() + np.array([0, metres, 0]))
    assert found.penetration == pytest.approx(penetration)
    assert found.floating == pytest.approx(floating)
    assert found.error == pytest.approx(penetration + floating)


def test_skating_is_the_mean_step_of_the_toes_that_are_near_the_floor() -> None:
    joints = standing()
    joints += np.arange(20)[:, None, None] * np.array([0.003, 0, 0.004])
    assert physical_errors(joints).skating == pytest.approx(5.0)
    joints[:, 11, 1] += 0.5  # one toe is in the air, and the other one still slides
    assert physical_errors(joints).skating == pytest.approx(5.0)
    assert physical_errors(joints + np.array([0, 0.031, 0])).skating == 0


def test_jerk_of_a_cubic() -> None:
    time = np.arange(20) / FPS
    joints = standing() + (2.0 * time**3)[:, None, None] * np.array([0.6, 0, 0.8])
    assert physical_errors(joints).jerk == pytest.approx(12.0)


def test_overlap_of_two_parallel_forearms() -> None:
    joints = standing()
    ahead = np.array([0, 1.2, 1.0])
    for side, (elbow, wrist) in ((0.5, (18, 20)), (-0.5, (19, 21))):
        joints[:, elbow] = ahead + np.array([side * 0.05, 0, 0])
        joints[:, wrist] = joints[:, elbow] + np.array([0, 0, LENGTHS[wrist]])
    between_upper_arms = deepest_overlap(joints)[0]
    assert between_upper_arms >= 2 * RADII[20] - 0.05 - 1e-12
    _, _, gap = nearest_points(joints, np.array([20]), np.array([21]))
    assert np.linalg.norm(gap, axis=-1) == pytest.approx(0.05)


def test_nearest_points_are_those_of_a_fine_grid() -> None:
    rng = np.random.default_rng(0)
    joints = rng.standard_normal((12, 22, 3))
    first, second = np.array(SELF_PAIRS).T
    s, t, gap = nearest_points(joints, first, second)
    found = np.linalg.norm(gap, axis=-1)
    parents = np.array(PARENTS)
    part = np.linspace(0, 1, 101)[:, None, None, None]
    one = joints[:, parents[first]] + part * (joints[:, first] - joints[:, parents[first]])
    other = joints[:, parents[second]] + part * (joints[:, second] - joints[:, parents[second]])
    grid = np.full(found.shape, np.inf)
    for point in one:
        grid = np.minimum(grid, np.linalg.norm(point - other, axis=-1).min(axis=0))
    assert (found <= grid + 1e-12).all()
    assert (grid - found).max() < 0.05  # steps of the grid
    points = joints[:, parents[first]] + s[..., None] * (joints[:, first] - joints[:, parents[first]])
    others = joints[:, parents[second]] + t[..., None] * (joints[:, second] - joints[:, parents[second]])
    np.testing.assert_allclose(points - others, gap, atol=1e-12)


def test_neighbours_and_parts_of_the_trunk_may_overlap() -> None:
    assert (4, 7) not in SELF_PAIRS  # thigh and shank
    assert (3, 13) not in SELF_PAIRS  # waist and collar
    assert (9, 18) not in SELF_PAIRS  # chest and upper arm
    assert (9, 20) in SELF_PAIRS  # chest and forearm
    assert (7, 8) in SELF_PAIRS  # the shanks


def test_errors_do_not_depend_on_place_and_heading() -> None:
    joints = degraded(standing(), "mixed", 3)
    turned = joints[..., [2, 1, 0]] * np.array([1, 1, -1]) + np.array([3.0, 0, -2.0])
    before, after = physical_errors(joints), physical_errors(turned)
    assert [*vars(after).values()] == pytest.approx([*vars(before).values()], rel=1e-9, abs=1e-9)


def test_degradations_are_functions_of_the_seed() -> None:
    joints = standing()
    for kind in DEGRADATIONS:
        one = degraded(joints, kind, 1)
        assert one.shape == joints.shape
        np.testing.assert_array_equal(one, degraded(joints, kind, 1))
    assert np.abs(degraded(joints, "jitter", 1) - degraded(joints, "jitter", 2)).max() > 0.01


def test_each_degradation_spoils_what_it_says() -> None:
    joints = standing(120)
    found = {kind: physical_errors(degraded(joints, kind, 1)) for kind in DEGRADATIONS}
    assert found["clean"].error == 0
    assert found["sinking"].penetration == pytest.approx(50)
    assert found["oscillating"].penetration == pytest.approx(30, abs=2)  # half of 60 on average
    assert found["floating"].floating == pytest.approx(60)
    assert found["drift"].skating == pytest.approx(300 / FPS)
    assert found["jitter"].jerk > 500
    assert found["self-penetration"].self_penetration > 4  # from arms stretched out
    assert found["mixed"].penetration > 30
    assert found["mixed"].jerk > 300


def test_overlapping_arms_keep_their_bones() -> None:
    joints = degraded(standing(), "self-penetration", 1)
    np.testing.assert_allclose(with_bone_lengths(joints), joints, atol=1e-12)
