"""Soft constraints: what is possible stays, what is under the floor or within the body comes out."""

from __future__ import annotations

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from sc_loops.correction.physics import body  # noqa: E402
from sc_loops.correction.physics.inverse_kinematics import joints_of, pose  # noqa: E402
from sc_loops.correction.physics.soft import soft  # noqa: E402
from sc_loops.motion.physical_errors import physical_errors  # noqa: E402
from sc_loops.motion.skeleton import BONE_LENGTHS, PARENTS  # noqa: E402


def waving(frames: int = 30) -> np.ndarray:
    """``(frames, 22, 3)``: a body that stands on its feet and moves its arms."""
    qpos = np.zeros((frames, 71))
    qpos[:, 3::4] = 1
    angle = 0.5 + 0.3 * np.sin(2 * np.pi * np.arange(frames) / 20)
    for joint, side in ((16, -1.0), (17, 1.0)):
        at = 3 + 4 * body.BODY_OF[joint]
        qpos[:, at], qpos[:, at + 3] = np.cos(angle / 2), side * np.sin(angle / 2)
    qpos[:, 1] = body.SOLE - joints_of(qpos)[0, :, 1].min()
    return joints_of(qpos)


def test_a_possible_motion_stays() -> None:
    joints = waving()
    made = soft(joints)
    assert made.ok
    assert not made.reason
    assert made.joints.shape == joints.shape
    assert made.track_mm < 5.0
    assert np.abs(made.joints[:, [7, 8, 10, 11]] - joints[:, [7, 8, 10, 11]]).max() < 0.006  # its legs differ by 3 mm
    assert 0.5 < made.residual_force < 1.1  # the springs carry it


def test_it_is_as_fast_as_the_motion() -> None:
    """No lag at up to 4 m/s: the springs' anchors are ahead by what they need. A lag of a frame would be 0.2 m."""
    joints = waving() + np.array([1.2, 0.5, 0.0]) * np.sin(np.arange(30) / 6)[:, None, None] + [0, 0.6, 0]
    distance = np.linalg.norm(soft(joints).joints - joints, axis=-1)
    assert distance.mean() < 0.008
    assert distance.max() < 0.025


def test_a_sunk_motion_comes_out_of_the_floor() -> None:
    joints = waving() - [0, 0.03, 0]
    made = soft(joints)
    assert physical_errors(joints).penetration > 10
    assert made.ok
    assert physical_errors(made.joints[3:]).penetration < 1
    assert made.joints[5:, [10, 11], 1].min() > 0


def test_an_arm_comes_out_of_the_body() -> None:
    joints = waving()
    joints[:, 18] = joints[:, 16] + BONE_LENGTHS[18].item() * np.array([0.3, -0.954, 0.0])
    joints[:, 20] = joints[:, 18] + BONE_LENGTHS[20].item() * np.array([-0.954, -0.3, 0.0])
    joints = joints_of(pose(joints))
    before = physical_errors(joints).self_penetration
    made = soft(joints)
    assert before > 20
    assert made.ok
    assert physical_errors(made.joints).self_penetration < 0.35 * before


def test_bones_keep_the_skeletons_lengths_whatever_the_input() -> None:
    made = soft(1.1 * waving(10))
    bones = np.linalg.norm(made.joints[:, 1:] - made.joints[:, list(PARENTS[1:])], axis=-1)
    np.testing.assert_allclose(bones, np.tile(BONE_LENGTHS.double().numpy()[1:], (10, 1)), atol=1e-9)


def test_it_always_makes_the_same() -> None:
    assert np.array_equal(soft(waving(10)).joints, soft(waving(10)).joints)


def test_a_motion_that_jumps_about_is_reported_and_raises_nothing() -> None:
    joints = waving(20)
    joints[10:] += [30.0, 0.0, 0.0]
    joints[15:] *= [1.0, -1.0, 1.0]
    made = soft(joints)
    assert not made.ok
    assert made.reason
    assert np.array_equal(made.joints, joints)
