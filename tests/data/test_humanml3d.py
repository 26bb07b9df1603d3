"""The layout of HumanML3D: normalisation, pieces, sizes, and everything that is left out by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sc_loops import schema
from sc_loops.data.humanml3d import humanml3d
from sc_loops.data.motion_set import BLOCKS, Clip, motion_set, statistics
from sc_loops.errors import InvalidValue

SHARED = Path(os.environ.get("SC_LOOPS_DATA", Path(__file__).parents[2] / "../shared/data")) / "humanml3d"


def vectors(seed: int, frames: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(seed, 1 + seed, (frames, 263)).astype(np.float32)


class Folder:
    """A folder in HumanML3D's layout, to which clips are added one at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("new_joint_vecs", "texts"):
            (root / name).mkdir(parents=True)
        for part in ("train", "val", "test"):
            (root / f"{part}.txt").touch()
        np.save(root / "Mean.npy", np.full(263, 0.5, dtype=np.float32))
        np.save(root / "Std.npy", np.full(263, 2.0, dtype=np.float32))

    def add(
        self, name: str, frames: int | np.ndarray | None = 60, text: str | None = "", part: str = "train"
    ) -> np.ndarray | None:
        array = vectors(len(name), frames) if isinstance(frames, int) else frames
        if array is not None:
            np.save(self.root / "new_joint_vecs" / f"{name}.npy", array)
        if text is not None:
            (self.root / "texts" / f"{name}.txt").write_text(text or f"{name} walks#{name}/OTHER walk/VERB#0.0#0.0\n")
        with (self.root / f"{part}.txt").open("a") as file:
            file.write(f"{name}\n")
        return array


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path / "set")
    made.add("held", part="test")
    return made


def test_vectors_are_normalised_cut_and_padded(folder: Folder) -> None:
    short, long = folder.add("a", 43), folder.add("bb", 199)
    assert short is not None
    assert long is not None
    data = humanml3d(root=str(folder.root))
    assert data.kind == "motions"
    assert data.name == "set"
    assert data.train.x.shape == (2, 196, 263)
    assert data.train.x.dtype == torch.float32
    torch.testing.assert_close(data.train.x[0, :40], torch.from_numpy((short[:40] - 0.5) / 2))
    assert not data.train.x[0, 40:].any()
    torch.testing.assert_close(data.train.x[1], torch.from_numpy((long[:196] - 0.5) / 2))
    assert data.motions is not None
    assert data.train.condition is not None
    assert data.test.condition is not None
    assert data.motions.lengths_of(data.train.condition).tolist() == [40, 196]
    rows = [*data.train.condition.tolist(), *data.test.condition.tolist()]
    assert [data.motions.captions[row] for row in rows] == ["a walks", "bb walks", "held walks"]
    assert data.left_out == ()


