"""The simulated body against the skeleton, the weights of a person, and what should and should not collide."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

mujoco = pytest.importorskip("mujoco")

from sc_loops.correction.physics import body  # noqa: E402
from sc_loops.correction.physics.inverse_kinematics import joints_of  # noqa: E402
from sc_loops.correction.physics.rollout import run  # noqa: E402
from sc_loops.errors import UsageError  # noqa: E402
from sc_loops.motion.body_shape import SELF_PAIRS  # noqa: E402
from sc_loops.motion.skeleton import BONE_LENGTHS, MIRRORED, PARENTS  # noqa: E402


def rest(height: float = 0.0) -> np.ndarray:
    """``(1, 71)``: all rotations the identity, the soles at ``height``."""
    qpos = np.zeros((1, 71))
    qpos[:, 3::4] = 1
    qpos[0, 1] = height + body.SOLE - joints_of(qpos)[0, :, 1].min()
    return qpos


def random_qpos() -> np.ndarray:
    """``(1, 71)``: any rotations."""
    rng = np.random.default_rng(0)
    turns = rng.normal(size=(1, 17, 4))
    turns /= np.linalg.norm(turns, axis=-1, keepdims=True)
    return np.concatenate([rng.normal(size=(1, 3)), turns.reshape(1, -1)], axis=1)


def test_size_names_and_order_of_the_bodies() -> None:
    model = body.model()
    assert (model.nq, model.nv, model.nbody) == (71, 54, 18)
    assert [model.body(1 + i).name for i in range(17)] == [f"body{joint}" for joint in body.BODIES]
    assert body.model() is model  # compiled once


def test_bones_have_the_lengths_of_the_skeleton() -> None:
    np.testing.assert_allclose(np.linalg.norm(body.REST, axis=1), BONE_LENGTHS.numpy(), atol=1e-7)


def test_weights_are_those_of_a_person_and_the_same_on_both_sides() -> None:
    model = body.model()
    assert model.body_mass.sum() == pytest.approx(22.5 * 1.75**2)
    for joint in body.BODIES:
        assert model.body(f"body{joint}").mass == pytest.approx(model.body(f"body{MIRRORED[joint]}").mass)
        assert model.body(f"body{joint}").mass == pytest.approx(body.mass_of(joint))
    assert body.carried_by(0) == pytest.approx(body.MASS)
    assert 2 * body.carried_by(1) / body.MASS == pytest.approx(0.4, abs=0.02)  # de Leva: legs 0.37 (women) to 0.41


def test_inertia_is_that_of_the_model() -> None:
    parts = body.inertia()
    # About the pelvis' origin at rest, by the parallel axis theorem and by MuJoCo's mass matrix.
    origins = np.zeros((17, 3))
    for row, joint in enumerate(body.BODIES[1:], start=1):
        origins[row] = origins[body.BODY_OF[PARENTS[joint]]] + body.REST[joint]
    arm = origins + parts.centre
    square = np.einsum("bi,bi->b", arm, arm)[:, None, None] * np.eye(3) - arm[:, :, None] * arm[:, None, :]
    total = (parts.tensor + parts.mass[:, None, None] * square).sum(axis=0)
    model = body.model()
    data, full = mujoco.MjData(model), np.empty((54, 54))
    data.qpos[:] = rest()[0]
    mujoco.mj_forward(model, data)
    mujoco.mj_fullM(model, data, full)
    np.testing.assert_allclose(total, full[3:6, 3:6], rtol=1e-9, atol=1e-9)


def test_a_reshaped_body_has_its_joints_and_capsules_where_they_should_be() -> None:
    rest = body.REST.copy()
    rest[1], rest[13] = rest[1][[2, 1, 0]], -rest[13]
    model = body.reshaped(body.model(), rest)
    data, qpos = mujoco.MjData(model), random_qpos()
    data.qpos[:] = qpos[0]
    mujoco.mj_kinematics(model, data)
    joints = joints_of(qpos, rest)[0]
    np.testing.assert_allclose([data.site(f"joint{joint}").xpos for joint in range(22)], joints, atol=1e-12)
    for bone in range(1, 22):
        middle, axis = data.geom(f"bone{bone}").xpos, data.geom(f"bone{bone}").xmat.reshape(3, 3)[:, 2]
        np.testing.assert_allclose(middle, (joints[bone] + joints[PARENTS[bone]]) / 2, atol=1e-12)
        assert abs(axis @ (joints[bone] - joints[PARENTS[bone]])) == pytest.approx(
            BONE_LENGTHS[bone].item(), rel=1e-6
        )
    np.testing.assert_array_equal(body.model().body("body1").pos, body.REST[1])  # the original is as it was


def test_only_limbs_that_should_not_overlap_collide() -> None:
    model = body.model()
    excluded = {(int(s) >> 16, int(s) & 0xFFFF) for s in model.exclude_signature}
    rows = {joint: 1 + row for joint, row in body.BODY_OF.items()}
    for a, b in SELF_PAIRS:
        pair = (rows[PARENTS[a]], rows[PARENTS[b]])
        assert not {pair, pair[::-1]} & excluded
    allowed = {frozenset((PARENTS[a], PARENTS[b])) for a, b in SELF_PAIRS}
    assert len(excluded) == 17 * 16 // 2 - len(allowed)


def test_the_body_touches_the_floor_with_its_soles_first() -> None:
    model = body.model()
    data = mujoco.MjData(model)
    for height, touches in ((0.002, 0), (-0.006, 4)):
        data.qpos[:] = rest(height)[0]
        mujoco.mj_forward(model, data)
        names = [model.geom(g).name for pair in data.contact.geom[: data.ncon] for g in pair]
        assert names.count("floor") == touches
        assert all(name == "floor" or name.startswith(("touch7", "touch8")) for name in names)


def test_a_body_that_falls_comes_to_rest_on_the_floor() -> None:
    model = body.model()
    course = run(model, rest(0.1)[0], np.zeros(54), np.zeros((3000, 0)), 0)
    lowest = joints_of(course.qpos[-1:])[0, :, 1]
    assert course.finished
    assert -0.01 < lowest.min() < 0.08
    assert lowest.max() < 0.6
    # y is up: it fell along y.
    assert course.qpos[-1, 1] < 0.4 * course.qpos[0, 1]


def test_a_divergence_leaves_no_file_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    qvel = np.zeros(54)
    qvel[3] = 1e9
    for threads in (1, 2):
        assert not run(body.model(), rest()[0], qvel, np.zeros((50, 0)), 0, threads=threads).finished
    with body.quiet_simulator() as warnings:
        data = mujoco.MjData(body.model())
        data.qpos[0] = np.nan
        mujoco.mj_step(body.model(), data)
    assert any("unstable" in warning for warning in warnings)
    assert not list(tmp_path.iterdir())


def test_without_mujoco_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(UsageError, match=r'pip install -e "\.\[motion\]"'):
        body.simulator()
