"""From a recording to 22 joints: a figure in code whose units, axes, names and movement are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from bvh_figure import FIGURE, figure, written

from sc_loops.motion import representation
from sc_loops.motion.importing import mapping
from sc_loops.motion.importing.command import motion_import
from sc_loops.motion.importing.conversion import Conversion, convert
from sc_loops.motion.importing.sources import Source
from sc_loops.motion.skeleton import BONE_LENGTHS, JOINTS

UPRIGHT_IN_Z = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From y up to z up."""


def vectors_of(folder: Path, text: str, options: Conversion | None = None, up: str = "y") -> np.ndarray:
    """Of the one window of a file."""
    written(folder, clip=text)
    clip = convert(Source("clip.bvh", folder / "clip.bvh"), options or Conversion(), up, None)
    assert clip.reason == ""
    (window,) = clip.windows
    return window.vectors


def test_the_figure_is_where_it_should_be(tmp_path: Path) -> None:
    vectors = torch.from_numpy(vectors_of(tmp_path, figure()))
    joints = representation.decode(vectors)
    assert len(vectors) == 59  # 90 frames of 30 fps are 60 of 20
    # 1.2 m/s on the skeleton's legs: 0.816 m instead of 0.83.
    leg = float((joints[0, 5] - joints[0, 2]).norm() + (joints[0, 8] - joints[0, 5]).norm())
    speed = (joints[-1, 0] - joints[0, 0]) * 20 / 58
    torch.testing.assert_close(speed, torch.tensor([0.0, 0.0, 1.2 * leg / 0.83]), atol=0.02, rtol=0)
    assert joints[0, 1, 0] > 0.05  # left is at +x of who faces +z
    assert joints[:, [10, 11], 1].abs().max() < 0.005  # one leg of the skeleton is 3 mm longer
    raised = joints[:, JOINTS.index("left_wrist")] - joints[:, JOINTS.index("left_shoulder")]
    assert raised[0, 0] < 0.1
    assert raised[31, 0] > 0.4  # sin is 1 after 1.57 s: 60 degrees to the left
    fallen = joints[:, JOINTS.index("right_wrist")] - joints[:, JOINTS.index("right_shoulder")]
    assert fallen[31, 0].abs() < 0.1


@pytest.mark.parametrize(("units", "scale"), [("m", 0.01), ("cm", 1.0), ("inch", 1 / 2.54), ("cmu", 0.45 / 2.54)])
def test_units_are_found_or_given(tmp_path: Path, units: str, scale: float) -> None:
    expected = vectors_of(tmp_path, figure())
    text = figure(scale=scale)
    for options in (Conversion(), Conversion(units=units)):  # type: ignore[arg-type]
        np.testing.assert_allclose(vectors_of(tmp_path, text, options), expected, atol=1e-5)


def test_units_that_nothing_tells_are_named(tmp_path: Path) -> None:
    written(tmp_path, clip=figure(scale=30))
    clip = convert(Source("clip.bvh", tmp_path / "clip.bvh"), Conversion(), "y", None)
    assert clip.reason == "unknown units"
    assert "--units" in clip.detail


def test_z_up_is_found(tmp_path: Path) -> None:
    expected, text = vectors_of(tmp_path, figure()), figure(turn=UPRIGHT_IN_Z)
    np.testing.assert_allclose(vectors_of(tmp_path, text, up="z"), expected, atol=1e-5)
    source = written(tmp_path / "source", walk1_subject1=text)
    assert motion_import([str(source), str(tmp_path / "out"), "--no-mirror"]) == 0
    assert json.loads((tmp_path / "out" / "import.json").read_text())["up"] == "z"
    np.testing.assert_array_equal(np.load(tmp_path / "out/new_joint_vecs/walk1_subject1.npy"), expected)


def test_other_names_of_the_same_joints(tmp_path: Path) -> None:
    sides = {"UpLeg": "UpperLeg", "Leg": "LowerLeg", "Foot": "Foot", "Toe": "Toes", "Shoulder": "Shoulder",
             "Arm": "UpperArm", "ForeArm": "LowerArm", "Hand": "Hand"}  # fmt: skip
    bandai = {f"{side}{ours}": f"{theirs}_{side[0]}" for side in ("Left", "Right") for ours, theirs in sides.items()}
    bandai |= {"Spine2": "Chest", "Spine1": "Between"}
    mixamo = {name: f"mixamorig:{name.replace('Toe', 'ToeBase')}" for name in FIGURE}
    expected = vectors_of(tmp_path, figure())
    for names in (bandai, mixamo):
        np.testing.assert_allclose(vectors_of(tmp_path, figure(names=names), up="y"), expected, atol=1e-2)


def test_cmus_bvh_starts_with_a_t_pose_that_is_dropped(tmp_path: Path) -> None:
    cmu = {"LeftToe": "LeftToeBase", "RightToe": "RightToeBase", "Neck": "Neck1", "Spine2": "Neck"}
    lines = figure(frames=92, scale=0.45 / 2.54, names=cmu).splitlines()
    first = lines.index("MOTION") + 3
    lines[first] = " ".join(["0"] * len(lines[first].split()))
    written(tmp_path, clip="\n".join(lines))
    clip = convert(Source("clip.bvh", tmp_path / "clip.bvh"), Conversion(), "y", None)
    assert (clip.reason, clip.convention) == ("", "CMU BVH")
    assert len(clip.windows[0].vectors) == 60  # 91 frames of 30 fps are 61 of 20


def test_a_joint_that_jumps_is_noticed(tmp_path: Path) -> None:
    lines = figure().splitlines()
    x, *others = lines[-40].split()
    lines[-40] = " ".join([str(float(x) + 80), *others])
    written(tmp_path, clip="\n".join(lines))
    clip = convert(Source("clip.bvh", tmp_path / "clip.bvh"), Conversion(), "y", None)
    assert clip.reason == "a joint jumps, faster than 20 m/s"
    assert re.search(r"m/s after frame (49|50) of 90", clip.detail)


def test_the_mirror_of_a_mirror_is_the_clip(tmp_path: Path) -> None:
    written(tmp_path, clip=figure())
    clip = convert(Source("clip.bvh", tmp_path / "clip.bvh"), Conversion(), "y", None)
    mirror = clip.windows[0].mirror
    assert mirror is not None
    ours, theirs = (representation.decode(torch.from_numpy(v)) for v in (clip.windows[0].vectors, mirror))
    # The skeleton's own left and right differ by a few millimetres.
    assert (representation.mirrored(theirs) - ours).norm(dim=-1).max() < 0.03
    right, left = (JOINTS.index(f"{side}_wrist") for side in ("right", "left"))
    assert theirs[31, right, 0] < ours[31, right, 0] - 0.3
    assert ours[31, left, 0] > theirs[31, left, 0] + 0.3


def test_the_spine_lies_at_humanml3ds_fractions() -> None:
    at = {name: np.zeros((1, 3)) for name in mapping.NEEDED}
    at |= {"left_hip": np.array([[0.1, 0, 0]]), "right_hip": np.array([[-0.1, 0, 0]])}
    at |= {"pelvis": np.array([[0.0, 0.1, 0]]), "neck": np.array([[0.0, 0.65, 0]])}
    joints = mapping._placed(at, [])
    heights = joints[0, [JOINTS.index(name) for name in ("pelvis", "spine1", "spine2", "spine3", "neck")], 1]
    bones = np.array([0.0, *BONE_LENGTHS[[3, 6, 9, 12]].tolist()]).cumsum()
    np.testing.assert_allclose(heights, 0.1 + 0.55 * bones / bones[-1], atol=1e-7)
