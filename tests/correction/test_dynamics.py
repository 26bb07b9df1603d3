"""Inverse dynamics of whole clips against MuJoCo's, non-negative least squares against SciPy's, and bodies of which
the force that no contact explains is known: standing, falling, hovering, pulled down."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls

mujoco = pytest.importorskip("mujoco")

from sc_loops.correction.physics import body, dynamics  # noqa: E402
from sc_loops.correction.physics.inverse_kinematics import joints_of, pose  # noqa: E402

WEIGHT = body.MASS * body.GRAVITY


def standing(frames: int = 20) -> np.ndarray:
    """``(frames, 71)`` at rest, the arms hanging, both feet flat on the floor, the weight above them."""
    qpos = np.zeros((frames, 71))
    qpos[:, 3::4] = 1
    for joint, side in ((16, -1.0), (17, 1.0)):
        at = 3 + 4 * body.BODY_OF[joint]
        qpos[:, [at, at + 3]] = np.cos(0.6), side * np.sin(0.6)
    qpos[:, 1] = body.SOLE - joints_of(qpos[:1])[0, :, 1].min()
    return qpos


def swaying(frames: int = 400, dt: float = 1e-3) -> np.ndarray:
    """``(frames, 71)``: smooth, every joint moves."""
    rng = np.random.default_rng(0)
    t = np.arange(frames)[:, None, None] * dt
    waves = [rng.normal(size=(1, 22, 3)) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6, (1, 22, 3))) for f in (1, 2)]
    return pose(joints_of(standing(frames)) + 0.02 * sum(waves))


def test_wrench_and_torques_are_those_of_mujoco() -> None:
    model, dt = body.model(), 5e-4
    qpos = swaying(800, dt)
    load = dynamics.loads(qpos, dt)
    found = np.concatenate([dynamics.outer_wrench(load), dynamics.joint_torques(load).reshape(-1, 48)], axis=1)
    data = mujoco.MjData(model)
    before, after = np.empty(54), np.empty(54)
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    try:
        for frame in range(1, len(qpos) - 1, 80):
            mujoco.mj_differentiatePos(model, before, dt, qpos[frame - 1], qpos[frame])
            mujoco.mj_differentiatePos(model, after, dt, qpos[frame], qpos[frame + 1])
            data.qpos[:], data.qvel[:], data.qacc[:] = qpos[frame], (before + after) / 2, (after - before) / dt
            mujoco.mj_inverse(model, data)
            expected = data.qfrc_inverse.copy()
            expected[3:6] = data.xmat[1].reshape(3, 3) @ expected[3:6]  # MuJoCo gives it in the pelvis' frame
            np.testing.assert_allclose(found[frame - 1], expected, rtol=0, atol=2e-3 * np.abs(expected).max())
    finally:
        model.opt.disableflags = 0


def test_forces_at_the_feet_unload_the_joints_above_them() -> None:
    """Standing still on the feet, ankle and hip torques hold the small levers left; without the floor's force, the
    legs would have to hold up the body, which hangs on nothing."""
    load = dynamics.loads(standing(), 0.05)
    points, forces = dynamics.contact_forces(load, np.ones((18, 8)))
    np.testing.assert_allclose(forces.sum(axis=1), np.tile([0, WEIGHT, 0], (18, 1)), atol=0.02 * WEIGHT)
    assert (forces[..., 1] >= 0).all()
    assert (np.hypot(forces[..., 0], forces[..., 2]) <= np.sqrt(2) * dynamics.FRICTION * forces[..., 1] + 1e-6).all()
    torques = np.linalg.norm(dynamics.joint_torques(load, points, forces), axis=-1)
    assert torques.max() < 60.0
    # What is above the legs does not change with where the floor pushes.
    without = dynamics.joint_torques(load)
    upper = [body.BODY_OF[joint] - 1 for joint in body.BODIES[1:] if joint not in (1, 2, 4, 5, 7, 8)]
    np.testing.assert_allclose(without[:, upper], dynamics.joint_torques(load, points, forces)[:, upper], atol=1e-9)


def test_no_force_from_feet_in_the_air() -> None:
    _, forces = dynamics.contact_forces(dynamics.loads(standing(), 0.05), np.zeros((18, 8)))
    assert not forces.any()


@pytest.mark.parametrize("ridge", [1e-3, 1e-4])
def test_nonnegative_least_squares_are_scipys(ridge: float) -> None:
    rng = np.random.default_rng(0)
    matrix, target = rng.normal(size=(60, 6, 32)), rng.normal(size=(60, 6))
    matrix[20:40, 1] = np.abs(matrix[20:40, 1])
    target[40:] = -np.abs(target[40:])
    matrix[40:] = np.abs(matrix[40:])  # where nothing helps, x is 0
    found = dynamics.nonnegative(matrix, target, ridge=ridge)
    for a, b, x in zip(matrix, target, found, strict=True):
        stacked = np.concatenate([a, np.sqrt(ridge) * np.eye(32)])
        np.testing.assert_allclose(x, nnls(stacked, np.concatenate([b, np.zeros(32)]))[0], atol=1e-8)
    assert not found[40:].any()


def moved(path: np.ndarray) -> np.ndarray:
    """Joints ``(T, 22, 3)`` of the standing body along ``path (T, 3)``."""
    return joints_of(standing(len(path))) + path[:, None]


def test_standing_needs_nothing_but_the_floor() -> None:
    assert dynamics.external_force(moved(np.zeros((30, 3)))) < 0.01


@pytest.mark.parametrize("height", [0.5, 0.06])
def test_hovering_needs_the_whole_weight(height: float) -> None:
    path = np.tile([0.0, height, 0.0], (30, 1))
    assert dynamics.external_force(moved(path)) == pytest.approx(1.0, abs=0.01)


def test_a_free_fall_needs_nothing() -> None:
    t = np.arange(12) / 20
    path = np.stack([0.7 * t, 1.0 + 3 * t - body.GRAVITY * t**2 / 2, 0 * t], axis=1)
    assert dynamics.external_force(moved(path)) == pytest.approx(0.0, abs=1e-9)


def test_the_floor_does_not_pull() -> None:
    """Falling twice as fast as gravity makes it takes one weight downwards, from the floor or from the air."""
    t = np.arange(10) / 20
    path = np.stack([0 * t, -body.GRAVITY * t**2 + body.GRAVITY * t[-1] ** 2, 0 * t], axis=1)
    assert dynamics.external_force(moved(path)) == pytest.approx(1.0, abs=0.02)


def test_friction_has_an_end() -> None:
    """Pushed sideways with one weight, friction gives less than FRICTION of it, whatever the torque."""
    t = np.arange(10) / 20
    found = dynamics.external_force(moved(np.stack([body.GRAVITY * t**2 / 2, 0 * t, 0 * t], axis=1)))
    assert 1.0 - dynamics.FRICTION < found < 3.0


def test_it_does_not_depend_on_where_the_motion_is_and_faces() -> None:
    joints = joints_of(swaying(60, dt=0.02))
    turn = np.array([[0.6, 0, 0.8], [0, 1, 0], [-0.8, 0, 0.6]])
    expected = dynamics.external_force(joints)
    # The edges of the friction pyramids keep their directions, so only nearly the same.
    assert dynamics.external_force(joints @ turn.T + [3, 0, -2]) == pytest.approx(expected, rel=0.05)
    assert dynamics.external_force(joints[:2]) == 0.0
