"""The executed motion: who stands stays standing, who walks walks, forces add up to the weight, failures are told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

mujoco = pytest.importorskip("mujoco")

from sc_loops.correction.physics import body, tracking  # noqa: E402
from sc_loops.correction.physics.contacts import stances  # noqa: E402
from sc_loops.correction.physics.inverse_kinematics import joints_of, rest_of  # noqa: E402
from sc_loops.correction.physics.kinematic import kinematic  # noqa: E402
from sc_loops.correction.physics.outcome import Kinematic  # noqa: E402
from sc_loops.motion.physical_errors import physical_errors  # noqa: E402
from sc_loops.motion.representation import decode  # noqa: E402
from sc_loops.motion.skeleton import BONE_LENGTHS, PARENTS  # noqa: E402

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "humanml3d"
LOW = {"residual_force": 200.0, "residual_torque": 60.0}
WEIGHT = body.MASS * body.GRAVITY


def standing(frames: int = 40) -> Kinematic:
    qpos = np.zeros((frames, 71))
    qpos[:, 3::4] = 1
    for joint, side in ((16, -1.0), (17, 1.0)):
        at = 3 + 4 * body.BODY_OF[joint]
        qpos[:, [at, at + 3]] = np.cos(0.6), side * np.sin(0.6)
    qpos[:, 1] = body.SOLE - joints_of(qpos[:1])[0, :, 1].min()
    return Kinematic(joints_of(qpos), np.ones((frames, 4), dtype=bool))


def walk(frames: int = 80) -> np.ndarray:
    """The first ``frames`` of 000612, a walk."""
    if not SHARED.exists():
        pytest.skip("SC_LOOPS_DATA names no folder with humanml3d")
    vectors = np.load(SHARED / "example_data" / "000612.npy")[:frames]
    return decode(torch.from_numpy(vectors).double()).numpy()


def test_who_stands_stays_standing() -> None:
    plan = standing()
    made = tracking.track(plan, **LOW)
    assert made.ok
    assert made.track_mm < 5
    feet = made.joints[8:, [7, 8, 10, 11]]
    assert 1000 * np.abs(np.diff(feet, axis=0)).max() < 0.1  # no creep
    assert made.residual_force < 0.1


def test_a_walk_is_walked() -> None:
    plan = kinematic(walk())
    made = tracking.track(plan, **LOW)
    assert made.ok
    assert made.joints.shape == plan.joints.shape
    assert made.track_mm < 25
    assert made.residual_force < 0.3
    assert made.residual_torque < 60
    assert physical_errors(made.joints).penetration < 0.5
    bones = np.linalg.norm(made.joints[:, 1:] - made.joints[:, list(PARENTS[1:])], axis=-1)
    np.testing.assert_allclose(bones, np.tile(BONE_LENGTHS.double().numpy()[1:], (len(bones), 1)), atol=1e-6)


def test_a_sunk_walk_comes_out_of_the_floor() -> None:
    joints = walk(60) - [0, 0.05, 0]
    made = tracking.track(kinematic(joints), **LOW)
    assert physical_errors(joints).penetration > 20
    assert made.ok
    assert physical_errors(made.joints).penetration < 0.5


def test_residual_stays_within_its_bounds() -> None:
    course = tracking.simulated(kinematic(walk(60)), **LOW)
    assert np.abs(course.sensors[:, 6:9]).max() <= 200 + 1e-6
    assert np.linalg.norm(course.sensors[:, 9:12], axis=1).max() <= 60 + 1e-6


def test_step_by_step_is_the_same_and_forces_add_up_to_the_weight() -> None:
    """What holds the body up is the floor and the held feet, as ``mj_step`` applies it: on average its weight, less
    the residual's share, which is small."""
    plan = kinematic(walk(60))
    course = tracking.simulated(plan, **LOW)
    rest = rest_of(plan.joints)
    model = body.reshaped(tracking._model(**LOW), rest)
    control, qpos, qvel = tracking._control(plan, rest, model)
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    ground, residual = [], []
    for row in control:
        data.ctrl[:], data.qfrc_applied[:], data.eq_active[:] = row[:71], row[71:125], row[125:129]
        data.mocap_pos[:] = row[129:].reshape(-1, 3)
        mujoco.mj_step(model, data)
        ground.append(data.qfrc_constraint[1])
        residual.append(data.qfrc_actuator[1])
    assert np.array_equal(data.qpos, course.qpos[-1])
    assert (np.mean(ground) + np.mean(residual)) / WEIGHT == pytest.approx(1.0, abs=0.03)
    assert abs(np.mean(residual)) / WEIGHT < 0.12


def test_one_and_two_threads_give_the_same_bits() -> None:
    plan = kinematic(walk(40))
    one, two = (tracking.simulated(plan, **LOW, threads=threads) for threads in (1, 2))
    assert np.array_equal(one.qpos, two.qpos)
    assert np.array_equal(one.sensors, two.sensors)


def test_without_residual_force_who_hovers_falls() -> None:
    plan = standing(30)
    plan = Kinematic(plan.joints + np.array([0, 0.6, 0]), np.zeros((30, 4), dtype=bool))
    made = tracking.track(plan, **LOW)
    assert not made.ok
    assert "fell" in made.reason
    assert np.array_equal(made.joints, plan.joints)


def test_a_motion_that_jumps_about_fails_without_an_exception(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    joints = standing(30).joints + 3.0 * rng.normal(size=(30, 1, 3)).cumsum(axis=0)
    plan = Kinematic(joints, stances(joints))
    made = tracking.track(plan, **LOW)
    assert not made.ok
    assert made.reason
    assert not list(tmp_path.iterdir())
