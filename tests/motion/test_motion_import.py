"""motion-import: a figure in code in several units, axes and formats; Bandai-Namco's and CMU's own clips, whose
height, direction and sides are known; what is bad is left out and named."""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops.data.humanml3d import humanml3d
from sc_loops.motion import representation
from sc_loops.motion.importing import mapping
from sc_loops.motion.importing.captions import by_ending, from_file_name, looked_up, mirrored_words, read_index
from sc_loops.motion.importing.command import motion_import
from sc_loops.motion.importing.conversion import Conversion, _joints, convert
from sc_loops.motion.importing.recording import Array, Unusable
from sc_loops.motion.importing.resample import at_20_fps
from sc_loops.motion.importing.sources import Source, clips_in, opened
from sc_loops.motion.skeleton import BONE_LENGTHS, JOINTS

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "motion"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason=f"no motion capture in {SHARED}")

# A figure with LaFAN1's names that faces +z with its left side at +x: parent and offset in centimetres.
FIGURE = {
    "Hips": ("", (0, 0, 0)),
    "LeftUpLeg": ("Hips", (9, -2, 0)), "LeftLeg": ("LeftUpLeg", (0, -42, 0)), "LeftFoot": ("LeftLeg", (0, -41, 0)),
    "LeftToe": ("LeftFoot", (0, -6, 13)),
    "RightUpLeg": ("Hips", (-9, -2, 0)), "RightLeg": ("RightUpLeg", (0, -42, 0)),
    "RightFoot": ("RightLeg", (0, -41, 0)), "RightToe": ("RightFoot", (0, -6, 13)),
    "Spine": ("Hips", (0, 12, 0)), "Spine1": ("Spine", (0, 12, 0)), "Spine2": ("Spine1", (0, 12, 0)),
    "Neck": ("Spine2", (0, 16, 0)), "Head": ("Neck", (0, 10, 3)),
    "LeftShoulder": ("Spine2", (4, 10, 0)), "LeftArm": ("LeftShoulder", (13, 2, 0)),
    "LeftForeArm": ("LeftArm", (1, -28, 0)), "LeftHand": ("LeftForeArm", (0, -26, 4)),
    "RightShoulder": ("Spine2", (-4, 10, 0)), "RightArm": ("RightShoulder", (-13, 2, 0)),
    "RightForeArm": ("RightArm", (-1, -28, 0)), "RightHand": ("RightForeArm", (0, -26, 4)),
}  # fmt: skip
UPRIGHT_IN_Z = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
"""From y up to z up."""


def figure(
    *, frames: int = 90, fps: int = 30, scale: float = 1.0, turn: np.ndarray | None = None, without: str = "",
    names: dict[str, str] | None = None,
) -> str:  # fmt: skip
    """A BVH of the figure, which glides along +z at 1.2 m/s, bows a little and raises its left arm sideways."""
    turn = np.eye(3) if turn is None else turn
    names = names or {}
    children: dict[str, list[str]] = {name: [] for name in FIGURE}
    for name, (parent, _) in FIGURE.items():
        if parent and name != without:
            children[parent].append(name)
    order: list[str] = []

    def block(name: str) -> str:
        order.append(name)
        x, y, z = turn @ np.array(FIGURE[name][1]) * scale
        head = f"{'JOINT' if FIGURE[name][0] else 'ROOT'} {names.get(name, name)}\n{{\nOFFSET {x} {y} {z}\n"
        channels = "6 Xposition Yposition Zposition" if name == "Hips" else "3"
        body = "".join(map(block, children[name])) or "End Site\n{\nOFFSET 0 0 0\n}\n"
        return f"{head}CHANNELS {channels} Zrotation Xrotation Yrotation\n{body}}}\n"

    hierarchy = block("Hips")
    rows = []
    for frame in range(frames):
        second = frame / fps
        row = [*(turn @ np.array([0, 95, 120 * second]) * scale)]
        for name in order:
            # About the figure's own sideways and forward axes, which the turn carries along.
            bow = 20 * np.sin(second) if name == "Spine" else 0.0
            raised = 60 * np.sin(second) if name == "LeftArm" else 0.0
            row += [raised, bow, 0.0] if turn[1, 1] else [0.0, bow, -raised]
        rows.append(" ".join(map(str, row)))
    motion = "\n".join(rows)
    return f"HIERARCHY\n{hierarchy}MOTION\nFrames: {frames}\nFrame Time: {1 / fps}\n{motion}\n"


