"""Joints to rotations and back: exact on the body's own motions, near on real ones, wherever they are placed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

mujoco = pytest.importorskip("mujoco")

from sc_loops.correction.physics import body  # noqa: E402
from sc_loops.correction.physics.inverse_kinematics import (  # noqa: E402
    continuous,
    frames,
    joints_of,
    matrices,
    pose,
    rest_of,
)
from sc_loops.motion.skeleton import BONE_LENGTHS, PARENTS  # noqa: E402

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "humanml3d"


def random_motion(frames: int = 40, seed: int = 0) -> np.ndarray:
    """``(frames, 71)``: joints that bend by up to a radian or so, all directions of the pelvis."""
    rng = np.random.default_rng(seed)
    turns = [Rotation.random(frames, random_state=seed)]
    turns += [Rotation.from_rotvec(0.5 * rng.normal(size=(frames, 3))) for _ in range(16)]
    quaternions = np.concatenate([t.as_quat()[:, [3, 0, 1, 2]] for t in turns], axis=1)
    return np.concatenate([rng.normal(size=(frames, 3)), quaternions], axis=1)


def real(name: str) -> np.ndarray:
    if not SHARED.exists():
        pytest.skip("SC_LOOPS_DATA names no folder with humanml3d")
    folder = "joints" if name == "000021" else "new_joints"
    return np.load(SHARED / folder / f"{name}.npy")[:, :22].astype(np.float64)


def test_forward_kinematics_is_mujocos() -> None:
    model = body.model()
    data, qpos = mujoco.MjData(model), random_motion(5)
    origins, turns = frames(qpos)
    for frame in range(5):
        data.qpos[:] = qpos[frame]
        mujoco.mj_kinematics(model, data)
        sites = [data.site(f"joint{joint}").xpos for joint in range(22)]
        np.testing.assert_allclose(joints_of(qpos)[frame], sites, atol=1e-12)
        np.testing.assert_allclose(origins[frame], data.xpos[1:], atol=1e-12)
        np.testing.assert_allclose(turns[frame].reshape(-1, 9), data.xmat[1:], atol=1e-12)


def test_motions_of_the_body_come_back_exactly() -> None:
    joints = joints_of(random_motion())
    np.testing.assert_allclose(joints_of(pose(joints)), joints, atol=1e-9)


def test_it_turns_and_moves_with_the_motion() -> None:
    joints = joints_of(random_motion()) + np.array([0, 10, 0])  # far from the floor, near which soles are level
    turn, shift = Rotation.from_rotvec([0.3, 2.0, -1.0]).as_matrix(), np.array([1.0, 2.0, -3.0])
    qpos, moved = pose(joints), pose(joints @ turn.T + shift)
    np.testing.assert_allclose(moved[:, :3], qpos[:, :3] @ turn.T + shift, atol=1e-9)
    np.testing.assert_allclose(frames(moved)[1], turn @ frames(qpos)[1], atol=1e-7)


def test_quaternions_and_matrices_are_those_of_scipy() -> None:
    quaternions = Rotation.random(50, random_state=0).as_quat()
    expected = Rotation.from_quat(quaternions).as_matrix()
    np.testing.assert_allclose(matrices(3.0 * quaternions[:, [3, 0, 1, 2]]), expected, atol=1e-12)


def test_hips_and_collars_are_found_where_they_are() -> None:
    qpos, rest = random_motion(), body.REST.copy()
    turn = Rotation.from_rotvec([0.3, 0.0, 0.0]).as_matrix()
    rest[[1, 2]] = rest[[1, 2]] @ turn.T
    rest[14] = rest[14] @ turn
    joints = joints_of(qpos, rest)
    found = rest_of(joints)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), BONE_LENGTHS.numpy(), atol=1e-7)
    # Up to how pelvis and chest are turned at rest, which no motion tells.
    for bones in ([1, 2, 3], [12, 13, 14]):
        np.testing.assert_allclose(found[bones] @ found[bones].T, rest[bones] @ rest[bones].T, atol=1e-9)
    np.testing.assert_allclose(joints_of(pose(joints, found), found), joints, atol=1e-9)


def test_soles_are_level_on_the_floor_and_follow_the_shank_in_the_air() -> None:
    """Legs astride: the shanks lean to the sides."""
    qpos = np.zeros((1, 71))
    qpos[:, 3::4] = 1
    for hip, side in ((1, 1.0), (2, -1.0)):
        at = 3 + 4 * body.BODY_OF[hip]
        qpos[0, [at, at + 3]] = np.cos(0.2), side * np.sin(0.2)
    joints = joints_of(qpos)[0]
    for ankle, toe in ((7, 10), (8, 11)):
        joints[toe] = joints[ankle] + np.linalg.norm(body.REST[toe]) * np.array([0.0, -0.31, 0.951]) / np.hypot(
            0.31, 0.951
        )
    for height, tilt in ((0.012, 0.0), (1.0, 0.35)):
        placed = joints[None] + [0, height - joints[10, 1], 0]
        turns = frames(pose(placed))[1]
        for ankle, toe in ((7, 10), (8, 11)):
            sideways = turns[0, body.BODY_OF[ankle], 1, 0]
            assert abs(sideways) == pytest.approx(tilt, abs=0.06), (ankle, height)
            assert np.abs(joints_of(pose(placed))[0, toe] - placed[0, toe]).max() < 1e-6


def test_signs_are_chosen_so_that_quaternions_do_not_jump() -> None:
    turn = Rotation.from_rotvec(np.linspace(0, 4 * np.pi, 200)[:, None] * [0, 1, 0])
    qpos = np.concatenate([np.zeros((200, 3)), turn.as_quat()[:, [3, 0, 1, 2]]], axis=1)
    qpos[::7, 3:] *= -1
    steps = np.linalg.norm(np.diff(continuous(qpos)[:, 3:], axis=0), axis=1)
    assert steps.max() < 0.04


@pytest.mark.parametrize("name", ["000000", "000021", "012314"])
def test_real_clips_are_met_within_millimetres(name: str) -> None:
    joints = real(name)
    rest = rest_of(joints)
    qpos = pose(joints, rest)
    out = joints_of(qpos, rest)
    assert 1000 * np.linalg.norm(out - joints, axis=-1).max() < 0.3
    # With hips and collars where they are in other people, the feet, on which the body stands, are still met.
    others = 1000 * np.linalg.norm(joints_of(pose(joints)) - joints, axis=-1)
    assert others.mean() < 3.2
    assert others.max() < 11.5
    assert others[:, [7, 8, 10, 11]].mean() < 2.5
    bones = np.linalg.norm(out[:, 1:] - out[:, list(PARENTS[1:])], axis=-1)
    np.testing.assert_allclose(bones - BONE_LENGTHS.double().numpy()[1:], 0, atol=1e-9)
    assert np.abs(np.diff(qpos[:, 3:], axis=0)).max() < 0.5


def test_raised_arms_are_far_from_the_half_turn() -> None:
    """An arm that goes from hanging to straight up, sideways or in front, turns evenly."""
    qpos = np.zeros((60, 71))
    qpos[:, 3::4] = 1
    joints = joints_of(qpos)
    for tilt in (0.0, 0.4, 1.2):
        angle = np.linspace(-np.pi / 2, np.pi / 2, 60)
        arm = np.stack([np.cos(angle) * np.cos(tilt), np.sin(angle), np.cos(angle) * np.sin(tilt)], axis=1)
        for child, parent in ((18, 16), (20, 18)):
            joints[:, child] = joints[:, parent] + BONE_LENGTHS[child].item() * arm
        found = pose(joints)
        steps = np.abs(np.diff(found, axis=0)).max()
        assert steps < 0.1, tilt
        np.testing.assert_allclose(joints_of(found)[:, [18, 20]], joints[:, [18, 20]], atol=1e-6)
