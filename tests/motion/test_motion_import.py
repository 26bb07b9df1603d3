"""motion-import as a whole: what is bad is left out and named, the rest is read as HumanML3D, the same every time."""

from __future__ import annotations

import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from bvh_figure import FIGURE, figure, written

from sc_loops.data.humanml3d import humanml3d
from sc_loops.motion.importing.command import motion_import


def source_with_trouble(folder: Path) -> Path:
    """Nine clips that are good, one of them long, and six that are not."""
    sides = {"Left": "Right", "Right": "Left"}
    swapped = {name: name.replace(side, sides[side]) for name in FIGURE for side in sides if side in name}
    source = written(
        folder,
        **{f"walk{n}_subject1": figure(frames=70 + n) for n in range(1, 9)},
        run1_subject2=figure(frames=640),
        aiming1_subject1=figure(frames=40),
        aiming1_subject2=figure(without="RightToe"),
        aiming1_subject3=figure().replace("Frames: 90", "Frames: 91"),
        aiming1_subject4=figure(names=swapped),
        nameless=figure(),
    )  # fmt: skip
    (source / "aiming1_subject5.bvh").write_text("nonsense")
    return source


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("import")
    source = source_with_trouble(folder / "lafan1")
    (source / "LICENSE.txt").write_text("terms")
    assert motion_import([str(source), str(folder / "out"), "--max-frames", "200"]) == 0
    return source, folder / "out"


def test_what_is_bad_is_left_out_and_named(imported: tuple[Path, Path]) -> None:
    record = json.loads((imported[1] / "import.json").read_text())
    left_out = {reason: [clip["clip"] for clip in clips] for reason, clips in record["left_out"].items()}
    assert left_out == {
        "a needed joint is missing": ["aiming1_subject2.bvh"],
        "damaged BVH file": ["aiming1_subject3.bvh"],
        "left and right are swapped": ["aiming1_subject4.bvh"],
        "no caption": ["nameless.bvh"],
        "not a BVH file": ["aiming1_subject5.bvh"],
        "shorter than 2 s": ["aiming1_subject1.bvh"],
    }
    detail = record["left_out"]["a needed joint is missing"][0]["detail"]
    assert "righttoe (right_foot)" in detail
    assert "RightFoot" in detail
    assert record["counts"]["clips"] == 9
    assert record["counts"]["motions"] == 2 * (8 + 3)
    assert (imported[1] / "licences" / "LICENSE.txt").read_text() == "terms"


def test_a_clip_its_windows_and_mirrors_are_in_one_part(imported: tuple[Path, Path]) -> None:
    lists = {part: (imported[1] / f"{part}.txt").read_text().split() for part in ("train", "val", "test")}
    clips = {part: {name.removeprefix("M").split("_w")[0] for name in names} for part, names in lists.items()}
    assert sum(map(len, clips.values())) == len(set().union(*clips.values())) == 9
    assert sum(map(len, lists.values())) == 22
    lengths = [len(np.load(imported[1] / f"new_joint_vecs/run1_subject2_w{n}.npy")) for n in (1, 2, 3)]
    assert max(lengths) <= 200
    assert sum(lengths) == round(640 / 1.5) - 1


def test_it_is_read_as_humanml3d(imported: tuple[Path, Path]) -> None:
    data = humanml3d(root=str(imported[1]))
    assert len(data.train.x) + len(data.test.x) + len((imported[1] / "val.txt").read_text().split()) == 22
    assert data.motions is not None
    assert data.motions.action_names == ("run", "walk")
    assert set(data.motions.captions) <= {"a person walks", "a person runs"}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_same_again_gives_the_same_bytes(imported: tuple[Path, Path]) -> None:
    source, out = imported
    before = contents(out)
    assert motion_import([str(source), str(out), "--max-frames", "200"]) == 0
    assert contents(out) == before