def written(folder: Path, **texts: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.bvh").write_text(text)
    return folder


def vectors_of(folder: Path, text: str, options: Conversion | None = None, up: str = "y") -> np.ndarray:
    """Of the one window of a file."""
    written(folder, clip=text)
    clip = convert(Source("clip.bvh", folder / "clip.bvh"), options or Conversion(), up, None)
    assert clip.reason == ""
    (window,) = clip.windows
    return window.vectors


# Units, axes, names.


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


# Frame rates.


def test_multiples_of_20_are_exact() -> None:
    joints = np.random.default_rng(0).normal(size=(61, 22, 3))
    np.testing.assert_array_equal(at_20_fps(joints, 120), joints[::6])
    np.testing.assert_array_equal(at_20_fps(joints, 20), joints)


@pytest.mark.parametrize("fps", [25, 30, 50])
def test_a_swing_of_2_hz_comes_out_within_half_a_millimetre(fps: int) -> None:
    def swing(times: Array) -> Array:
        return np.broadcast_to(0.2 * np.sin(4 * np.pi * times)[:, None, None], (len(times), 22, 3))

    found = at_20_fps(swing(np.arange(4 * fps) / fps), fps)
    expected = swing(np.arange(len(found)) / 20)
    # Next to the ends a spline knows less.
    assert np.abs(found - expected)[4:-4].max() < 5e-4
    assert np.abs(found - expected).max() < 5e-3


def test_too_few_frames_a_second() -> None:
    with pytest.raises(Unusable, match="under 20"):
        at_20_fps(np.zeros((30, 22, 3)), 15)


# Words.


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("a person raises the left hand", "a person raises the right hand"),
        ("Left, then RIGHT.", "Right, then LEFT."),
        ("walk-turn-left", "walk-turn-right"),
        ("turns clockwise, then counterclockwise", "turns counterclockwise, then clockwise"),
        ("turns counter-clockwise", "turns clockwise"),
        ("a left-handed throw; the lefthanded one", "a right-handed throw; the righthanded one"),
        ("copyright and cleft are left alone", "copyright and cleft are right alone"),
    ],
)
def test_a_mirror_swaps_words(text: str, mirror: str) -> None:
    assert mirrored_words(text) == mirror


def test_names_of_files_tell_what_is_shown() -> None:
    assert from_file_name("a/dataset-2_walk-turn-left_not-confident_036.bvh") is not None
    lafan = from_file_name("lafan1/fallAndGetUp1_subject4.bvh")
    assert lafan is not None
    assert lafan.captions == ("a person falls and gets up",)
    assert lafan.action == "fall-and-get-up"
    assert from_file_name("02/02_01.amc") is None


def test_an_index_is_looked_up_by_the_end_of_a_path(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text(
        "clip,captions,action,fps\nset/a/one.bvh,walks|  walks slowly ,walk,60\nset/b/one.bvh,runs,run,\n"
        "set/b/two.bvh,,sit,\nset/b/two.bvh,sits,,\n"
    )
    endings = by_ending(read_index(path, "any"))
    one, two = looked_up(endings, "elsewhere/a/one.bvh"), looked_up(endings, "two.bvh")
    assert one is not None
    assert (one.captions, one.action, one.fps) == (("walks", "walks slowly"), "walk", 60)
    assert two is not None
    assert two.captions == ("sits",)
    assert looked_up(endings, "one.bvh") is None  # there are two


# The whole import.


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


# Real clips, whose height, direction and sides are known.


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
    for clip in list(mocap.values())[::9]:
        for window in convert(clip, Conversion(), "y", 120.0).windows:
            vectors = torch.from_numpy(window.vectors).double()
            again = representation.encode(representation.decode(vectors, extended=True))
            assert (again - vectors).abs().max() < 1e-5
