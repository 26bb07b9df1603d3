"""motion-import on files that are damaged in odd ways, beside one that is good: the good one is imported, the others
are named; and names of files that would get in one another's way."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bvh_figure import figure, written
from test_acclaim import ASF, amc

from sc_loops.data.humanml3d import humanml3d
from sc_loops.motion.importing.command import motion_import

AMC = amc("root 0 0 0 0 0 0\narm 0\nhand 0 0").encode()


def packed(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def plain() -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


PARENTS, OFFSETS = np.arange(38) - 1, np.zeros((38, 3))
TROUBLE = {
    "empty.npz": b"",
    "plain.npz": plain(),
    "objects.npz": packed(parents=PARENTS, offsets=OFFSETS, clip=np.array([{}], dtype=object)),
    "parents.npz": packed(parents=PARENTS + 5, offsets=OFFSETS, clip=np.zeros((50, 117))),
    "number.npz": packed(parents=PARENTS, offsets=OFFSETS, clip=np.array(3)),
    "noise.npz": bytes(range(256)),
    "noise.bvh": bytes(range(256)),
    "soon.bvh": figure().replace("Frame Time: 0.03333333333333333", "Frame Time: 1e-320").encode(),
    "channels.bvh": figure().replace("CHANNELS 3", "CHANNELS -9", 1).encode(),
}
SKELETONS = {
    "unit": ASF.replace("length 0.45", "length 0"),
    "order": ASF.replace("order TX", "order QX"),
    "turn": ASF.replace("RX RY RZ", "RX RY RQ"),
    "position": ASF.replace("position 0 0 0", "position 0 0"),
}


def imported(folder: Path, trouble: dict[str, bytes]) -> dict[str, list[str]]:
    """The files that were left out, by reason; one good clip is not."""
    source = written(folder / "source", walk1_subject1=figure())
    for name, content in trouble.items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    assert motion_import([str(source), str(folder / "out")]) == 0
    record = json.loads((folder / "out" / "import.json").read_text())
    assert [clip["clip"] for clip in record["clips"]] == ["walk1_subject1.bvh"]
    return {reason: [clip["clip"] for clip in clips] for reason, clips in record["left_out"].items()}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", TROUBLE)
def test_a_damaged_file_is_left_out(name: str, tmp_path: Path) -> None:
    ((reason, (clip,)),) = imported(tmp_path, {name: TROUBLE[name]}).items()
    assert clip in (name, "clip")
    assert reason != "no caption"


@pytest.mark.parametrize("name", SKELETONS)
def test_a_damaged_skeleton_is_left_out(name: str, tmp_path: Path) -> None:
    left_out = imported(tmp_path, {"one/one.asf": SKELETONS[name].encode(), "one/one_01.amc": AMC})
    assert left_out == {"damaged ASF file": ["one/one_01.amc"]}


def test_a_damaged_zip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as pack:
        pack.writestr("walk1_subject1.bvh", figure())
    damaged = bytearray(content.getvalue())
    damaged[60:200] = bytes(range(140))
    (tmp_path / "a.zip").write_bytes(damaged)
    assert motion_import([str(tmp_path / "a.zip"), str(tmp_path / "out")]) == 2
    assert "an archive that is whole" in capsys.readouterr().err


def test_what_is_wrong_with_all_clips_is_told_in_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "source", one=figure(), two="nonsense")
    assert motion_import([str(tmp_path / "source"), str(tmp_path / "out")]) == 2
    told = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "no caption: 1 clip (one.bvh)" in told
    assert "not a BVH file: 1 clip (two.bvh)" in told


@pytest.mark.parametrize("fps", ["nan", "inf", "0", "-30", "fast"])
def test_a_rate_that_cannot_be_is_refused(fps: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "source", walk=figure())
    (tmp_path / "index.csv").write_text(f"clip,description,fps\nwalk,walks,{fps}\n")
    index = ["--index", str(tmp_path / "index.csv")]
    assert motion_import([str(tmp_path / "source"), str(tmp_path / "out"), *index]) == 2
    assert f"fps {fps!r} of walk" in capsys.readouterr().err


def index_of(path: Path, *clips: str) -> list[str]:
    path.write_text("clip,description\n" + "".join(f"{clip},walks like {clip} #{clip}\n" for clip in clips))
    return ["--index", str(path)]


def test_no_motion_takes_the_place_of_another(tmp_path: Path) -> None:
    """Names that would be those of a mirror (Mwalk), of a window (walk_w1), of another kind of file (walk.amc), or of
    a folder and a file (a_walk)."""
    source = tmp_path / "source"
    names = ["walk", "Mwalk", "walk_w1", "a/walk", "b/walk", "a_walk"]
    for number, name in enumerate(names):
        (source / name).parent.mkdir(exist_ok=True, parents=True)
        (source / f"{name}.bvh").write_text(figure(frames=70 + 2 * number))
    index = index_of(tmp_path / "index.csv", *names)
    assert motion_import([str(source), str(tmp_path / "out"), "--max-frames", "48", *index]) == 0
    listed = [(tmp_path / "out" / f"{part}.txt").read_text().splitlines() for part in ("train", "val", "test")]
    every = [name for part in listed for name in part]
    windows = [-(-(round((70 + 2 * number) / 1.5) - 1) // 48) for number in range(len(names))]
    assert len(every) == 2 * sum(windows)
    assert len({name.lower() for name in every}) == len(every)
    assert {path.stem for path in (tmp_path / "out" / "new_joint_vecs").iterdir()} == set(every)
    texts = [path.read_text().partition("#")[0].strip() for path in (tmp_path / "out" / "texts").iterdir()]
    assert sorted(set(texts)) == sorted(f"walks like {name}  {name}" for name in names)


def test_names_with_spaces_and_names_that_are_no_text(tmp_path: Path) -> None:
    source = written(tmp_path / "source", **{"to walk": figure(), "and run": figure(frames=80)})
    (source / os.fsdecode(b"fr\xe8re.bvh")).write_text(figure(frames=90))
    index = index_of(tmp_path / "index.csv", "to walk", "and run")
    assert motion_import([str(source), str(tmp_path / "out"), *index]) == 0
    record = json.loads((tmp_path / "out" / "import.json").read_text(encoding="utf-8"))
    assert [clip["clip"] for clip in record["left_out"]["no caption"]] == ["fr\\udce8re.bvh"]
    data = humanml3d(root=str(tmp_path / "out"))
    assert data.motions is not None
    assert set(data.motions.names) == {"to walk", "Mto walk", "and run", "Mand run"}
    assert not data.left_out


def test_one_clip_at_least_is_trained_on(tmp_path: Path) -> None:
    source = written(tmp_path / "source", walk1_subject1=figure(), walk2_subject1=figure())
    assert motion_import([str(source), str(tmp_path / "out"), "--split", "0.1", "0", "0.9"]) == 0
    assert len((tmp_path / "out" / "train.txt").read_text().split()) == 2
    assert len((tmp_path / "out" / "test.txt").read_text().split()) == 2