def test_words_labels_and_terms_come_from_the_index(tmp_path: Path) -> None:
    source = written(tmp_path / "source", one=figure(), two=figure(frames=80), three=figure())
    index = tmp_path / "index.csv"
    index.write_text(
        "archive,clip,description,content,licence\n"
        "source,x/one.bvh,a person raises the Left arm # slowly,raise-left,CC0\n"
        "source,x/two.bvh,a person waits,wait,CC BY 4.0\nother,x/three.bvh,another three,wait,CC0\n"
    )
    out = tmp_path / "out"
    assert motion_import([str(source), str(out), "--index", str(index)]) == 0
    texts = {path.stem: path.read_text() for path in (out / "texts").iterdir()}
    tokens = "a/OTHER person/OTHER raises/OTHER the/OTHER {}/OTHER arm/OTHER slowly/OTHER"
    assert texts == {
        "one": f"a person raises the Left arm   slowly#{tokens.format('left')}#0.0#0.0\n",
        "Mone": f"a person raises the Right arm   slowly#{tokens.format('right')}#0.0#0.0\n",
        "two": "a person waits#a/OTHER person/OTHER waits/OTHER#0.0#0.0\n",
        "Mtwo": "a person waits#a/OTHER person/OTHER waits/OTHER#0.0#0.0\n",
    }
    assert (out / "actions.csv").read_text() == "clip,action\none,raise-left\nMone,raise-right\ntwo,wait\nMtwo,wait\n"
    record = json.loads((out / "import.json").read_text())
    assert record["licences"] == {"CC BY 4.0": 1, "CC0": 1}
    assert {clip["clip"]: clip["licence"] for clip in record["clips"]} == {"one.bvh": "CC0", "two.bvh": "CC BY 4.0"}
    assert [clip["clip"] for clip in record["left_out"]["no caption"]] == ["three.bvh"]


@pytest.mark.slow
def test_processes_and_archives_change_nothing(imported: tuple[Path, Path], tmp_path: Path) -> None:
    source, out = imported
    archive = tmp_path / "lafan1"
    with tarfile.open(archive.with_suffix(".tar"), "w") as tar:
        tar.add(source, "lafan1")
    with zipfile.ZipFile(archive.with_suffix(".zip"), "w") as pack:
        for path in source.iterdir():
            pack.write(path, f"../{path.name}")
    for suffix, jobs in ((".tar", "1"), (".zip", "2")):
        again = tmp_path / suffix[1:]
        assert (
            motion_import([str(archive.with_suffix(suffix)), str(again), "--max-frames", "200", "--jobs", jobs]) == 0
        )
        for name, content in contents(out).items():
            if name.startswith(("new_joint_vecs", "texts", "Mean", "Std", "actions")):
                assert (again / name).read_bytes() == content


def test_another_import_is_not_overwritten(
    imported: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "one", tmp_path / "out"
    written(source, walk1_subject1=figure(), walk2_subject1=figure())
    shutil.copytree(imported[1], out)
    assert motion_import([str(source), str(out)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert contents(out) == contents(imported[1])
    assert motion_import([str(source), str(out), "--overwrite"]) == 0
    assert len(list((out / "texts").iterdir())) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("all of it")
    assert motion_import([str(source), str(tmp_path / "mine"), "--overwrite"]) == 2
    assert (tmp_path / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["{tmp}/absent", "{tmp}/out"], "a folder, a file or an archive"),
        (["{tmp}/empty", "{tmp}/out"], "no motion file"),
        (["{tmp}/broken.tar.xz", "{tmp}/out"], "an archive that is whole"),
        (["{tmp}/good", "{tmp}/out", "--split", "0.5", "0.1", "0.1"], "add up to 1"),
        (["{tmp}/good", "{tmp}/out", "--min-seconds", "20"], "at most --max-frames"),
        (["{tmp}/good", "{tmp}/out", "--jobs", "0"], "--jobs"),
        (["{tmp}/good", "{tmp}/good/walk1_subject1.bvh/out"], "no folder"),
        (["{tmp}/good", "{tmp}/good"], "no import and not empty"),
        (["{tmp}/good", "{tmp}/out", "--index", "{tmp}/broken.tar.xz"], "--index"),
        (["{tmp}/flat", "{tmp}/out"], "--up"),
        (["{tmp}/nameless", "{tmp}/out"], "no caption: 1 clip (one.bvh)"),
    ],
)
def test_what_cannot_be_used_ends_with_status_2(
    arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar.xz").write_bytes(b"\xfd7zXZ\0broken")
    written(tmp_path / "good", walk1_subject1=figure())
    written(tmp_path / "nameless", one=figure())
    # +x is up.
    written(tmp_path / "flat", walk1_subject1=figure(turn=np.array([[0, 1, 0], [1e-9, 0, 1], [1, 0, 0]])))
    assert motion_import([argument.format(tmp=tmp_path) for argument in arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
