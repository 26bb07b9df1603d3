"""The folder of an import, in HumanML3D's layout; the same clips and options give the same bytes."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from sc_loops.data.files import writing
from sc_loops.data.motion_set import statistics
from sc_loops.errors import InvalidValue, require
from sc_loops.motion.importing.captions import Labels, mirrored_words, text_file
from sc_loops.motion.importing.conversion import Converted
from sc_loops.randomness import generator_for

PARTS = ("train", "val", "test")
RECORD = "import.json"


@dataclass(frozen=True, eq=False)
class Entry:
    """A motion of the folder: ``clip`` is the path of the one it came from."""

    name: str
    clip: str
    vectors: np.ndarray
    captions: tuple[str, ...]
    action: str


def entries(clips: Sequence[Converted], labels: Mapping[str, Labels]) -> list[Entry]:
    """The motions of the clips: each window, and after it its mirror, whose name starts with M and whose words are
    exchanged as its sides are."""
    found: list[Entry] = []
    taken: set[str] = set()
    stems = _stems([clip.path for clip in clips])
    for clip, stem in zip(clips, stems, strict=True):
        captions, action = labels[clip.path].captions, labels[clip.path].action
        for name, window in zip(_free(stem, len(clip.windows), taken), clip.windows, strict=True):
            found.append(Entry(name, clip.path, window.vectors, captions, action))
            if window.mirror is not None:
                words = tuple(map(mirrored_words, captions))
                found.append(Entry(f"M{name}", clip.path, window.mirror, words, mirrored_words(action)))
    return found


def _stems(paths: Sequence[str]) -> list[str]:
    """The clips' file names without folders and suffix, or with the folders where that would not tell them apart."""
    stems = [PurePosixPath(path).stem for path in paths]
    times = Counter(stem.lower() for stem in stems)
    full = [str(PurePosixPath(path).with_suffix("")).replace("/", "_") for path in paths]
    return [stem if times[stem.lower()] == 1 else whole for stem, whole in zip(stems, full, strict=True)]


def _free(stem: str, windows: int, taken: set[str]) -> list[str]:
    """A name for each window, the stem with a number where it, or its mirror's name, would be one of ``taken``, to
    which they are added. Some disks do not tell capitals from small letters."""
    for attempt in count(1):
        own = stem if attempt == 1 else f"{stem}_{attempt}"
        names = [own] if windows == 1 else [f"{own}_w{number}" for number in range(1, windows + 1)]
        lower = {f"{mirror}{name}".lower() for name in names for mirror in ("", "M")}
        if not lower & taken:
            break
    taken |= lower
    return names


def parts_of(clips: Sequence[str], split: Sequence[float], seed: int) -> dict[str, str]:
    """The part of each clip: shares ``split`` of ``PARTS``, drawn at random. Where there are two clips, one is held
    out and one is trained on."""
    names = sorted(clips)
    order = torch.randperm(len(names), generator=generator_for(seed, "motion-import split")).tolist()
    rest = len(names) - 1  # at least one clip is trained on
    test = min(max(round(split[2] * len(names)), 1), rest)
    val = min(round(split[1] * len(names)), rest - test)
    part = ["test"] * test + ["val"] * val + ["train"] * (len(names) - test - val)
    return {names[position]: own for position, own in zip(order, part, strict=True)}


def require_free(folder: Path, identity: Mapping[str, Any], overwrite: bool) -> None:
    """Refuse a folder that holds anything but an import of this source with these options, or any with ``overwrite``.

    Raises:
        InvalidValue: it does, or nothing can be written there.
    """
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    usable = above.is_dir() and os.access(above, os.W_OK)
    require(usable, "DST", str(folder), f"a place where a folder can be made; {above} is not writable or no folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        record = json.loads((folder / RECORD).read_text())
        before = {key: record[key] for key in identity}
    except (OSError, ValueError, KeyError, TypeError) as error:
        found = f"{str(folder)!r}, which is no import and not empty"
        raise InvalidValue("DST", found=found, expected="a new folder", do="give another DST") from error
    if before != json.loads(json.dumps(identity)) and not overwrite:
        differ = ", ".join(key for key in identity if before[key] != json.loads(json.dumps(identity[key])))
        found = f"{str(folder)!r}, which holds another import ({differ} differ)"
        raise InvalidValue("DST", found=found, expected="a new folder", do="give another DST, or --overwrite")


def write(
    folder: Path,
    motions: Sequence[Entry],
    parts: Mapping[str, str],
    record: dict[str, Any],
    licences: Mapping[str, bytes],
) -> None:
    """Write everything beside ``folder`` and put it in its place when it is whole."""
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("importing", "replaced"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    with writing(folder, sum(motion.vectors.nbytes for motion in motions)):
        terms = ((f"licences/{name}", content) for name, content in licences.items())
        for name, content in chain(_files(motions, parts, record), terms):
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def _files(motions: Sequence[Entry], parts: Mapping[str, str], record: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file."""
    for motion in motions:
        yield f"new_joint_vecs/{motion.name}.npy", _npy(motion.vectors)
        yield f"texts/{motion.name}.txt", text_file(motion.captions).encode()
    for part in PARTS:
        names = [motion.name for motion in motions if parts[motion.clip] == part]
        yield f"{part}.txt", "".join(f"{name}\n" for name in names).encode()
    train = (torch.from_numpy(motion.vectors) for motion in motions if parts[motion.clip] == "train")
    for name, values in zip(("Mean.npy", "Std.npy"), statistics(train), strict=True):
        yield name, _npy(values.numpy())
    if any(motion.action for motion in motions):
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["clip", "action"])
        rows.writerows([motion.name, motion.action] for motion in motions)
        yield "actions.csv", table.getvalue().encode()
    yield RECORD, (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
