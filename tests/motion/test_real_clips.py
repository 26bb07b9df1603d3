"""Bandai-Namco's and CMU's own clips, whose height, direction and sides are known."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops.motion import representation
from sc_loops.motion.importing.captions import from_file_name, read_index
from sc_loops.motion.importing.conversion import Conversion, _joints, convert
from sc_loops.motion.importing.recording import Array
from sc_loops.motion.importing.sources import Source, clips_in, opened

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "motion"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"no motion capture in {SHARED}")


def facts(joints: Array) -> dict[str, float]:
    """Metres and metres a second of ``(F, 22, 3)``, and the cosine between facing and walking."""
    motion = torch.from_numpy(joints)
    steps = np.diff(joints[:, 0], axis=0)[:, [0, 2]] * 20
    heading = representation.facing(motion)[:-1].numpy()
    forward = np.stack([np.sin(heading), np.cos(heading)], axis=-1)
    speeds = np.linalg.norm(steps, axis=-1)
    ours = representation.canonical(motion)
    contacts = representation.encode(ours)[:, 259:].numpy()
    sides = contacts[:, :2].min(1) - contacts[:, 2:].min(1)
    changes = np.diff(sides[sides != 0])
    return {
        "speed": float(speeds.mean()),
        "forward": float((steps * forward).sum() / speeds.sum()),
        "head": float(np.median(joints[:, 15, 1])),
        "lowest": float(joints[..., 1].min()),
        "left": float(ours[0, 1, 0] - ours[0, 2, 0]),
        "turned": float(np.unwrap(heading)[-1] - heading[0]),
        "steps": float((changes != 0).sum() / (len(joints) / 20)),
    }


@pytest.fixture(scope="module")
def mocap(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    """A few clips of each source."""
    folder = tmp_path_factory.mktemp("mocap")
    wanted = ("_walk_normal_", "_walk-back_normal_", "turn-left_normal_001", "turn-right_normal_001", "cmu-amc/32",
              "cmu-amc/02", "cmu-amc/39", "LICENSE")  # fmt: skip
    for archive in ("bandai-namco", "cmu-amc"):
        with tarfile.open(SHARED / f"{archive}.tar.xz") as tar:
            for member in tar:
                if any(word in member.name for word in wanted):
                    tar.extract(member, folder, filter="data")
    return {clip.path: clip for clip in clips_in(folder)}


@needs_shared
def test_bandai_namco_people_walk_upright_and_forwards(mocap: dict[str, Source]) -> None:
    walks = [clip for path, clip in mocap.items() if "_walk_normal_" in path]
    assert len(walks) >= 8
    for clip in walks:
        joints, convention = _joints(clip, Conversion(), "y", None)
        fact = facts(joints)
        assert convention == "Bandai-Namco BVH"
        assert 0.7 < fact["speed"] < 1.75
        assert fact["forward"] > 0.95
        assert 1.30 < fact["head"] < 1.42  # the head joint is near 136 cm
        assert 0.03 < fact["lowest"] < 0.05  # and the lowest near 4 cm
        assert fact["left"] > 0.1
        assert fact["steps"] > 1  # left and right in turn


@needs_shared
def test_bandai_namco_directions_are_what_the_names_say(mocap: dict[str, Source]) -> None:
    def fact(name: str) -> dict[str, float]:
        (clip,) = (clip for path, clip in mocap.items() if name in path)
        return facts(_joints(clip, Conversion(), "y", None)[0])

    assert fact("walk-back_normal_001")["forward"] < -0.9
    assert fact("turn-left_normal_001")["turned"] > 0.5
    assert fact("turn-right_normal_001")["turned"] < -0.5


@needs_shared
def test_cmu_people_walk_upright_and_forwards(mocap: dict[str, Source]) -> None:
    walks = [clip for path, clip in mocap.items() if path.startswith("cmu-amc")]
    assert len(walks) >= 15
    for clip in walks:
        joints, convention = _joints(clip, Conversion(), "y", 120.0)
        fact = facts(joints)
        assert convention == "CMU ASF/AMC"
        assert 0.7 < fact["speed"] < 1.76
        assert fact["forward"] > 0.97
        assert 1.3 < fact["head"] < 1.6
        assert -0.06 < fact["lowest"] < 0.08
        assert fact["left"] > 0.1
        assert fact["steps"] > 1


@needs_shared
def test_exponential_maps_walk_forwards() -> None:
    with opened(SHARED / "cmu_expmap_30fps.npz") as place:
        clips = [clip for clip in clips_in(place) if "/walking/" in clip.path]
    assert len(clips) >= 5
    for clip in clips:
        fact = facts(_joints(clip, Conversion(), "y", None)[0])
        assert 0.7 < fact["speed"] < 1.76
        assert fact["forward"] > 0.95
        assert fact["left"] > 0.1


@needs_shared
def test_names_and_index_tell_the_same_of_bandai_namco() -> None:
    index = read_index(SHARED / "index.csv", "bandai-namco.tar.xz")
    assert len(index) == 804
    for path, labels in index.items():
        own = from_file_name(path)
        assert own is not None
        assert (own.captions, own.action) == (labels.captions, labels.action)


@needs_shared
def test_encode_gives_the_vectors_back(mocap: dict[str, Source]) -> None:
    clips = [convert(clip, Conversion(), "y", 120.0) for clip in list(mocap.values())[::9]]
    assert {clip.convention for clip in clips if clip.windows} == {"Bandai-Namco BVH", "CMU ASF/AMC"}
    for window in (window for clip in clips for window in clip.windows):
        vectors = torch.from_numpy(window.vectors).double()
        again = representation.encode(representation.decode(vectors, extended=True))
        assert (again - vectors).abs().max() < 1e-5
