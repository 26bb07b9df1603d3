"""Motions with captions in the layout of HumanML3D (Guo et al. 2022): the data set itself, or an import."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sc_loops.data.motion_set import SIZE, Clip, left_out_lines, motion_set, statistics
from sc_loops.data.real import RealData
from sc_loops.errors import InvalidValue, require
from sc_loops.motion.skeleton import FPS
from sc_loops.randomness import generator_for

_LAYOUT = (
    "a folder with new_joint_vecs/ID.npy, texts/ID.txt, train.txt and test.txt, as HumanML3D's or as"
    " `python -m sc_loops motion-import SRC DST` makes of motion capture"
)


def humanml3d(
    *,
    root: str,
    train_size: int | None = None,
    test_size: int | None = None,
    min_frames: int = 40,
    max_frames: int = 196,
    crop: bool = False,
    source: str | None = None,
    seed: int = 0,
) -> RealData:
    """The motions of ``train.txt``, with those of ``test.txt`` held out: ``(N, T, 263)``, 20 frames a second.

    Lengths are cut down to a multiple of 4. A caption that is true of a piece of its clip alone makes that piece a
    motion of its own, as in MDM. What cannot be used (missing or unreadable, NaN, another shape, no caption, too
    short or too long) is left out and listed in ``left_out``.

    Args:
        root: the folder. Its ``Mean.npy`` and ``Std.npy`` normalise; where one is absent, both are made of all that
            can be used of ``train.txt``. Its ``actions.csv``, if there, labels actions.
        train_size: use this many motions, drawn at random: a smaller number is the beginning of a larger one. All by
            default. What is not drawn is not looked at.
        test_size: the same of the held-out motions.
        min_frames: shorter motions are left out.
        max_frames: motions longer by more than 3 frames are left out. A multiple of 4.
        crop: instead keep the first ``max_frames`` frames of those.
        source: use only clips whose ``source_path`` in HumanML3D's ``index.csv`` (in the folder or the one above it)
            contains this, as ``BMLmovi``.
        seed: of the draw.

    Raises:
        InvalidValue: the folder, or a part of it that is needed, is absent; there are fewer motions than asked for.
    """
    for option, size in (("train_size", train_size), ("test_size", test_size)):
        require(size is None or size >= 1, option, size, "an integer >= 1")
    require(max_frames >= 4 and max_frames % 4 == 0, "max_frames", max_frames, "a multiple of 4, at least 4")
    require(4 <= min_frames <= max_frames, "min_frames", min_frames, f"from 4 to max_frames, {max_frames}")
    folder = _Folder(Path(root).expanduser(), min_frames, max_frames, crop)
    folder.choose(source)
    folder.require_apart()
    train = folder.part("train", train_size, seed)
    test = folder.part("test", test_size, seed)
    mean, std = folder.units(seed)
    return motion_set(
        train,
        test,
        name=folder.root.resolve().name,
        max_frames=max_frames,
        mean=mean,
        std=std,
        action_names=folder.action_names,
        left_out=left_out_lines(folder.left_out),
    )


@dataclass
class _Folder:
    """The files of a folder, and what of them had to be left out so far, by reason."""

    root: Path
    min_frames: int
    max_frames: int
    crop: bool
    left_out: dict[str, list[str]] = field(default_factory=dict)
    chosen: set[str] | None = None  # the names that are looked at; None for all

    def __post_init__(self) -> None:
        missing = [name for name in ("train.txt", "test.txt", "new_joint_vecs", "texts") if not self._has(name)]
        found = f"{str(self.root)!r}, without {', '.join(missing)}" if self.root.is_dir() else f"{str(self.root)!r}"
        if missing:
            raise InvalidValue("root", found=found, expected=_LAYOUT, do="give data.root=... of such a folder")
        self.actions = self._actions()
        self.action_names = tuple(sorted(set(self.actions.values())))

    def choose(self, source: str | None) -> None:
        """From now on leave out of the lists what ``index.csv`` does not trace back to ``source``."""
        if source is None:
            return
        path = next((p for p in (self.root / "index.csv", self.root.parent / "index.csv") if p.is_file()), None)
        expected = "HumanML3D's index.csv, with source_path and new_name, there or in the folder above"
        require(path is not None, "source", source, expected, "add the file, or leave source out")
        assert path is not None
        try:
            with path.open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if source in row["source_path"]]
            chosen = {Path(row["new_name"]).stem for row in rows}
        except (OSError, UnicodeError, csv.Error, KeyError, TypeError) as error:
            raise InvalidValue("source", found=f"{path}: {error!r}", expected=expected) from error
        require(bool(chosen), "source", source, f"part of a source_path in {path}")
        self.chosen = chosen | {f"M{name}" for name in chosen}

    def require_apart(self) -> None:
        """Refuse lists that share a clip."""
        held_out = set(self.listed("test"))
        both = [name for name in self.listed("train") if name in held_out]
        if both:
            (found,) = left_out_lines({"in train.txt and in test.txt": both})
            raise InvalidValue("root", found=found, expected="held-out clips that are not trained on")

    def _has(self, name: str) -> bool:
        return (self.root / name).exists()

    def part(self, part: str, size: int | None, seed: int) -> list[Clip]:
        """``size`` motions of a part, or all of them, in the list's order, which a draw shuffles."""
        names = self.listed(part)
        if size is not None:
            order = torch.randperm(len(names), generator=generator_for(seed, f"humanml3d {part}"))
            names = [names[i] for i in order.tolist()]
        clips: list[Clip] = []
        for name in names:
            clips += self.clips(name)
            if size is not None and len(clips) >= size:
                return clips[:size]
        why = "; ".join(left_out_lines(self.left_out)) or "the list is empty"
        found = f"{part}.txt with {len(names)} clips, of which {len(clips)} motions can be used ({why})"
        if not clips:
            raise InvalidValue("root", found=found, expected=_LAYOUT, do="check data.root, min_frames and max_frames")
        require(size is None, f"{part}_size", size, f"at most {len(clips)}: {found}")
        return clips

    def listed(self, part: str) -> list[str]:
        """The names in a list, each once."""
        try:
            lines = (self.root / f"{part}.txt").read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise InvalidValue(
                "root", found=f"{part}.txt: {error}", expected="a list of names, one a line"
            ) from error
        names = dict.fromkeys(name for line in lines if (name := line.strip()))
        return [name for name in names if self.chosen is None or name in self.chosen]

    def units(self, seed: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation, ``(263,)`` each."""
        if not (self._has("Mean.npy") and self._has("Std.npy")):
            # Not of what was drawn: runs on few and on many motions are to be compared.
            before = self.left_out
            self.left_out = {}
            mean_and_std = statistics(clip.vectors for clip in self.part("train", None, seed))
            self.left_out = before
            return mean_and_std
        units: list[Tensor] = []
        for name in ("Mean.npy", "Std.npy"):
            values = _array(self.root / name)
            good = values is not None and values.shape == (SIZE,) and bool(np.isfinite(values).all())
            good = good and values is not None and (name != "Std.npy" or bool((values > 0).all()))
            require(good, "root", str(self.root / name), f"{SIZE} finite numbers, of Std.npy above 0",
                    "remove it, and it is made of train.txt")  # fmt: skip
            units.append(torch.from_numpy(values))
        return units[0], units[1]

    def _actions(self) -> dict[str, str]:
        """The actions by clip, if there is a table of them."""
        path = self.root / "actions.csv"
        if not path.exists():
            return {}
        try:
            with path.open(newline="", encoding="utf-8") as file:
                return {row["clip"]: row["action"] for row in csv.DictReader(file) if row["action"]}
        except (OSError, UnicodeError, csv.Error, KeyError) as error:
            expected = "a CSV with the columns clip and action"
            raise InvalidValue("root", found=f"{path}: {type(error).__name__} {error}", expected=expected) from error

    def clips(self, name: str) -> list[Clip]:
        """The motions of a clip: the whole of it, and the pieces that have captions of their own."""
        try:
            vectors = _vectors(self.root / "new_joint_vecs" / f"{name}.npy")
            captions = _captions(self.root / "texts" / f"{name}.txt")
        except _Unusable as error:
            self._leave_out(str(error), name)
            return []
        action = self.action_names.index(self.actions[name]) if name in self.actions else None
        clips = []
        for number, ((start, end), texts) in enumerate(captions.items()):
            whole = (start, end) == (0.0, 0.0)
            own = vectors if whole else vectors[int(start * FPS) : int(end * FPS)]
            called = name if whole else f"{name}/{number}"
            if (length := self._length(called, len(own))) is not None:
                # Its own memory, so that a piece does not hold the whole.
                clips.append(Clip(called, torch.from_numpy(own[:length].copy()), texts, action))
        return clips

    def _length(self, name: str, frames: int) -> int | None:
        """How much of a motion is used, or None."""
        if frames < self.min_frames:
            self._leave_out(f"shorter than {self.min_frames} frames", name)
            return None
        if frames > self.max_frames + 3 and not self.crop:
            self._leave_out(f"longer than {self.max_frames} frames (crop=true keeps their beginnings)", name)
            return None
        return min(frames // 4 * 4, self.max_frames)

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)


class _Unusable(Exception):
    """A clip that is left out, and why."""


def _vectors(path: Path) -> np.ndarray:
    """``(T, 263)`` float32."""
    if not path.exists():
        raise _Unusable("missing")
    vectors = _array(path)
    if vectors is None:
        raise _Unusable("unreadable")
    if vectors.ndim != 2 or vectors.shape[1] != SIZE:
        raise _Unusable(f"not of shape (T, {SIZE})")
    if not np.isfinite(vectors).all():
        raise _Unusable("NaN or infinite")
    return vectors


def _captions(path: Path) -> dict[tuple[float, float], list[str]]:
    """The captions of each piece, from its start to its end in seconds; of the whole clip both are 0."""
    if not path.exists():
        raise _Unusable("without a file in texts")
    captions: dict[tuple[float, float], list[str]] = {}
    try:
        for caption, piece in _parsed(path.read_text(encoding="utf-8").splitlines()):
            captions.setdefault(piece, []).append(caption)
    except (OSError, ValueError) as error:
        raise _Unusable("with an unreadable file in texts") from error
    if not captions:
        raise _Unusable("without a caption")
    return captions


def _array(path: Path) -> np.ndarray | None:
    """The numbers of a file as float32, or None if it has none."""
    try:
        # What float32 cannot hold is infinite then, and is reported as that.
        with np.errstate(over="ignore"):
            values: np.ndarray = np.load(path, allow_pickle=False).astype(np.float32)
    except Exception:  # whatever a file that is something else leads to
        return None
    return values


def _parsed(lines: list[str]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Caption, and start and end, of each line ``caption#tokens#start#end`` that has a caption."""
    for line in lines:
        caption, _, rest = line.partition("#")
        times = [float(word) for word in rest.split("#")[1:3]] if "#" in rest else []
        start, end = (0.0 if math.isnan(time) else time for time in (*times, 0.0, 0.0)[:2])
        if not 0 <= min(start, end) <= max(start, end) < math.inf:
            raise ValueError(f"a caption from {start} to {end} s")
        if caption := " ".join(caption.split()):
            yield caption, (start, end)
