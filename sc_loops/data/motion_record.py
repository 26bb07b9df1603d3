"""What a run directory keeps of a data set of motions, so that pictures can be drawn from it alone.

runs/<name>/
    motions.safetensors      mean, std, and by row of the table of captions: first, count, lengths, actions
    captions.json            captions and names of the table
    real_shown.safetensors   the real clips of the captions that previews are sampled under first
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sc_loops.data.files import read_json, read_samples, read_tensors, write_json, write_samples, write_tensors
from sc_loops.data.motions import Motions
from sc_loops.data.real import RealData
from sc_loops.samples import Samples

SHOWN = 16  # real clips


def write_motions(directory: Path, data: RealData) -> None:
    """Write the table of captions of ``data`` and a few of its clips; nothing where it has no motions."""
    motions = data.motions
    if motions is None:
        return
    tensors = {name: getattr(motions, name) for name in ("first", "count", "lengths", "mean", "std")}
    tensors |= {} if motions.actions is None else {"actions": motions.actions}
    write_tensors(directory / "motions.safetensors", tensors)
    lists = {name: list(getattr(motions, name)) for name in ("captions", "names", "action_names")}
    write_json(directory / "captions.json", lists)
    write_samples(directory / "real_shown.safetensors", data.train[:SHOWN])


def read_motions(directory: Path) -> Motions | None:
    """The table that ``write_motions`` wrote, if it did."""
    paths = directory / "motions.safetensors", directory / "captions.json"
    if not all(path.exists() for path in paths):
        return None
    lists: dict[str, Any] = {name: tuple(found) for name, found in read_json(paths[1]).items()}
    tensors: dict[str, Any] = read_tensors(paths[0])
    return Motions(**tensors, **lists)


def read_shown(directory: Path) -> Samples | None:
    """The real clips that ``write_motions`` wrote, if it did."""
    path = directory / "real_shown.safetensors"
    return read_samples(path) if path.exists() else None