def test_what_cannot_be_used_is_left_out_and_listed(folder: Folder) -> None:
    folder.add("good", 60, "\n  \nfirst#first/ADJ#0.0#0.0\n#only/OTHER#0.0#0.0\nsecond#second/ADJ#nan#nan\n")
    bad = vectors(0, 60)
    bad[7, 8] = np.nan
    folder.add("nan", bad)
    folder.add("big", np.full((60, 263), 1e300))
    for number in range(5):
        folder.add(f"gone{number}", None)
    folder.add("flat", vectors(0, 60)[0])
    folder.add("wide", np.zeros((60, 251)))
    folder.add("words", np.array([["a", "b"]]))
    folder.add("short", 39)
    folder.add("long", 200)
    folder.add("silent", 60, "\n#a/DET#0.0#0.0\n")
    folder.add("dumb", 60, None)
    folder.add("odd", 60, "a caption#a/DET#zero#one\n")
    folder.add("endless", 60, "a caption#a/DET#0.0#inf\n")
    folder.add("early", 60, "a caption#a/DET#-2.0#3.0\n")
    folder.add("pack", None)
    np.savez(folder.root / "new_joint_vecs" / "pack", vectors(0, 60))
    (folder.root / "new_joint_vecs" / "pack.npz").rename(folder.root / "new_joint_vecs" / "pack.npy")
    (folder.root / "new_joint_vecs" / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with (folder.root / "train.txt").open("a") as file:
        file.write("cut\n")
    data = humanml3d(root=str(folder.root))
    assert len(data.train) == 1
    assert data.motions is not None
    assert data.motions.captions == ("first", "second", "held walks")
    assert set(data.left_out) == {
        "NaN or infinite: 2 clips (nan, big)",
        "missing: 5 clips (gone0, gone1, gone2, ...)",
        "not of shape (T, 263): 2 clips (flat, wide)",
        "unreadable: 3 clips (words, pack, cut)",
        "shorter than 40 frames: 1 clip (short)",
        "longer than 196 frames (crop=true keeps their beginnings): 1 clip (long)",
        "without a caption: 1 clip (silent)",
        "without a file in texts: 1 clip (dumb)",
        "with an unreadable file in texts: 3 clips (odd, endless, early)",
    }


def test_long_clips_may_be_cropped(folder: Folder) -> None:
    array = folder.add("long", 500)
    assert array is not None
    data = humanml3d(root=str(folder.root), max_frames=100, crop=True)
    torch.testing.assert_close(data.train.x[0], torch.from_numpy((array[:100] - 0.5) / 2))
    assert data.left_out == ()


def test_a_piece_with_its_own_captions_is_a_motion(folder: Folder) -> None:
    text = "all#all/DET#0.0#0.0\nlater#later/ADV#2.0#5.0\ntoo short#too/ADV#1.0#2.0\nalso later#also/ADV#2.0#5.0\n"
    array = folder.add("clip", 150, text)
    assert array is not None
    data = humanml3d(root=str(folder.root))
    assert data.motions is not None
    assert data.train.condition is not None
    assert data.motions.captions[:3] == ("all", "later", "also later")
    assert data.motions.count[data.train.condition].tolist() == [1, 2]
    assert data.motions.lengths_of(data.train.condition).tolist() == [148, 60]
    torch.testing.assert_close(data.train.x[1, :60], torch.from_numpy((array[40:100] - 0.5) / 2))
    assert data.left_out == ("shorter than 40 frames: 1 clip (clip/2)",)


def names_of(root: Path, **options: int | str) -> list[str]:
    data = humanml3d(root=str(root), **options)  # type: ignore[arg-type]
    assert data.motions is not None
    assert data.train.condition is not None
    return [data.motions.names[row] for row in data.train.condition.tolist()]


def test_a_smaller_size_is_the_beginning_of_a_larger(folder: Folder) -> None:
    for number in range(30):
        folder.add(f"clip{number:02}", 60 if number % 5 else None)
    few, many = names_of(folder.root, train_size=7), names_of(folder.root, train_size=20)
    assert many[:7] == few
    assert len(set(many)) == 20
    assert few != sorted(few)
    assert names_of(folder.root, train_size=20, seed=1) != many
    assert names_of(folder.root, train_size=24) != names_of(folder.root)
    assert sorted(names_of(folder.root, train_size=24)) == names_of(folder.root)
    with pytest.raises(InvalidValue, match="at most 24") as caught:
        humanml3d(root=str(folder.root), train_size=25)
    assert caught.value.where == "train_size"


def test_units_are_made_of_the_whole_training_part(folder: Folder) -> None:
    arrays = [folder.add("c" * n, 40 + 10 * n) for n in range(1, 5)]
    (folder.root / "Std.npy").unlink()
    frames = np.concatenate([array[: len(array) // 4 * 4] for array in arrays if array is not None]).astype(
        np.float64
    )
    deviation = frames.std(0)
    for start, stop in BLOCKS:
        deviation[start:stop] = deviation[start:stop].mean()
    for size in (None, 2):
        motions = humanml3d(root=str(folder.root), train_size=size).motions
        assert motions is not None
        np.testing.assert_allclose(motions.mean, frames.mean(0), rtol=1e-5)
        np.testing.assert_allclose(motions.std, deviation, rtol=1e-5)


def test_a_number_that_never_changes_divides_by_1() -> None:
    _, std = statistics([torch.full((50, 263), 0.1)])
    assert std.tolist() == [1.0] * 263


def test_actions_come_from_their_table(folder: Folder) -> None:
    folder.add("a")
    folder.add("b")
    (folder.root / "actions.csv").write_text("clip,action\na,walk\nb,run\nheld,walk\nelsewhere,sit\n")
    motions = humanml3d(root=str(folder.root)).motions
    assert motions is not None
    assert motions.actions is not None
    assert motions.action_names == ("run", "sit", "walk")
    assert motions.actions.tolist() == [2, 0, 2]
    (folder.root / "actions.csv").write_text("clip,action\na,walk\nheld,walk\n")
    motions = humanml3d(root=str(folder.root)).motions
    assert motions is not None
    assert motions.actions is None


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"min_frames": 200}, "min_frames"), ({"max_frames": 198}, "max_frames"), ({"train_size": 0}, "train_size"),
        ({"test_size": 2}, "test_size"), ({"root": "nowhere"}, "root"), ({"min_frames": 196}, "root"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(folder: Folder, options: dict[str, object], where: str) -> None:
    folder.add("a")
    with pytest.raises(InvalidValue) as caught:
        humanml3d(**{"root": str(folder.root), **options})  # type: ignore[arg-type]
    assert caught.value.where == where


def test_what_is_held_out_is_not_trained_on(folder: Folder) -> None:
    folder.add("a")
    folder.add("held")
    with pytest.raises(InvalidValue, match="held"):
        humanml3d(root=str(folder.root))


@pytest.mark.parametrize("missing", ["train.txt", "test.txt", "new_joint_vecs", "texts"])
def test_a_folder_of_another_kind_names_the_layout(folder: Folder, missing: str) -> None:
    folder.add("a")
    path = folder.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InvalidValue, match=missing) as caught:
        humanml3d(root=str(folder.root))
    assert "motion-import SRC DST" in str(caught.value)


@pytest.mark.parametrize("values", [np.zeros(263), np.ones(251), np.full(263, np.nan)])
def test_deviations_that_cannot_be(folder: Folder, values: np.ndarray) -> None:
    folder.add("a")
    np.save(folder.root / "Std.npy", values)
    with pytest.raises(InvalidValue, match=r"Std\.npy"):
        humanml3d(root=str(folder.root))


def test_its_options_are_a_configs() -> None:
    assert schema.resolve(humanml3d, {"root": "data/motions", "train_size": 64}) == {
        "root": "data/motions", "train_size": 64, "test_size": None, "min_frames": 40, "max_frames": 196,
        "crop": False, "source": None, "seed": 0,
    }  # fmt: skip


def test_clips_of_a_motion_set_are_checked() -> None:
    good = Clip("good", torch.zeros(40, 263), ["stands"])
    for bad in (Clip("short", torch.zeros(3, 263), ["a"]), Clip("long", torch.zeros(60, 263), ["a"]),
                Clip("dumb", torch.zeros(40, 263), [])):  # fmt: skip
        with pytest.raises(InvalidValue) as caught:
            motion_set([good], [bad], name="set", max_frames=56)
        assert caught.value.where == bad.name


@pytest.mark.skipif(not SHARED.exists(), reason=f"no HumanML3D samples in {SHARED}")
def test_official_samples_in_official_units(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "HumanML3D")
    folder.add("012314", np.load(SHARED / "new_joint_vecs" / "012314.npy"), "walks#walk/VERB#0.0#0.0")
    text = (SHARED / "texts" / "000000.txt").read_text()
    folder.add("000000", np.load(SHARED / "new_joint_vecs" / "000000.npy"), text, part="test")
    for name in ("Mean.npy", "Std.npy"):
        shutil.copy(SHARED / name, folder.root / name)
    data = humanml3d(root=str(folder.root))
    assert data.train.x.shape == (1, 168, 263)
    assert data.motions is not None
    assert data.motions.captions[1] == "a man kicks something or someone with his left leg."
    assert len(data.motions) == 1 + 4
    for samples in (data.train, data.test):
        assert samples.x.abs().mean() < 1.5
    torch.testing.assert_close(data.motions.std, torch.from_numpy(np.load(SHARED / "Std.npy")).float())


def test_a_source_chooses_clips_and_their_mirrors(folder: Folder) -> None:
    for name in ("000001", "M000001", "000002"):
        folder.add(name)
    folder.add("000003", part="test")
    table = "source_path,start_frame,end_frame,new_name\n"
    table += "".join(
        f"./pose_data/{source}/x.npy,0,-1,{name}.npy\n"
        for source, name in (("BMLmovi", "000001"), ("KIT", "000002"), ("BMLmovi", "000003"))
    )
    (folder.root.parent / "index.csv").write_text(table)  # beside HumanML3D/, as it is published
    assert names_of(folder.root, source="BMLmovi") == ["000001", "M000001"]
    with pytest.raises(InvalidValue, match="part of a source_path"):
        humanml3d(root=str(folder.root), source="CMU")
    (folder.root.parent / "index.csv").unlink()
    with pytest.raises(InvalidValue, match=r"index\.csv"):
        humanml3d(root=str(folder.root), source="BMLmovi")
