"""ASF/AMC: positions of a hand-made skeleton in closed form; CMU's own files against the same clip as exponential
maps."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest

from sc_loops.motion.importing.acclaim import read_amc, read_asf
from sc_loops.motion.importing.expmap import read_expmap
from sc_loops.motion.importing.recording import CMU_UNIT, Unusable

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "motion"

ASF = """# a comment
:version 1.10
:units
  mass 1.0
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name hand
     direction 0 0 1
     length 3
     axis 0 0 0 XYZ
    dof rx rz
    limits (-160.0 20.0)
           (-70.0 70.0)
  end
  begin
     id 2
     name arm
     direction 1 0 0
     length 2
     axis 0 0 90 XYZ
    dof rx
    limits (-160.0 20.0)
  end
:hierarchy
  begin
    root arm
    arm hand
  end
"""


def amc(*frames: str) -> str:
    return "#!OML:ASF\n:FULLY-SPECIFIED\n:DEGREES\n" + "".join(
        f"{number}\n{frame}\n" for number, frame in enumerate(frames, start=1)
    )


def test_positions_in_closed_form() -> None:
    # The arm's own x is the skeleton's y (its axis is turned by 90 degrees about z): 90 degrees about it take the arm
    # from x to -z, and the hand with it from z to x. The hand's rx, applied first, takes z to -y; its rz that to x.
    frames = ("root 1 2 3 0 0 0\narm 0\nhand 0 0", "root 0 0 0 0 0 0\narm 90\nhand 0 0",
              "root 0 0 0 0 0 0\narm 0\nhand 90 90", "root 0 0 0 90 0 90\narm 0\nhand 0 0")  # fmt: skip
    recording = read_amc(amc(*frames), read_asf(ASF))
    assert recording.names == ("root", "arm", "hand")
    assert recording.fps is None
    assert recording.unit == CMU_UNIT
    np.testing.assert_allclose(recording.positions[0], [[1, 2, 3], [3, 2, 3], [3, 2, 6]], atol=1e-12)
    np.testing.assert_allclose(recording.positions[1], [[0, 0, 0], [0, 0, -2], [3, 0, -2]], atol=1e-12)
    np.testing.assert_allclose(recording.positions[2], [[0, 0, 0], [2, 0, 0], [5, 0, 0]], atol=1e-12)
    # The root's rx first: z to -y, x stays; then rz: x to y, -y to x.
    np.testing.assert_allclose(recording.positions[3], [[0, 0, 0], [0, 2, 0], [3, 2, 0]], atol=1e-12)


def test_radians_are_read() -> None:
    degrees = read_amc(amc("root 0 0 0 0 0 90\narm 90\nhand 30 60"), read_asf(ASF))
    quarter = np.pi / 2
    text = amc(f"root 0 0 0 0 0 {quarter}\narm {quarter}\nhand {quarter / 3} {quarter / 1.5}")
    radians = read_amc(text.replace(":DEGREES", ":RADIANS"), read_asf(ASF))
    np.testing.assert_allclose(radians.positions, degrees.positions, atol=1e-12)


@pytest.mark.parametrize(
    ("asf", "motion", "reason"),
    [
        (ASF.replace("length 0.45", ""), amc("root 0 0 0 0 0 0"), "damaged ASF file"),
        (ASF.replace("arm hand", "arm foot"), amc("root 0 0 0 0 0 0"), "damaged ASF file"),
        (ASF.replace("dof rx rz", "dof rx tz"), amc("root 0 0 0 0 0 0"), "damaged ASF file"),
        (ASF, "", "not an AMC file"),
        (ASF, amc("root 0 0 0 0 0 0\narm 1 2"), "AMC file that does not fit its skeleton"),
        (ASF, amc("root 0 0 0 0 0 0\nwing 1"), "AMC file that does not fit its skeleton"),
        (ASF, amc("root 0 0 0 0 0 0\narm 1", "root 0 0 0 0 0 0"), "AMC file that does not fit its skeleton"),
        (ASF, amc("root 0 0 0 0 0 x"), "damaged AMC file"),
    ],
)
def test_damaged_files_say_so(asf: str, motion: str, reason: str) -> None:
    with pytest.raises(Unusable) as caught:
        read_amc(motion, read_asf(asf))
    assert caught.value.reason == reason


@pytest.mark.skipif(not SHARED.exists(), reason=f"no motion capture in {SHARED}")
def test_a_cmu_clip_is_the_same_in_both_formats() -> None:
    with tarfile.open(SHARED / "cmu-amc.tar.xz") as tar:
        wanted = ("cmu-amc/02/02.asf", "cmu-amc/02/02_01.amc")
        files = {m.name: tar.extractfile(m) for m in tar if m.name in wanted}
        asf, motion = (file.read().decode() for name in wanted if (file := files[name]) is not None)
    original = read_amc(motion, read_asf(asf))
    with np.load(SHARED / "cmu_expmap_30fps.npz") as pack:
        maps = read_expmap(pack["train/walking/walking_1"], pack["parents"], pack["offsets"])

    def at(joints: tuple[str, ...], of: object) -> np.ndarray:
        assert isinstance(of, type(original))
        root = of.positions[:, [of.names.index("root")]]
        return (of.positions[:, [of.names.index(name) for name in joints]] - root) * CMU_UNIT

    joints = ("lfemur", "ltibia", "rfemur", "rtibia", "lowerback", "upperback")
    theirs, ours = at(joints, maps), at(joints, original)
    offset = min(range(8), key=lambda k: np.abs(ours[k::4][: len(theirs)] - theirs[: len(ours[k::4])]).mean())
    count = min(len(ours[offset::4]), len(theirs))
    error = np.linalg.norm(ours[offset::4][:count] - theirs[:count], axis=-1)
    print(offset, count, error.mean(), error.max())
    # One subject's bones against the npz's common skeleton: millimetres a bone.
    assert count >= 80
    assert error.max() < 0.02
