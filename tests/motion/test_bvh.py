"""BVH: positions of hand-made files in closed form and by scipy's rotations; files that are damaged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sc_loops.motion.importing.bvh import read_bvh
from sc_loops.motion.importing.recording import Unusable

CHAIN = """HIERARCHY
ROOT hip
{
  OFFSET 7 8 9
  CHANNELS 6 Zposition Xposition Yposition Zrotation Xrotation Yrotation
  JOINT knee
  {
    OFFSET 0 2 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 0 0 3
    }
  }
  JOINT arm
  {
    OFFSET 1 1 1
    CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
"""


def test_positions_in_closed_form() -> None:
    # Frame 1: the root at (2, 3, 1), turned by 90 degrees about z: its y is the world's -x. The knee is turned by 90
    # about its own x, which takes z to -y: of the root, so to the world's x. The arm's position replaces its OFFSET.
    text = CHAIN + "0 0 0 0 0 0  0 0 0  0 0 0 0 0 0\n1 2 3 90 0 0  0 90 0  4 5 6 0 0 0\n"
    recording = read_bvh(text)
    assert recording.names == ("hip", "knee", "knee/end", "arm")
    assert recording.fps == 30
    np.testing.assert_allclose(recording.positions[0], [[0, 0, 0], [0, 2, 0], [0, 2, 3], [0, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(
        recording.positions[1], [[2, 3, 1], [0, 3, 1], [3, 3, 1], [2 - 5, 3 + 4, 1 + 6]], atol=1e-12
    )


def test_positions_by_scipys_rotations() -> None:
    values = np.random.default_rng(0).uniform(-180, 180, (2, 15))
    recording = read_bvh(CHAIN + "\n".join(" ".join(map(str, row)) for row in values))
    root = Rotation.from_euler("ZXY", values[:, 3:6], degrees=True)
    knee = root * Rotation.from_euler("YXZ", values[:, 6:9], degrees=True)
    hip = values[:, [1, 2, 0]]
    at = {"hip": hip, "knee": hip + root.apply([0, 2, 0])}
    at["knee/end"] = at["knee"] + knee.apply([0, 0, 3])
    at["arm"] = hip + root.apply(values[:, 9:12])
    for joint, name in enumerate(recording.names):
        np.testing.assert_allclose(recording.positions[:, joint], at[name], atol=1e-9)


@pytest.mark.parametrize(("seconds", "fps"), [("0.00833333", 120), ("0.0166667", 60), ("0.04", 25), ("0.05", 20)])
def test_the_rate_is_what_was_meant(seconds: str, fps: float) -> None:
    text = CHAIN.replace("0.0333333", seconds) + "0 " * 30
    assert read_bvh(text).fps == fps


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a BVH file"),
        (CHAIN + "0 " * 29, "damaged BVH file"),
        (CHAIN + "0 " * 29 + "x", "damaged BVH file"),
        (CHAIN + "nan " + "0 " * 29, "numbers that are NaN or infinite"),
        (CHAIN.replace("Zrotation Xrotation", "Wrotation Xrotation") + "0 " * 30, "damaged BVH file"),
        (CHAIN.replace("OFFSET 0 2 0", "OFFSET 0 2") + "0 " * 30, "damaged BVH file"),
        (CHAIN.replace("0.0333333", "0") + "0 " * 30, "damaged BVH file"),
        (CHAIN.replace("  }\n}\nMOTION", "\nMOTION") + "0 " * 30, "damaged BVH file"),
    ],
)  # fmt: skip
def test_a_damaged_file_says_so(text: str, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_bvh(text)
    assert caught.value.reason == reason
